//! Positions.

use std::{fmt, str::FromStr};

/// A position in a server's write-ahead log, in bytes. It means nothing to another server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

/// The text is no position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a position in the write-ahead log is two hex numbers with a slash between, as in 16/B374D848")]
pub struct LsnError;

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let half = |digits: &str| match digits.starts_with('+') {
            true => Err(LsnError),
            false => u32::from_str_radix(digits, 16).map_err(|_| LsnError),
        };
        let (high, low) = text.split_once('/').ok_or(LsnError)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgresql_writes_them() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!((lsn.0, lsn.to_string()), (0x16_b374_d848, "16/B374D848".to_owned()));
        assert_eq!(Lsn::default().to_string(), "0/0");
        for bad in ["", "16", "16/", "/1", "+1/2", "1/100000000", "x/1"] {
            assert_eq!(bad.parse::<Lsn>(), Err(LsnError), "{bad}");
        }
    }
}
