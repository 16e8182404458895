//! The steps of a move, and what holds while each is under way.

use std::fmt;

/// The steps of a move, in their order. The operation's `step` is the one that was begun last; it survives restarts.
///
/// Until [`Switch`](Self::Switch) commits, the tenant lives where it did: what fails opens the old home again, is tried again a few
/// times, and then removed; an operator may pause it or call it off. From there on it lives in the new home, and the move only goes on:
/// to its end, or, where it soaks and an operator wants it, by the steps that begin with `back_` to the old home.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MoveStep {
    /// Looks for what is in the way. The tenant works; nothing was made.
    Preflight,
    /// Makes the new home at the newest version, with a fence that lets nobody in. The tenant works.
    Prepare,
    /// Copies the rows as of one moment, and from then on has the tenant's changes kept for the new home, where they can be told
    /// ([`MovePlan::held_because`](super::MovePlan::held_because)). The tenant works.
    Follow,
    /// Brings what the tenant has written since to the new home, until little is left. The tenant works.
    CatchUp,
    /// Makes what will keep the old home in step with the new one, where a soak is wanted. The tenant works.
    WayBack,
    /// Brings all but the last of the history of its rows, and compares every table on both sides as of one moment, while the tenant works
    /// and its changes are brought on. Where they are not followed, what differs is brought until little is left.
    Compare,
    /// Closes the old home's fence and waits for the transactions that are open. The tenant's new calls wait; at the deadline the fence
    /// opens again and the move is put off.
    Close,
    /// Brings the last changes: those that were told, or those that a comparison of all rows finds; jobs, schedules and the places of sequences.
    /// Both homes are closed.
    Copy,
    /// Compares the rows that were written since [`Compare`](Self::Compare), or every table where they are not known and [`Copy`](Self::Copy)
    /// did not. Both homes are closed.
    Verify,
    /// One transaction on the catalog: the tenant lives in the new home from its commit on. Both homes are closed.
    Switch,
    /// Opens the new home. Calls that waited go there; the old one stays closed.
    Open,
    /// Closes the old home for good and keeps it in step with the new one, as long as was wanted. The tenant works in the new one. Between
    /// two looks the operation is `pending`.
    Soak,
    /// Closes the old home for good and removes it. The tenant works in the new one.
    Remove,
    /// An operator wants the tenant back: lets the old home wait for it, with a fence that lets nobody in at its new epoch. The tenant works
    /// in the new home.
    BackPrepare,
    /// As [`CatchUp`](Self::CatchUp), the other way.
    BackCatchUp,
    /// As [`Compare`](Self::Compare), the other way.
    BackCompare,
    /// As [`Close`](Self::Close): the new home's fence closes.
    BackClose,
    /// As [`Copy`](Self::Copy), the other way.
    BackCopy,
    /// As [`Verify`](Self::Verify), the other way.
    BackVerify,
    /// As [`Switch`](Self::Switch): from its commit on the tenant lives in the old home again.
    BackSwitch,
    /// Opens the old home again. The new one stays closed.
    BackOpen,
    /// Removes the new home. The tenant works in the old one.
    BackRemove,
}

impl MoveStep {
    /// All of them, in their order.
    pub const ALL: [Self; 22] = [
        Self::Preflight,
        Self::Prepare,
        Self::Follow,
        Self::CatchUp,
        Self::WayBack,
        Self::Compare,
        Self::Close,
        Self::Copy,
        Self::Verify,
        Self::Switch,
        Self::Open,
        Self::Soak,
        Self::Remove,
        Self::BackPrepare,
        Self::BackCatchUp,
        Self::BackCompare,
        Self::BackClose,
        Self::BackCopy,
        Self::BackVerify,
        Self::BackSwitch,
        Self::BackOpen,
        Self::BackRemove,
    ];

    /// Those of a move without a soak.
    pub const STRAIGHT: [Self; 12] = [
        Self::Preflight,
        Self::Prepare,
        Self::Follow,
        Self::CatchUp,
        Self::WayBack,
        Self::Compare,
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
            Self::WayBack => "way_back",
            Self::Compare => "compare",
            Self::Close => "close",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Switch => "switch",
            Self::Open => "open",
            Self::Soak => "soak",
            Self::Remove => "remove",
            Self::BackPrepare => "back_prepare",
            Self::BackCatchUp => "back_catch_up",
            Self::BackCompare => "back_compare",
            Self::BackClose => "back_close",
            Self::BackCopy => "back_copy",
            Self::BackVerify => "back_verify",
            Self::BackSwitch => "back_switch",
            Self::BackOpen => "back_open",
            Self::BackRemove => "back_remove",
        }
    }

    /// The step of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }

    /// Whether the tenant's calls wait while this step is under way.
    pub(crate) const fn holds_the_tenant(self) -> bool {
        matches!(
            self,
            Self::Close
                | Self::Copy
                | Self::Verify
                | Self::Switch
                | Self::Open
                | Self::BackClose
                | Self::BackCopy
                | Self::BackVerify
                | Self::BackSwitch
                | Self::BackOpen
        )
    }

    /// The step that does the same on the way back; itself where there is none.
    pub(crate) const fn back(self) -> Self {
        match self {
            Self::Prepare => Self::BackPrepare,
            Self::CatchUp => Self::BackCatchUp,
            Self::Compare => Self::BackCompare,
            Self::Close => Self::BackClose,
            Self::Copy => Self::BackCopy,
            Self::Verify => Self::BackVerify,
            Self::Switch => Self::BackSwitch,
            Self::Open => Self::BackOpen,
            Self::Remove => Self::BackRemove,
            other => other,
        }
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
    "way_back",
    "compare",
    "close",
    "copy",
    "verify",
    "switch",
    "open",
    "soak",
    "remove",
    "back_prepare",
    "back_catch_up",
    "back_compare",
    "back_close",
    "back_copy",
    "back_verify",
    "back_switch",
    "back_open",
    "back_remove",
];

/// The steps at which a move can wait until others of its source are through: its tenant works, and nothing waits to be removed. The empty
/// one is that of a move which nobody has begun.
pub(crate) fn may_wait() -> Vec<&'static str> {
    let early = MoveStep::ALL.into_iter().filter(|step| *step < MoveStep::Close);
    std::iter::once("").chain(early.map(MoveStep::as_str)).collect()
}

/// The steps at which a move is work for the server that its tenant leaves: also when what is left there is removed.
pub(crate) fn work_for_the_source() -> Vec<&'static str> {
    let all = MoveStep::ALL.into_iter();
    let work = all.filter(|step| *step < MoveStep::Soak || *step == MoveStep::Remove);
    std::iter::once("").chain(work.map(MoveStep::as_str)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_steps_are_the_same() {
        assert_eq!(MoveStep::ALL.map(MoveStep::as_str), NAMES);
        assert!(MoveStep::ALL.is_sorted());
        assert!(MoveStep::STRAIGHT.is_sorted());
        assert_eq!(MoveStep::of("switch"), Some(MoveStep::Switch));
    }

    #[test]
    fn a_step_back_says_so() {
        for step in MoveStep::STRAIGHT {
            let back = step.back();
            assert!(back == step || back.as_str() == format!("back_{step}"));
        }
    }
}
