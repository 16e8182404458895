//! The cut-over as `tenantry_ops` does it: what is one step here is one transaction there, or one look.
//!
//! Left out: what only takes time (the copy while the tenant works, the stream), and what has no part in who may write where. One move, two
//! processes that may work on it, two of the application with two writes each. A process may be overtaken at any moment: its lease
//! has run out because it slept, or because a clock jumped.

use super::explore::Model;

/// A mistake that the model has to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wrong {
    /// The new home opens before the catalog has switched.
    OpensBeforeTheSwitch,
    /// Transactions that began before the fence closed are not waited for.
    DoesNotWait,
    /// A process that was overtaken goes on with its connections to the homes.
    TakesNoTurns,
    /// After a failure the old home opens again without a look at the catalog.
    ReopensBlindly,
    /// The look at the catalog shows what it was before the row was waited for, as under repeatable read.
    LooksAtAnOldSnapshot,
    /// An earlier placement is served as long as its fence is open, and the fence never closes.
    NeverCloses,
}

impl Wrong {
    pub(super) const ALL: [Self; 6] = [
        Self::OpensBeforeTheSwitch,
        Self::DoesNotWait,
        Self::TakesNoTurns,
        Self::ReopensBlindly,
        Self::LooksAtAnOldSnapshot,
        Self::NeverCloses,
    ];
}

/// The model, right or with a mistake.
pub(super) struct CutOver {
    pub(super) wrong: Option<Wrong>,
}

/// One of the two homes; also the placement that the catalog names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Home {
    Old,
    New,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Fence {
    Open,
    /// Closed: moving, gone, or not open yet.
    Shut,
}

/// Where a process that works on the move is. Each is what it does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Next {
    /// It does not work on it, or has died.
    Nothing,
    Look,
    TakeOld,
    TakeNew,
    Close,
    Wait,
    Copy,
    Hold,
    Commit,
    TakeNewToOpen,
    Open,
    TakeOldToRemove,
    Remove,
    Finish,
    TakeOldToReopen,
    /// Asks for the tenant's row in the catalog.
    Ask,
    /// Has asked when this was the placement, and gets the row when it is free.
    Get(Home),
    Reopen(Home),
    TakeNewToUndo,
    Undo,
    FinishUndo,
}

/// Who holds the tenant's row in the catalog.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Row {
    Free,
    Of(u8),
    /// A switch whose process does not wait for the answer any more: the catalog commits it or not.
    InFlight,
}

/// How the operation stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Ending {
    None,
    Moved,
    Undone,
}

/// A process of the application.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Process {
    /// Where it believes the tenant to be.
    believes: Home,
    /// The home at which it is in a transaction.
    within: Option<Home>,
    written: u8,
}

/// How many writes each process has.
const WRITES: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    placement: Home,
    ending: Ending,
    lease: Option<u8>,
    row: Row,
    fences: [Fence; 2],
    rows: [u8; 2],
    /// Whose turn it is at each home.
    turns: [Option<u8>; 2],
    movers: [Next; 2],
    processes: [Process; 2],
    acknowledged: u8,
    /// A transaction began at a home that lacked what had been acknowledged.
    saw_the_past: bool,
    /// How often something may still go wrong: a crash, a failure or a lost answer, a lease that is overtaken.
    crashes: u8,
    failures: u8,
    overtakings: u8,
}

impl State {
    fn fence(&self, home: Home) -> Fence {
        self.fences[home as usize]
    }

    fn has_turn(&self, mover: u8, home: Home) -> bool {
        self.turns[home as usize] == Some(mover)
    }

    /// What ends with a process or with its connections: its turns, and a row that it held.
    fn forget(&mut self, mover: u8) {
        for turn in &mut self.turns {
            if *turn == Some(mover) {
                *turn = None;
            }
        }
        if self.row == Row::Of(mover) {
            self.row = Row::Free;
        }
        self.movers[mover as usize] = Next::Nothing;
    }
}

impl Model for CutOver {
    type State = State;

    fn initial(&self) -> State {
        let process = Process {
            believes: Home::Old,
            within: None,
            written: 0,
        };
        State {
            placement: Home::Old,
            ending: Ending::None,
            lease: None,
            row: Row::Free,
            fences: [Fence::Open, Fence::Shut],
            rows: [0, 0],
            turns: [None, None],
            movers: [Next::Nothing; 2],
            processes: [process; 2],
            acknowledged: 0,
            saw_the_past: false,
            crashes: 1,
            failures: 1,
            overtakings: 1,
        }
    }

    fn steps(&self, state: &State, into: &mut Vec<(String, State)>) {
        for process in 0..2 {
            self.process(state, process, into);
        }
        for mover in 0..2_u8 {
            self.claim(state, mover, into);
            self.advance(state, mover, into);
            if state.crashes > 0 && state.movers[mover as usize] != Next::Nothing {
                let mut after = *state;
                after.crashes -= 1;
                if state.movers[mover as usize] == Next::Commit {
                    after.row = Row::InFlight;
                }
                after.forget(mover);
                into.push((format!("mover {mover} dies"), after));
            }
        }
        if state.row == Row::InFlight {
            let mut after = *state;
            after.row = Row::Free;
            into.push(("the catalog ends the switch without it".to_owned(), after));
            after.placement = Home::New;
            into.push(("the catalog commits the switch".to_owned(), after));
        }
    }

    fn wrong(&self, state: &State) -> Option<&'static str> {
        let held = state.rows[state.placement as usize];
        if state.fences == [Fence::Open, Fence::Open] {
            Some("two homes are open")
        } else if state.acknowledged & !held != 0 {
            Some("an acknowledged write is lost")
        } else if state.saw_the_past {
            Some("a transaction sees the past of another home")
        } else {
            None
        }
    }

    /// The move has ended one way or the other, and the tenant is served where the catalog says.
    fn is_goal(&self, state: &State) -> bool {
        let home = match state.ending {
            Ending::None => return false,
            Ending::Moved => Home::New,
            Ending::Undone => Home::Old,
        };
        state.placement == home && state.fence(home) == Fence::Open
    }
}

impl CutOver {
    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    fn process(&self, state: &State, number: usize, into: &mut Vec<(String, State)>) {
        let process = state.processes[number];
        let mut after = *state;
        match process.within {
            Some(home) => {
                let write = 1 << (number as u8 * WRITES + process.written);
                after.rows[home as usize] |= write;
                after.acknowledged |= write;
                after.processes[number].written += 1;
                after.processes[number].within = None;
                into.push((format!("process {number} commits at its {home:?} home"), after));
                let mut undone = *state;
                undone.processes[number].within = None;
                into.push((format!("process {number} rolls back"), undone));
            }
            None if state.fence(process.believes) == Fence::Shut && process.believes != state.placement => {
                after.processes[number].believes = state.placement;
                into.push((format!("process {number} is refused and looks the tenant up"), after));
            }
            None if state.fence(process.believes) == Fence::Open && process.written < WRITES => {
                after.processes[number].within = Some(process.believes);
                after.saw_the_past |= state.acknowledged & !state.rows[process.believes as usize] != 0;
                into.push((
                    format!("process {number} begins at its {:?} home", process.believes),
                    after,
                ));
            }
            None => {}
        }
    }

    /// A runner takes the operation when nobody works on it, or when the lease of whoever does has run out.
    fn claim(&self, state: &State, mover: u8, into: &mut Vec<(String, State)>) {
        // Whoever holds the tenant's row holds the operation's, which is then passed over.
        let is_free = state.row == Row::Free;
        if state.ending != Ending::None || state.movers[mover as usize] != Next::Nothing || !is_free {
            return;
        }
        let mut after = *state;
        let alive = state
            .lease
            .is_some_and(|holder| holder != mover && state.movers[holder as usize] != Next::Nothing);
        if alive {
            if state.overtakings == 0 {
                return;
            }
            after.overtakings -= 1;
        }
        after.lease = Some(mover);
        after.movers[mover as usize] = Next::Look;
        into.push((format!("mover {mover} takes the operation"), after));
    }

    fn advance(&self, state: &State, mover: u8, into: &mut Vec<(String, State)>) {
        let next = state.movers[mover as usize];
        if next == Next::Nothing {
            return;
        }
        let name = format!("mover {mover}: {next:?}");
        if let Some(after) = self.done(state, mover, next) {
            into.push((name.clone(), after));
        }
        // Before the switch, whatever fails leads to the old home being opened again.
        let may_fail = matches!(
            next,
            Next::TakeNew | Next::Close | Next::Wait | Next::Copy | Next::Hold | Next::Commit
        );
        if may_fail && state.failures > 0 {
            let mut after = *state;
            after.failures -= 1;
            after.movers[mover as usize] = Next::TakeOldToReopen;
            if next == Next::Commit {
                after.row = Row::InFlight;
                into.push((format!("{name}, and the answer is lost"), after));
            } else {
                into.push((format!("{name} fails"), after));
            }
        }
    }

    /// What the next step makes of the state; `None`, where it has to wait.
    fn done(&self, state: &State, mover: u8, next: Next) -> Option<State> {
        let mut after = *state;
        let go = |after: &mut State, next| after.movers[mover as usize] = next;
        let has_lease = state.lease == Some(mover);
        match next {
            Next::Nothing => return None,
            Next::Look => {
                let towards = match state.placement {
                    Home::Old => Next::TakeOld,
                    Home::New => Next::TakeNewToOpen,
                };
                go(&mut after, towards);
            }
            Next::TakeOld => self.take(&mut after, mover, Home::Old, Next::TakeNew),
            Next::TakeNew => self.take(&mut after, mover, Home::New, Next::Close),
            Next::TakeNewToOpen => self.take(&mut after, mover, Home::New, Next::Open),
            Next::TakeOldToRemove => self.take(&mut after, mover, Home::Old, Next::Remove),
            Next::TakeOldToReopen => self.take(&mut after, mover, Home::Old, Next::Ask),
            Next::TakeNewToUndo => self.take(&mut after, mover, Home::New, Next::Undo),
            Next::Close => {
                if self.may_work(state, mover, Home::Old, &mut after) {
                    if !self.is(Wrong::NeverCloses) {
                        after.fences[Home::Old as usize] = Fence::Shut;
                    }
                    go(&mut after, Next::Wait);
                }
            }
            Next::Wait => {
                if self.may_work(state, mover, Home::Old, &mut after) {
                    let busy = state.processes.iter().any(|process| process.within == Some(Home::Old));
                    if busy && !self.is(Wrong::DoesNotWait) && !self.is(Wrong::NeverCloses) {
                        return None;
                    }
                    go(&mut after, Next::Copy);
                }
            }
            Next::Copy => {
                if self.may_work(state, mover, Home::Old, &mut after)
                    && self.may_work(state, mover, Home::New, &mut after)
                {
                    after.rows[Home::New as usize] = state.rows[Home::Old as usize];
                    if self.is(Wrong::OpensBeforeTheSwitch) {
                        after.fences[Home::New as usize] = Fence::Open;
                    }
                    go(&mut after, Next::Hold);
                }
            }
            Next::Hold => match (state.row, has_lease) {
                (Row::Free, true) if self.is_as_left(state, mover) => {
                    after.row = Row::Of(mover);
                    go(&mut after, Next::Commit);
                }
                (Row::Free, true) => go(&mut after, Next::TakeOldToReopen),
                (Row::Free, false) => after.forget(mover),
                _ => return None,
            },
            Next::Commit => {
                after.row = Row::Free;
                match state.placement {
                    Home::Old => {
                        after.placement = Home::New;
                        go(&mut after, Next::TakeNewToOpen);
                    }
                    Home::New => go(&mut after, Next::Look),
                }
            }
            Next::Open => {
                if self.may_work(state, mover, Home::New, &mut after) {
                    after.fences[Home::New as usize] = Fence::Open;
                    go(&mut after, Next::TakeOldToRemove);
                }
            }
            Next::Remove => {
                if self.may_work(state, mover, Home::Old, &mut after) {
                    after.fences[Home::Old as usize] = Fence::Shut;
                    after.rows[Home::Old as usize] = 0;
                    go(&mut after, Next::Finish);
                }
            }
            Next::Ask => go(&mut after, Next::Get(state.placement)),
            Next::Get(asked_at) => match (state.row, has_lease) {
                (Row::Free, true) => {
                    after.row = Row::Of(mover);
                    let seen = match self.is(Wrong::LooksAtAnOldSnapshot) {
                        true => asked_at,
                        false => state.placement,
                    };
                    go(&mut after, Next::Reopen(seen));
                }
                (Row::Free, false) => after.forget(mover),
                _ => return None,
            },
            Next::Reopen(seen) => {
                if self.may_work(state, mover, Home::Old, &mut after) {
                    after.row = Row::Free;
                    let stays = seen == Home::Old || self.is(Wrong::ReopensBlindly);
                    if stays {
                        after.fences[Home::Old as usize] = Fence::Open;
                    }
                    // The tries are used up, or it looks again where the tenant is.
                    let used_up = stays && state.failures == 0 && state.overtakings == 0;
                    go(&mut after, if used_up { Next::TakeNewToUndo } else { Next::Look });
                }
            }
            Next::Undo => {
                if self.may_work(state, mover, Home::New, &mut after) {
                    after.rows[Home::New as usize] = 0;
                    go(&mut after, Next::FinishUndo);
                }
            }
            Next::Finish | Next::FinishUndo => {
                if state.row != Row::Free {
                    return None;
                }
                after.forget(mover);
                if has_lease {
                    after.lease = None;
                    after.ending = match next {
                        Next::Finish => Ending::Moved,
                        _ => Ending::Undone,
                    };
                }
            }
        }
        Some(after)
    }

    /// Ends the session of whoever had the turn, and then looks whether it is still its own to take.
    fn take(&self, after: &mut State, mover: u8, home: Home, next: Next) {
        after.turns[home as usize] = Some(mover);
        match after.lease == Some(mover) {
            true => after.movers[mover as usize] = next,
            false => after.forget(mover),
        }
    }

    /// Whether its session at a home is there; without it, the try ends, and the lease is given back.
    fn may_work(&self, state: &State, mover: u8, home: Home, after: &mut State) -> bool {
        if state.has_turn(mover, home) || self.is(Wrong::TakesNoTurns) {
            return true;
        }
        after.forget(mover);
        false
    }

    /// Both fences are as the move has left them.
    fn is_as_left(&self, state: &State, mover: u8) -> bool {
        let sessions = state.has_turn(mover, Home::Old) && state.has_turn(mover, Home::New);
        let shut = state.fences == [Fence::Shut, Fence::Shut];
        (sessions || self.is(Wrong::TakesNoTurns))
            && (shut || self.is(Wrong::OpensBeforeTheSwitch) || self.is(Wrong::NeverCloses))
    }
}
