//! Statements that take long are told, with their text and without what they are about.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use crate::{Caller, counts};

/// A longer text is cut: what is slow is known by its beginning.
const TEXT_LEN_MAX: usize = 2000;

/// Tells of a statement that took longer than it should.
pub(crate) fn note(caller: &Caller, limit: Duration, begun: Instant, sql: &str, failed: bool) {
    let took = begun.elapsed();
    if took >= limit {
        tell(caller, took, sql, failed);
    }
}

#[cold]
fn tell(caller: &Caller, took: Duration, sql: &str, failed: bool) {
    counts::slow_statement();
    let statement = without_literals(sql);
    let duration_ms = took.as_secs_f64() * 1000.0;
    tracing::warn!(tenant.id = %caller.tenant, duration_ms, failed, statement, "a slow statement");
}

/// The text of a statement with `?` for each literal, and without comments: whoever writes a value into a statement instead of
/// giving it as a parameter does not want it in a log. Where it can't be read on (a quote that does not end), it ends.
pub(crate) fn without_literals(sql: &str) -> String {
    let bytes = sql.as_bytes();
    let mut text = String::with_capacity(sql.len().min(TEXT_LEN_MAX));
    let mut at = 0;
    while at < bytes.len() && text.len() < TEXT_LEN_MAX {
        let rest = &sql[at..];
        let before = text.as_bytes().last().copied();
        let in_word = before.is_some_and(is_word);
        at += match bytes[at] {
            b'\'' => {
                // What stands before a quote may say how backslashes count; reading them as escapes at worst takes too much.
                let escapes = before.is_some_and(|byte| byte.eq_ignore_ascii_case(&b'e'));
                text.push('?');
                quoted(rest, escapes)
            }
            b'"' => {
                let end = rest[1..].find('"').map(|end| end + 2);
                text.push_str(end.map_or("\"", |end| &rest[..end]));
                end.unwrap_or(rest.len())
            }
            b'$' if !in_word && dollar_quote(rest).is_some() => {
                text.push('?');
                dollar_quote(rest).unwrap_or(rest.len())
            }
            b'-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => comment(rest),
            b'0'..=b'9' if !in_word && before != Some(b'$') => {
                text.push('?');
                number(rest)
            }
            byte if byte.is_ascii_whitespace() => {
                if before.is_some_and(|before| before != b' ') {
                    text.push(' ');
                }
                1
            }
            _ => {
                let letter = rest.chars().next().unwrap_or(' ');
                text.push(letter);
                letter.len_utf8()
            }
        };
    }
    if at < bytes.len() {
        let _ = write!(text, "… ({} bytes)", sql.len());
    }
    text.truncate(text.trim_end().len());
    text
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of a literal in single quotes.
fn quoted(rest: &str, escapes: bool) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a literal between dollars, if one begins here; a parameter is none.
fn dollar_quote(rest: &str) -> Option<usize> {
    let tag_end = rest[1..].find('$')? + 2;
    let tag = &rest[..tag_end];
    let name = &tag[1..tag_end - 1];
    if name.starts_with(|letter: char| letter.is_ascii_digit()) || !name.bytes().all(is_word) {
        return None;
    }
    Some(
        rest[tag_end..]
            .find(tag)
            .map_or(rest.len(), |end| tag_end + end + tag_end),
    )
}

/// The length of a comment, with those inside of it.
fn comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut at, mut depth) = (2, 1);
    while at < bytes.len() && depth > 0 {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"*/" => (at, depth) = (at + 2, depth - 1),
            b"/*" => (at, depth) = (at + 2, depth + 1),
            _ => at += 1,
        }
    }
    at
}

fn number(rest: &str) -> usize {
    rest.bytes()
        .position(|byte| !is_word(byte) && byte != b'.')
        .unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_left_out() {
        for (sql, shown) in [
            ("select 1", "select ?"),
            (
                "select a1 from t2 where b = $1 and c = $12",
                "select a1 from t2 where b = $1 and c = $12",
            ),
            ("select 'it''s' || E'a\\'b' || 'c'", "select ? || E? || ?"),
            ("select $$secret$$, $tag$ $$ secret $tag$, x", "select ?, ?, x"),
            ("select 1 -- secret\n  from t", "select ? from t"),
            ("select /* a /* secret */ b */ c", "select c"),
            ("select \"Col 1\" where x=1.5e3", "select \"Col 1\" where x=?"),
            ("select 'unterminated secret", "select ?"),
            ("select $$unterminated secret", "select ?"),
            ("select U&'secret'", "select U&?"),
            ("select 'über', straße", "select ?, straße"),
            ("select x'1f', 0xff", "select x?, ?"),
        ] {
            assert_eq!(without_literals(sql), shown, "{sql}");
        }
    }

    #[test]
    fn whatever_it_is_given_it_ends_and_shows_no_quoted_text() {
        let pieces = [
            "'", "\\", "$", "$a$", "\"", "--", "/*", "*/", "\n", "secret", "E'", "é", " ", "1",
        ];
        // Each sequence of four.
        for n in 0..pieces.len().pow(4) {
            let sql: String = (0..4)
                .map(|place| pieces[n / pieces.len().pow(place) % pieces.len()])
                .collect();
            let _ = without_literals(&sql);
            let quoted = format!("select '{}'", sql.replace('\'', "''").replace('\\', ""));
            assert_eq!(without_literals(&quoted), "select ?", "{quoted}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let shown = without_literals(&format!("select {}", "a, ".repeat(2000)));
        assert!(
            shown.len() < TEXT_LEN_MAX + 40 && shown.ends_with("(6007 bytes)"),
            "{shown}"
        );
    }
}
