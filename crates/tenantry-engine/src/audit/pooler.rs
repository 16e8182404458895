//! The configuration of a PgBouncer between the application and the database.

use super::Finding;

/// What is wrong in a `pgbouncer.ini`.
pub fn find(file: &str, text: &str) -> Vec<Finding> {
    let settings: Vec<(String, String, usize)> = text
        .lines()
        .enumerate()
        .filter_map(|(number, line)| {
            let line = line.trim();
            let (name, value) = line.split_once('=')?;
            (!line.starts_with([';', '#'])).then(|| (name.trim().to_lowercase(), value.trim().to_owned(), number + 1))
        })
        .collect();
    let value = |name: &str| {
        settings
            .iter()
            .rev()
            .find(|(other, ..)| other == name)
            .map(|(_, value, _)| value.as_str())
    };
    let object = |name: &str| match settings.iter().rev().find(|(other, ..)| other == name) {
        Some((.., line)) => format!("{file}:{line}"),
        None => file.to_owned(),
    };
    let mode = value("pool_mode").unwrap_or("session").to_lowercase();
    let mut found = Vec::new();
    if mode == "session"
        && value("server_reset_query").is_some_and(|query| !query.to_lowercase().contains("discard all"))
    {
        found.push(Finding::new(
            "MT109",
            object("server_reset_query"),
            "the next client gets the session with what the one before left in it",
            "server_reset_query = DISCARD ALL",
        ));
    }
    if mode == "statement" {
        found.push(Finding::new(
            "MT109",
            object("pool_mode"),
            "a context can't outlive a statement, so it is set on one server connection and used on another",
            "pool_mode = transaction",
        ));
    }
    if mode == "transaction" && value("server_reset_query_always") != Some("1") {
        found.push(Finding::new(
            "MT109",
            object("server_reset_query_always"),
            "in transaction mode settings, temporary tables and prepared statements of one tenant wait for the next one",
            "server_reset_query_always = 1",
        ));
    }
    if value("auth_type").is_some_and(|auth| matches!(auth, "any" | "trust" | "plain" | "md5")) {
        found.push(Finding::new(
            "MT109",
            object("auth_type"),
            format!("clients are let in by {}", value("auth_type").unwrap_or_default()),
            "auth_type = scram-sha-256",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_sessions_meet_is_found_with_its_line() {
        let found = find(
            "p.ini",
            "[pgbouncer]\npool_mode = transaction\nauth_type = trust\n; auth_type = plain\n",
        );
        let objects: Vec<&str> = found.iter().map(|finding| finding.object.as_str()).collect();
        assert_eq!(objects, ["p.ini", "p.ini:3"]);
        assert_eq!(find("p.ini", "pool_mode = statement").len(), 1);
        assert_eq!(find("p.ini", "server_reset_query = select 1").len(), 1);
        let right = "pool_mode = transaction\nserver_reset_query_always = 1\nauth_type = scram-sha-256\n";
        assert!(find("p.ini", right).is_empty());
        assert!(find("p.ini", "").is_empty());
    }
}
