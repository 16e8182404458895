//! A script cut into its statements.

use crate::admit::past_block_comment;

/// The statements of a script, without the semicolons between them and without empty ones.
///
/// A convenience and no defence: each statement is checked by itself and sent in a message that PostgreSQL takes one
/// statement in. A script that is cut in the wrong place (a string with escapes that goes on after a line break) is a
/// syntax error.
///
/// ```
/// let cut: Vec<_> = tenantry_wire::statements("select ';'; /* ; */ select $$;$$;").collect();
/// assert_eq!(cut, ["select ';'", "/* ; */ select $$;$$"]);
/// ```
pub fn statements(script: &str) -> impl Iterator<Item = &str> {
    let mut rest = script;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let end = end_of_statement(rest);
            let statement = rest[..end].trim();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !is_blank(statement) {
                return Some(statement);
            }
        }
    })
}

/// Where the first semicolon stands that is in no string, name or comment.
fn end_of_statement(sql: &str) -> usize {
    let bytes = sql.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        at = match bytes[at] {
            b';' => return at,
            b'\'' => past_string(bytes, at, is_escaped(bytes, at)),
            b'"' => past(sql, at + 1, "\""),
            b'$' if at == 0 || !is_word(bytes[at - 1]) => past_dollar_quote(sql, at),
            b'-' if bytes.get(at + 1) == Some(&b'-') => past_line(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => sql.len() - past_block_comment(&sql[at..]).len(),
            _ => at + 1,
        };
    }
    bytes.len()
}

/// `E'…'`, where a backslash takes the next character's meaning.
fn is_escaped(bytes: &[u8], quote: usize) -> bool {
    quote > 0 && matches!(bytes[quote - 1], b'e' | b'E') && (quote == 1 || !is_word(bytes[quote - 2]))
}

fn past_string(bytes: &[u8], quote: usize, escaped: bool) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escaped => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn past_line(bytes: &[u8], start: usize) -> usize {
    let end = bytes[start..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    end.map_or(bytes.len(), |length| start + length)
}

fn past_dollar_quote(sql: &str, start: usize) -> usize {
    let tag = &sql.as_bytes()[start + 1..];
    let length = tag.iter().position(|&byte| !is_word(byte)).unwrap_or(tag.len());
    let is_quote = tag.get(length) == Some(&b'$') && !tag.first().is_some_and(u8::is_ascii_digit);
    if !is_quote {
        return start + 1;
    }
    let opened = start + length + 2;
    past(sql, opened, &sql[start..opened])
}

/// Past the next `end`, or past everything.
fn past(sql: &str, from: usize, end: &str) -> usize {
    sql[from..].find(end).map_or(sql.len(), |at| from + at + end.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Only comments and blanks.
fn is_blank(statement: &str) -> bool {
    let mut rest = statement;
    loop {
        rest = rest.trim_start();
        if rest.starts_with("--") {
            rest = &rest[past_line(rest.as_bytes(), 0)..];
        } else if rest.starts_with("/*") {
            rest = past_block_comment(rest);
        } else {
            return rest.is_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_inside_of_things_do_not_cut() {
        for whole in [
            "select 'a;b'",
            "select 'it''s; one'",
            r"select E'it\'s; one'",
            "select \"a;b\"",
            "select $$a;b$$",
            "select $x$a;$$;b$x$",
            "select 1 -- a;b\n + 1",
            "select 1 /* a;/* b; */; */ + 1",
            "select 'ä;', $ä$;$ä$",
        ] {
            assert_eq!(statements(whole).collect::<Vec<_>>(), [whole]);
        }
    }

    #[test]
    fn a_script_is_cut_at_its_semicolons() {
        let cut: Vec<_> = statements(" select a$1;;select 'x\\'; -- none;\n/* ; */;select 2 ").collect();
        assert_eq!(cut, ["select a$1", "select 'x\\'", "select 2"]);
        assert_eq!(statements(" ; -- x").count(), 0);
    }

    #[test]
    fn what_is_never_closed_is_one_statement() {
        for torn in [
            "select 'a; b",
            "select \"a; b",
            "select $$a; b",
            "/* a; b",
            r"select E'a;\",
            "select $a; b",
        ] {
            assert!(statements(torn).count() <= 2, "{torn}");
        }
    }
}
