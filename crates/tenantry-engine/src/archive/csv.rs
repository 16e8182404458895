//! Rows as CSV (RFC 4180), for people: null is empty, an empty text is `""`.

use super::{copy_text, manifest::Column};

/// The line with the columns' names.
pub(super) fn header(columns: &[Column]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, column) in columns.iter().enumerate() {
        separate(number, &mut out);
        quote(column.name.as_bytes(), &mut out);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// A row of COPY's text format as a line of CSV.
pub(super) fn row(line: &[u8], out: &mut Vec<u8>) {
    for (number, field) in copy_text::fields(line).enumerate() {
        separate(number, out);
        if let Some(plain) = copy_text::unescape(field) {
            quote(&plain, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn separate(number: usize, out: &mut Vec<u8>) {
    if number > 0 {
        out.push(b',');
    }
}

fn quote(plain: &[u8], out: &mut Vec<u8>) {
    let bare = !plain.is_empty()
        && !plain
            .iter()
            .any(|byte| matches!(byte, b'"' | b',' | b'\r' | b'\n' | b' '));
    if bare {
        out.extend_from_slice(plain);
        return;
    }
    out.push(b'"');
    for byte in plain {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    #[test]
    fn null_and_the_empty_text_differ_and_quotes_are_doubled() {
        let mut out = Vec::new();
        super::row(b"1\t\\N\t\ta \"b\", c\\nd\n", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "1,,\"\",\"a \"\"b\"\", c\nd\"\r\n");
    }
}
