//! `postmaster.pid`: PostgreSQL's own note of who serves a data folder and how far it is.

use std::fs;
use std::path::Path;

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) pid: i32,
    pub(crate) ready: bool,
}

pub(crate) fn read(data_dir: &Path) -> Option<PidFile> {
    parse(&fs::read_to_string(data_dir.join("postmaster.pid")).ok()?)
}

/// Line 1 is the process, line 8 its state (as `pg_ctl` reads it).
fn parse(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    Some(PidFile {
        pid,
        ready: lines.nth(6).is_some_and(|state| state.trim() == "ready"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_in_the_eighth_line() {
        let text = |state: &str| format!("123\n/data\n1700000000\n5432\n/tmp\n127.0.0.1\n  1 2\n{state}\n");
        assert_eq!(parse(&text("ready   ")), Some(PidFile { pid: 123, ready: true }));
        assert_eq!(parse(&text("starting")), Some(PidFile { pid: 123, ready: false }));
        assert_eq!(parse("123\n"), Some(PidFile { pid: 123, ready: false }));
        assert_eq!(parse(""), None);
        assert_eq!(parse("garbage\n"), None);
    }
}
