//! What A observes of a step, and the published normaliser.
//!
//! Every byte up to ReadyForQuery counts: row descriptions, rows, tags, every field of errors and notices,
//! notifications, parameter status, the state of the transaction. Taken out: the order of rows and notices of statements
//! without ORDER BY, the backend in a notification, the name of the database, which the worlds can't share, and what a backend tells at
//! `debug2` of its own memory (that it makes room for rows of a system catalog).

const REHASHING: &[u8] = b"rehashing catalog cache id";

/// Brings the messages of one step into the form that is compared.
pub(super) fn normalise(unit: &[u8], ordered: bool, database: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(unit.len());
    let mut rows = Vec::new();
    // Where the rows of the statement that runs begin.
    let (mut rows_before, mut plain_before) = (0, 0);
    for message in messages(unit) {
        match message[0] {
            b'N' if message.windows(REHASHING.len()).any(|window| window == REHASHING) => {}
            b'D' | b'N' | b'd' if !ordered => rows.push(message.to_vec()),
            b'E' => {
                rows.truncate(rows_before);
                plain.truncate(plain_before);
                plain.extend_from_slice(message);
            }
            b'C' => {
                plain.extend_from_slice(message);
                (rows_before, plain_before) = (rows.len(), plain.len());
            }
            b'A' => plain.extend_from_slice(&message[9..]),
            _ => plain.extend_from_slice(message),
        }
    }
    rows.sort_unstable();
    plain.extend(rows.into_iter().flatten());
    without(plain, database.as_bytes())
}

fn without(bytes: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if !bytes.windows(name.len()).any(|window| window == name) {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(name) {
            out.extend_from_slice(b"<database>");
            at += name.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

pub(super) fn messages(mut unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = unit.get(1..5)?;
        let length = 1 + u32::from_be_bytes(length.try_into().ok()?) as usize;
        let (message, rest) = unit.split_at_checked(length)?;
        unit = rest;
        Some(message)
    })
}

/// Whether the server refused the step.
pub(super) fn is_refused(unit: &[u8]) -> bool {
    messages(unit).any(|message| message[0] == b'E')
}

/// Whether it was the mechanism that refused the step: it does so where there is a row to decide on.
pub(super) fn is_refused_by_us(unit: &[u8]) -> bool {
    messages(unit).any(|message| message[0] == b'E' && message.windows(10).any(|window| window == b"tenantry: "))
}

/// Whether a row came that holds something.
pub(super) fn shows_a_row(unit: &[u8]) -> bool {
    messages(unit).any(|message| message[0] == b'D')
}

/// The first column of the first row.
pub(super) fn first_value(unit: &[u8]) -> Option<String> {
    let row = messages(unit).find(|message| message[0] == b'D')?;
    let length = i32::from_be_bytes(row.get(7..11)?.try_into().ok()?);
    let end = 11 + usize::try_from(length).ok()?;
    Some(String::from_utf8_lossy(row.get(11..end)?).into_owned())
}

/// For people: rows as `(a, b)`, errors and notices by their fields.
pub(super) fn pretty(unit: &[u8]) -> String {
    let mut out = Vec::new();
    for message in messages(unit) {
        let body = &message[5..];
        match message[0] {
            b'D' => out.push(row(body)),
            b'C' => out.push(text(body)),
            b'E' => out.push(format!("ERROR {}", fields(body))),
            b'N' => out.push(format!("NOTICE {}", fields(body))),
            b'S' => out.push(format!("PARAMETER {}", text(body))),
            b'A' => out.push(format!("NOTIFICATION {}", text(body))),
            b'd' => out.push(format!("COPY {}", text(body))),
            b'Z' if body != b"I" => out.push(format!("[{}]", text(body))),
            _ => {}
        }
    }
    out.join("; ")
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .trim_end_matches(['\0', '\n'])
        .replace('\0', " ")
}

fn fields(body: &[u8]) -> String {
    let kept = body.split(|byte| *byte == 0).filter_map(|field| {
        let (kind, value) = field.split_first()?;
        // Severity twice, place in the source and position say little to a reader.
        (!b"VSFLRP".contains(kind)).then(|| format!("{}={}", *kind as char, String::from_utf8_lossy(value)))
    });
    kept.collect::<Vec<_>>().join(" ")
}

fn row(body: &[u8]) -> String {
    let mut values = Vec::new();
    let mut at = 2;
    while let Some(length) = body.get(at..at + 4) {
        at += 4;
        let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
        match usize::try_from(length) {
            Ok(length) => {
                values.push(String::from_utf8_lossy(body.get(at..at + length).unwrap_or_default()).into_owned());
                at += length;
            }
            Err(_) => values.push("null".to_owned()),
        }
    }
    format!("({})", values.join(", "))
}
