//! The end of the server's log, for error messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// As much as fits a terminal and still holds the reason.
const LINES: usize = 12;
const BYTES: u64 = 8 * 1024;

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else {
        return "(there is no log)".to_owned();
    };
    let length = file.metadata().map_or(0, |meta| meta.len());
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(BYTES)));
    let _ = file.take(BYTES).read_to_end(&mut bytes);
    last_lines(&String::from_utf8_lossy(&bytes))
}

/// What was written to the log after its first `start` bytes.
pub(crate) fn since(path: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.seek(SeekFrom::Start(start));
        let _ = file.take(16 * BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of a text that are not empty.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
