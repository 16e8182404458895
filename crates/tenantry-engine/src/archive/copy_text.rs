//! COPY's text format: lines, fields and what is escaped in them.

/// Cuts what comes in chunks into whole lines.
///
/// The server sends a row a message, but the protocol does not promise it.
#[derive(Clone, Default, Debug)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Gives each line that is whole now, with its line end.
    pub(super) fn feed<E>(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut chunk = chunk;
        if !self.rest.is_empty() {
            let Some(end) = chunk.iter().position(|byte| *byte == b'\n') else {
                self.rest.extend_from_slice(chunk);
                return Ok(());
            };
            self.rest.extend_from_slice(&chunk[..=end]);
            each(&self.rest)?;
            self.rest.clear();
            chunk = &chunk[end + 1..];
        }
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            each(&chunk[..=end])?;
            chunk = &chunk[end + 1..];
        }
        self.rest.extend_from_slice(chunk);
        Ok(())
    }

    /// Whether all that came were whole lines.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

/// The fields of a line, still escaped; none of a table without columns.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.strip_suffix(b"\n").unwrap_or(line).split(|byte| *byte == b'\t')
}

/// What a field stands for: `None` for null.
pub(super) fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 0x0b,
                Some(other) => *other,
                None => b'\\',
            },
            byte => *byte,
        });
    }
    Some(plain)
}

/// Writes a value as a field.
pub(super) fn escape(plain: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(plain) = plain else {
        out.extend_from_slice(b"\\N");
        return;
    };
    for byte in plain {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0b => out.extend_from_slice(b"\\v"),
            0x0c => out.extend_from_slice(b"\\f"),
            byte => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_chunks_end() {
        let text = b"1\tone\n2\ttwo\n\n3\tthree\n";
        for size in 1..text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for chunk in text.chunks(size) {
                let fed: Result<(), ()> = lines.feed(chunk, |line| {
                    found.push(line.to_vec());
                    Ok(())
                });
                fed.unwrap();
            }
            assert!(lines.is_whole());
            assert_eq!(found, [&b"1\tone\n"[..], b"2\ttwo\n", b"\n", b"3\tthree\n"], "{size}");
        }
    }

    #[test]
    fn what_is_escaped_comes_back() {
        for plain in [&b""[..], b"a\tb\nc\rd\\e\x08\x0b\x0c", b"\\N", "käse".as_bytes()] {
            let mut field = Vec::new();
            escape(Some(plain), &mut field);
            assert_eq!(unescape(&field).as_deref(), Some(plain));
            assert!(!field.contains(&b'\t') && !field.contains(&b'\n'));
        }
        let mut null = Vec::new();
        escape(None, &mut null);
        assert_eq!(unescape(&null), None);
    }
}
