//! Positions in a server's write-ahead log.

/// A page of the log, and the header that each but a file's first begins with.
const PAGE: u64 = 8192;
const PAGE_HEADER: u64 = 24;

/// Where the log ends, from where the next record is put (`pg_current_wal_insert_lsn()`).
///
/// A primary whose last record filled its page says that the next one begins behind the next page's header. A standby says that it
/// has replayed up to the page, and would not be known to be there before something else is written. (No record ends behind a
/// page's header. Behind the longer one of a file's first page one may, so that is left as it is: reads go to the primary
/// until it has written something, which it does within seconds.)
pub fn end_of_log(next: u64) -> u64 {
    match next % PAGE {
        PAGE_HEADER => next - PAGE_HEADER,
        _ => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_header_is_the_end_of_the_page_before() {
        assert_eq!(end_of_log(3 * PAGE + 24), 3 * PAGE);
        assert_eq!(end_of_log(3 * PAGE + 40), 3 * PAGE + 40);
        assert_eq!(end_of_log(3 * PAGE), 3 * PAGE);
    }
}
