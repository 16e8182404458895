//! Header comments of a migration: `-- tenantry: …` lines before the first statement.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a file holds and where its statements run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Statements that define tables and what stands around them. The default.
    Schema,
    /// Data, once for each tenant in its context.
    EachTenant,
    /// Data, once for each placement over all its tenants.
    AllTenants,
    /// Data, once for each tenant, and for every tenant provisioned later.
    Seed,
}

/// The declarations of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the file holds.
    pub mode: Mode,
    /// Whether the file's tables are reference tables.
    pub reference: Reference,
    /// Whether the file runs in one transaction.
    pub transaction: bool,
    /// How long its statements wait for a lock, in the place of what the installation says.
    pub lock_timeout: Option<Duration>,
    /// How long one of its statements may run; without, as long as it takes.
    pub statement_timeout: Option<Duration>,
    /// The seed that this one replaces for tenants to come, by version.
    pub instead_of: Option<i64>,
    /// Of one tenant's own file: the fleet's migration that it was written on top of.
    pub after: Option<i64>,
    /// Names of functions, views and tables that are let through although they are refused by default.
    pub allowed: Vec<String>,
    /// Tables that ask for a history of their rows, or ask for none any more.
    pub history: Vec<HistoryOf>,
}

/// A table's wish about the history of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryOf {
    /// The table.
    pub table: String,
    /// Whether changes are noted from now on.
    pub kept: bool,
    /// The line that says so.
    pub line: u32,
}

/// Which new tables of a file are reference tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// None: every table holds tenants' rows.
    None,
    /// All of them.
    All,
    /// The named ones.
    Named(Vec<String>),
}

impl Reference {
    /// Whether the table of this name is declared a reference table.
    #[must_use]
    pub fn covers(&self, table: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == table),
        }
    }

    /// One more declaration of them. Without names all are meant, whatever else is named.
    fn add(&mut self, names: Vec<String>) {
        match self {
            _ if names.is_empty() => *self = Self::All,
            Self::None => *self = Self::Named(names),
            Self::Named(known) => known.extend(names),
            Self::All => {}
        }
    }
}

impl Header {
    /// Reads the declarations above the first statement.
    ///
    /// # Errors
    ///
    /// The line and the sentence, where a declaration is not known or contradicts another one.
    pub fn parse(text: &str) -> Result<Self, (u32, String)> {
        let mut header = Self {
            mode: Mode::Schema,
            reference: Reference::None,
            transaction: true,
            lock_timeout: None,
            statement_timeout: None,
            instead_of: None,
            after: None,
            allowed: Vec::new(),
            history: Vec::new(),
        };
        for (number, line) in (1_u32..).zip(text.lines()) {
            let line = line.trim();
            let Some(comment) = line.strip_prefix("--") else {
                if line.is_empty() {
                    continue;
                }
                break;
            };
            let Some(declaration) = comment.trim().strip_prefix("tenantry:") else {
                continue;
            };
            header
                .declare(declaration.trim(), number)
                .map_err(|sentence| (number, sentence))?;
        }
        if header.mode != Mode::Schema && header.reference != Reference::None {
            return Err((
                1,
                "a file is either `reference` or holds tenants' data, not both".into(),
            ));
        }
        if let Some(history) = header.history.first().filter(|_| header.mode != Mode::Schema) {
            return Err((
                history.line,
                "a table asks for its history in a file that defines tables, not in one that holds tenants' data"
                    .into(),
            ));
        }
        Ok(header)
    }

    fn declare(&mut self, declaration: &str, line: u32) -> Result<(), String> {
        let mode = match declaration {
            "each tenant" => Some(Mode::EachTenant),
            "all tenants" => Some(Mode::AllTenants),
            "seed" => Some(Mode::Seed),
            _ => None,
        };
        if let Some(mode) = mode {
            if self.mode != Mode::Schema {
                return Err(format!("`{declaration}` contradicts an earlier declaration"));
            }
            self.mode = mode;
        } else if let Some(version) = declaration.strip_prefix("seed instead of ") {
            let version = version.trim().parse();
            self.instead_of =
                Some(version.map_err(|_| format!("`{declaration}`: write the number of the replaced file"))?);
            self.mode = Mode::Seed;
        } else if let Some(version) = declaration.strip_prefix("after ") {
            let version = version.trim().parse();
            self.after =
                Some(version.map_err(|_| format!("`{declaration}`: write the number of the fleet's migration"))?);
        } else if declaration == "no transaction" {
            self.transaction = false;
        } else if let Some(time) = declaration.strip_prefix("lock timeout ") {
            self.lock_timeout = Some(time_of(declaration, time)?);
        } else if let Some(time) = declaration.strip_prefix("statement timeout ") {
            self.statement_timeout = Some(time_of(declaration, time)?);
        } else if let Some(names) = reference_names(declaration) {
            self.reference.add(names);
        } else if let Some((names, kept)) = wish_for_history(declaration) {
            self.history
                .extend(names_of(names).into_iter().map(|table| HistoryOf { table, kept, line }));
        } else if let Some(names) = declaration.strip_prefix("allow ") {
            self.allowed.extend(names_of(names));
        } else {
            return Err(format!(
                "`-- tenantry: {declaration}` is not known; known are `reference [tables]`, `each tenant`, \
                 `all tenants`, `seed`, `seed instead of <number>`, \
                 `no transaction`, `lock timeout <time>`, `statement timeout <time>`, `history <tables>`, \
                 `no history <tables>` and `allow <names>`"
            ));
        }
        Ok(())
    }
}

/// The tables of `reference …`; none where all are meant.
fn reference_names(declaration: &str) -> Option<Vec<String>> {
    let names = declaration.strip_prefix("reference")?;
    (names.is_empty() || names.starts_with(char::is_whitespace)).then(|| names_of(names))
}

/// The tables of `history …` and `no history …`, and which of the two it is.
fn wish_for_history(declaration: &str) -> Option<(&str, bool)> {
    match declaration.strip_prefix("no history ") {
        Some(names) => Some((names, false)),
        None => declaration.strip_prefix("history ").map(|names| (names, true)),
    }
}

/// A time in the units of PostgreSQL's settings. Its bounds are theirs too, without zero, which would be no bound.
fn time_of(declaration: &str, text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_ms: Option<u64> = match unit.trim() {
        "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok();
    let ms = number.zip(unit_ms).and_then(|(number, unit)| number.checked_mul(unit));
    ms.filter(|ms| (1..=u64::from(i32::MAX.unsigned_abs())).contains(ms))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{declaration}`: write a time like `500ms`, `5s` or `5min`"))
}

/// Names separated by commas or spaces.
fn names_of(text: &str) -> Vec<String> {
    text.split([',', ' '])
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_declarations_defines_isolated_tables_in_a_transaction() {
        let header = Header::parse("-- contacts\ncreate table contacts ();").expect("parses");
        assert_eq!(header.mode, Mode::Schema);
        assert_eq!(header.reference, Reference::None);
        assert!(header.transaction);
    }

    #[test]
    fn declarations_are_read_above_the_first_statement_only() {
        let header = Header::parse("-- tenantry: reference a, b\n\nselect 1;\n-- tenantry: seed\n").expect("parses");
        assert!(header.reference.covers("a") && header.reference.covers("b"));
        assert!(!header.reference.covers("c"));
        assert_eq!(header.mode, Mode::Schema);
    }

    #[test]
    fn declarations_of_reference_tables_add_up() {
        let reference = |text: &str| Header::parse(text).expect("parses").reference;
        let named = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(
            reference("-- tenantry: reference a\n-- tenantry: reference b, c\n"),
            Reference::Named(named)
        );
        assert_eq!(
            reference("-- tenantry: reference\n-- tenantry: reference a\n"),
            Reference::All
        );
        // No table named `s`.
        let (line, sentence) = Header::parse("-- tenantry: references a\n").unwrap_err();
        assert_eq!(line, 1);
        assert!(sentence.contains("references a"), "{sentence}");
    }

    #[test]
    fn tables_ask_for_their_history_where_they_are_defined() {
        let header = Header::parse("-- tenantry: history a, b\n-- tenantry: no history c\n").expect("parses");
        let wishes: Vec<_> = header
            .history
            .iter()
            .map(|of| (of.table.as_str(), of.kept, of.line))
            .collect();
        assert_eq!(wishes, [("a", true, 1), ("b", true, 1), ("c", false, 2)]);
        let (line, _) = Header::parse("-- tenantry: seed\n-- tenantry: history a\n").unwrap_err();
        assert_eq!(line, 2);
    }

    #[test]
    fn time_outs_are_written_as_postgresql_writes_them() {
        let header = Header::parse("-- tenantry: lock timeout 500ms\n-- tenantry: statement timeout 5 min\n");
        let header = header.expect("parses");
        assert_eq!(header.lock_timeout, Some(Duration::from_millis(500)));
        assert_eq!(header.statement_timeout, Some(Duration::from_secs(300)));
        for wrong in [
            "0ms",
            "0",
            "5",
            "min",
            "-1s",
            "5 minutes",
            "99999999999h",
            "600h",
            "1.5s",
        ] {
            let (line, sentence) = Header::parse(&format!("--\n-- tenantry: lock timeout {wrong}\n")).unwrap_err();
            assert_eq!(line, 2, "{wrong}");
            assert!(sentence.contains("500ms"), "{sentence}");
        }
    }

    #[test]
    fn an_unknown_declaration_names_its_line() {
        let (line, sentence) = Header::parse("--\n-- tenantry: every tenant\n").unwrap_err();
        assert_eq!(line, 2);
        assert!(sentence.contains("every tenant"));
    }
}
