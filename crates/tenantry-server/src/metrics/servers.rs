//! How this process stands with each server and each replica.
//!
//! Written here and not recorded: the recorder would show for ever a server that was removed, a replica that was silent when it was
//! taken off the list, and whatever was among those with series of their own once.

use std::{collections::HashSet, fmt::Write as _};

use tenantry::{ReplicaStatus, ServerStatus};
use tenantry_core::ServerId;

use super::OTHER;

/// Servers with series of their own, and as many replicas.
const SERVERS_MAX: usize = 50;
/// What is shown of a replica that gives no answer.
const SILENT: f64 = -1.0;

/// The lines about servers and replicas.
pub(crate) fn servers(servers: &[(ServerId, ServerStatus)], replicas: &[ReplicaStatus]) -> String {
    let listed: HashSet<ServerId> = replicas.iter().map(|replica| replica.id).collect();
    // The pools keep a replica's connections as they do a server's.
    let (branches, mut primaries): (Vec<_>, Vec<_>) = servers.iter().copied().partition(|(id, _)| listed.contains(id));
    // First those without a share, of which an alert tells; then by connections, and by id among equals.
    primaries.sort_unstable_by_key(|(id, status)| (status.share > 0, std::cmp::Reverse(status.open), *id));
    let mut replicas = replicas.to_vec();
    // First those that are silent, for the same reason.
    replicas.sort_unstable_by_key(|replica| (!is_silent(replica), replica.id));

    let of_servers = |figure: fn(&ServerStatus) -> usize| -> Vec<(ServerId, f64)> {
        let figures = primaries.iter().map(|(id, status)| (*id, figure(status) as f64));
        figures.collect()
    };
    let open = |id: ServerId| {
        let found = branches.iter().find(|(branch, _)| *branch == id);
        found.map_or(0, |(_, status)| status.open) as f64
    };
    let mut text = String::new();
    write_gauge(
        &mut text,
        ("tenantry_server_share", "server"),
        "Connections to a server that this process may have.",
        &of_servers(|status| status.share),
        |rest| rest.iter().sum(),
    );
    write_gauge(
        &mut text,
        ("tenantry_server_connections", "server"),
        "Connections to a server that this process has.",
        &of_servers(|status| status.open),
        |rest| rest.iter().sum(),
    );
    write_gauge(
        &mut text,
        ("tenantry_replica_connections", "replica"),
        "Connections to a replica that this process has.",
        &replicas
            .iter()
            .map(|replica| (replica.id, open(replica.id)))
            .collect::<Vec<_>>(),
        |rest| rest.iter().sum(),
    );
    write_gauge(
        &mut text,
        ("tenantry_replica_lag_seconds", "replica"),
        "How old what a replica shows is at most; -1 where it gives no answer, NaN while nobody reads there.",
        &replicas
            .iter()
            .map(|replica| (replica.id, lag(replica)))
            .collect::<Vec<_>>(),
        // That of which nothing is known is passed by.
        |rest| rest.iter().copied().fold(0.0, f64::max),
    );
    text
}

/// One gauge: the first have series of their own, of the others one figure is made.
fn write_gauge(
    text: &mut String,
    (name, label): (&str, &str),
    help: &str,
    figures: &[(ServerId, f64)],
    other: fn(&[f64]) -> f64,
) {
    let (own, rest) = figures.split_at(figures.len().min(SERVERS_MAX));
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (id, figure) in own {
        let _ = writeln!(text, "{name}{{{label}=\"{id}\"}} {figure}");
    }
    let rest: Vec<f64> = rest.iter().map(|(_, figure)| *figure).collect();
    let _ = writeln!(text, "{name}{{{label}=\"{OTHER}\"}} {}", other(&rest));
}

fn is_silent(replica: &ReplicaStatus) -> bool {
    replica.asked && replica.lag.is_none()
}

fn lag(replica: &ReplicaStatus) -> f64 {
    match replica.lag {
        Some(lag) => lag.as_secs_f64(),
        None if replica.asked => SILENT,
        None => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn id(n: usize) -> ServerId {
        ServerId::from_uuid(Uuid::from_u128(n as u128))
    }

    fn replica(n: usize, lag: Option<Duration>) -> ReplicaStatus {
        ReplicaStatus {
            id: id(n),
            asked: true,
            lag,
            read_from: None,
        }
    }

    fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        text.lines()
            .filter(|line| line.starts_with(&format!("{name}{{")))
            .collect()
    }

    #[test]
    fn the_number_of_series_is_bounded_and_nothing_is_lost_of_the_sum() {
        let many: Vec<_> = (0..200)
            .map(|n| {
                let status = ServerStatus {
                    share: 3,
                    open: n,
                    waiting: 0,
                };
                (id(n), status)
            })
            .collect();
        let text = servers(&many, &[]);
        let shown = lines(&text, "tenantry_server_connections");
        assert_eq!(shown.len(), SERVERS_MAX + 1);
        let sum: usize = shown
            .iter()
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .unwrap_or_default()
                    .parse::<usize>()
                    .expect("a number")
            })
            .sum();
        assert_eq!(sum, (0..200).sum::<usize>());
        // One without a share is told of however few connections it has.
        let mut with_none = many;
        with_none[0].1.share = 0;
        let without = format!("tenantry_server_share{{server=\"{}\"}} 0", id(0));
        assert!(servers(&with_none, &[]).lines().any(|line| line == without));
    }

    #[test]
    fn what_is_listed_no_more_is_shown_no_more() {
        let status = ServerStatus {
            share: 3,
            open: 2,
            waiting: 0,
        };
        let (primary, branch) = ((id(1), status), (id(2), status));
        let text = servers(&[primary, branch], &[replica(2, None)]);
        assert_eq!(
            lines(&text, "tenantry_replica_lag_seconds")[0],
            format!("tenantry_replica_lag_seconds{{replica=\"{}\"}} -1", id(2))
        );
        assert_eq!(
            lines(&text, "tenantry_server_share").len(),
            2,
            "a replica is no server: {text}"
        );
        assert_eq!(
            lines(&text, "tenantry_replica_connections")[0],
            format!("tenantry_replica_connections{{replica=\"{}\"}} 2", id(2))
        );
        let text = servers(&[primary], &[]);
        assert!(!text.contains(&id(2).to_string()), "{text}");
    }

    #[test]
    fn a_silent_replica_is_shown_of_however_many() {
        let mut many: Vec<_> = (0..100).map(|n| replica(n, Some(Duration::from_secs(7)))).collect();
        many[99].lag = None;
        let text = servers(&[], &many);
        let shown = lines(&text, "tenantry_replica_lag_seconds");
        assert_eq!(shown.len(), SERVERS_MAX + 1);
        assert!(
            shown[0].contains(&id(99).to_string()) && shown[0].ends_with(" -1"),
            "{shown:?}"
        );
        assert_eq!(shown[SERVERS_MAX], "tenantry_replica_lag_seconds{replica=\"other\"} 7");
    }
}
