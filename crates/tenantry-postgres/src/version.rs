//! Which PostgreSQL a folder of binaries holds.

use std::fmt;

/// The oldest major version that has what the isolation rests on (security-invoker views, `grant set on parameter`).
pub const OLDEST_MAJOR: u32 = 15;

/// A version of PostgreSQL, as `postgres --version` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 15 in 15.6.
    pub major: u32,
    /// 6 in 15.6; 0 for a beta.
    pub minor: u32,
}

impl Version {
    /// Reads `postgres (PostgreSQL) 15.6 (Debian 15.6-0+deb12u1)`, also `18beta1` and `17devel`.
    pub(crate) fn parse(output: &str) -> Option<Self> {
        let number = output.split(") ").nth(1)?.split_whitespace().next()?;
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let major = number[..digits].parse().ok()?;
        let rest = number[digits..]
            .strip_prefix('.')
            .and_then(|rest| rest.split('.').next());
        let minor = rest.and_then(|rest| rest.parse().ok()).unwrap_or(0);
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_distributions_and_betas_are_read() {
        let parsed = |text| Version::parse(text).map(|v| (v.major, v.minor));
        assert_eq!(
            parsed("postgres (PostgreSQL) 15.6 (Debian 15.6-0+deb12u1)\n"),
            Some((15, 6))
        );
        assert_eq!(parsed("postgres (PostgreSQL) 18.4"), Some((18, 4)));
        assert_eq!(parsed("postgres (PostgreSQL) 9.6.24"), Some((9, 6)));
        assert_eq!(parsed("postgres (PostgreSQL) 19beta2"), Some((19, 0)));
        assert_eq!(parsed("postgres (PostgreSQL) 17devel"), Some((17, 0)));
        assert_eq!(parsed("mysqld 8.0"), None);
        assert_eq!(parsed(""), None);
    }
}
