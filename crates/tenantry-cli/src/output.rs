//! What a command answers: text and tables for people, one JSON document for programs.
//!
//! Answers go to stdout, everything else (progress, warnings, errors, logs) to stderr, so that an answer can be piped.

use std::io::{IsTerminal, Write};

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

/// An answer that knows both of its forms. The JSON form is its serialisation.
pub(crate) trait Answer: Serialize {
    /// The form for people.
    fn text(&self) -> String;
}

/// How this run answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints the answer.
    ///
    /// # Errors
    ///
    /// When stdout can't be written, on a full disk for example.
    pub(crate) fn answer(self, answer: &impl Answer) -> anyhow::Result<()> {
        let text = if self.json {
            serde_json::to_string_pretty(answer)?
        } else {
            answer.text()
        };
        self.text(&text)
    }

    /// Prints a text as it is.
    ///
    /// # Errors
    ///
    /// As [`Self::answer`].
    #[expect(clippy::unused_self, reason = "all output goes through one value")]
    pub(crate) fn text(self, text: &str) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
            // Whoever reads has seen enough, as `head` does.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    /// Whether a person watches, so that progress and questions make sense.
    pub(crate) fn is_watched(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

/// A list, in the form that the HTTP interface's lists have.
#[derive(Serialize)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
}

/// A sentence that says what was done, and its JSON.
pub(crate) struct Done {
    pub(crate) text: String,
    pub(crate) json: serde_json::Value,
}

impl Serialize for Done {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl Answer for Done {
    fn text(&self) -> String {
        self.text.clone()
    }
}

/// What stands below a list that was cut: how to see the rest.
pub(crate) fn more(next_cursor: Option<&str>) -> String {
    next_cursor.map_or_else(String::new, |cursor| {
        format!("\nthere are more: --after {cursor} goes on, a larger --limit shows more at once")
    })
}

/// A time as people read it, in UTC.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

/// A line below the headings, and no other.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The greeting of `dev`, with its log-ins and passwords, takes 72 columns.
const COLUMNS_MIN: u16 = 72;

/// A table with these headings and rows; "none" where there are no rows.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    let arrangement = arrangement(table.width());
    table.set_content_arrangement(arrangement);
    table.set_header(headings);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell)));
    }
    if table.is_empty() {
        "none".to_owned()
    } else {
        table.to_string()
    }
}

/// Long cells are broken where the terminal is wide enough to read what comes of it. On a narrower one, or one that does
/// not know its width and says 0, each row stays a line: what is in it can be copied.
fn arrangement(terminal_columns: Option<u16>) -> ContentArrangement {
    if terminal_columns.is_some_and(|columns| columns < COLUMNS_MIN) {
        ContentArrangement::Disabled
    } else {
        ContentArrangement::Dynamic
    }
}

/// A thing's fields below each other.
pub(crate) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<_> = fields.into_iter().collect();
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields
        .iter()
        .map(|(name, value)| format!("{name:width$}  {}\n", printable(value)))
        .collect()
}

/// Values come from tenants; an escape sequence in a name must not reach the operator's terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_headings_and_rows() {
        let shown = table(["slug", "state"], [["acme".to_owned(), "active".to_owned()]]);
        assert!(
            shown.contains("slug") && shown.contains("acme") && shown.contains("active"),
            "{shown}"
        );
        assert_eq!(table(["slug"], []), "none");
    }

    #[test]
    fn a_narrow_terminal_breaks_no_word() {
        for narrow in [0, 40, COLUMNS_MIN - 1] {
            assert!(matches!(arrangement(Some(narrow)), ContentArrangement::Disabled));
        }
        for wide in [Some(80), None] {
            assert!(matches!(arrangement(wide), ContentArrangement::Dynamic));
        }
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        let shown = fields([("name", "\u{1b}[2Jgone".to_owned())]);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
