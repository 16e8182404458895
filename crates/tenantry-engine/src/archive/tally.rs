//! Counting rows as they pass: how many, how long, and checksums.

use sha2::{Digest as _, Sha256};

/// What passed, in rows of COPY's text format.
///
/// Two tallies are the same rows where [`rows`](Self::rows) and [`checksum`](Self::checksum) are the same, in whatever order they came.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many rows.
    pub rows: u64,
    /// How many bytes, line ends included.
    pub bytes: u64,
    /// The sum, modulo 2^128, of the first 16 bytes of each line's SHA-256.
    sum: u128,
    /// Of all bytes in their order.
    whole: Sha256,
}

impl Tally {
    /// Counts one row, with its line end.
    pub fn add(&mut self, line: &[u8]) {
        let digest = Sha256::digest(line);
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        self.rows += 1;
        self.bytes += line.len() as u64;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
        self.whole.update(line);
    }

    /// The checksum that does not depend on the order of rows, in hex.
    pub fn checksum(&self) -> String {
        format!("{:032x}", self.sum)
    }

    /// SHA-256 of all rows in the order in which they passed, in hex.
    pub fn sha256(&self) -> String {
        hex::encode(self.whole.clone().finalize())
    }

    /// Whether the same rows passed, in whatever order.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.rows, self.bytes, self.sum) == (other.rows, other.bytes, other.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.add(line.as_bytes());
        }
        tally
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_everything_else_does() {
        let tally = of(&["1\ta\n", "2\tb\n"]);
        assert!(tally.is_same(&of(&["2\tb\n", "1\ta\n"])));
        assert_ne!(tally.sha256(), of(&["2\tb\n", "1\ta\n"]).sha256());
        for other in [
            &["1\ta\n"][..],
            &["1\tb\n", "2\ta\n"],
            &["1\ta\n", "2\tb\n", "2\tb\n"],
            &["1\ta\n", "1\ta\n"],
        ] {
            assert!(!tally.is_same(&of(other)), "{other:?}");
        }
    }
}
