//! Where a job stands.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// It is due.
    Waiting,
    /// A worker has it.
    Running,
    /// It failed for good, or too often.
    Dead,
    /// It is not due yet.
    Later,
}

/// The text names no state of a job.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job's state is one of waiting, running, dead, later")]
pub struct UnknownJobState;

impl JobState {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Running, Self::Dead, Self::Later];

    /// The word used in routes, commands and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Dead => "dead",
            Self::Later => "later",
        }
    }

    /// The number that tenant databases store.
    pub const fn number(self) -> i16 {
        match self {
            Self::Waiting => 0,
            Self::Running => 1,
            Self::Dead => 2,
            Self::Later => 3,
        }
    }

    /// The state of a number that a tenant database stores.
    pub fn of_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = UnknownJobState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownJobState)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_lead_back() {
        for state in JobState::ALL {
            assert_eq!(JobState::of_number(state.number()), Some(state));
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!(JobState::of_number(4), None);
        assert_eq!("gone".parse::<JobState>(), Err(UnknownJobState));
    }
}
