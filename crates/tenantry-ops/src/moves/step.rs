//! The steps of a move, and what holds while each is under way.

use std::fmt;

/// The steps of a move, in their order. The operation's `step` is the one that was begun last; it survives restarts.
///
/// Until [`Switch`](Self::Switch) commits, the tenant lives where it did: what fails opens the old home again, is tried again a few
/// times, and then removed. From there on it lives in the new home, and the move only goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MoveStep {
    /// Looks for what is in the way. The tenant works; nothing was made.
    Preflight,
    /// Makes the new home at the newest version, with a fence that lets nobody in. The tenant works.
    Prepare,
    /// Copies the rows as of one moment, and from then on has the tenant's changes kept for the new home. The tenant works. Nothing is
    /// done where the copy has to wait for the closed fence ([`MovePlan::held_because`](super::MovePlan::held_because)).
    Follow,
    /// Brings what the tenant has written since to the new home, until little is left. The tenant works.
    CatchUp,
    /// Closes the old home's fence and waits for the transactions that are open. The tenant's new calls wait; at the deadline the fence
    /// opens again and the move is put off.
    Close,
    /// Brings the last changes, or all rows where nothing was copied yet; jobs, schedules and the places of sequences. Both homes are closed.
    Copy,
    /// Compares every table on both sides. Both homes are closed.
    Verify,
    /// One transaction on the catalog: the tenant lives in the new home from its commit on. Both homes are closed.
    Switch,
    /// Opens the new home. Calls that waited go there; the old one stays closed.
    Open,
    /// Closes the old home for good and removes it. The tenant works in the new one.
    Remove,
}

impl MoveStep {
    /// All of them, in their order.
    pub const ALL: [Self; 10] = [
        Self::Preflight,
        Self::Prepare,
        Self::Follow,
        Self::CatchUp,
        Self::Close,
        Self::Copy,
        Self::Verify,
        Self::Switch,
        Self::Open,
        Self::Remove,
    ];

    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Prepare => "prepare",
            Self::Follow => "follow",
            Self::CatchUp => "catch_up",
            Self::Close => "close",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Switch => "switch",
            Self::Open => "open",
            Self::Remove => "remove",
        }
    }

    /// The step of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

impl fmt::Display for MoveStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names, in their order.
pub(crate) const NAMES: &[&str] = &[
    "preflight",
    "prepare",
    "follow",
    "catch_up",
    "close",
    "copy",
    "verify",
    "switch",
    "open",
    "remove",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_steps_are_the_same() {
        assert_eq!(MoveStep::ALL.map(MoveStep::as_str), NAMES);
        assert!(MoveStep::ALL.is_sorted());
        assert_eq!(MoveStep::of("switch"), Some(MoveStep::Switch));
    }
}
