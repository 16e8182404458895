//! What a refusal means, and whether it is worth beginning again.

use std::time::{Duration, Instant};

use tenantry_core::TenantDatabaseId;

use super::{Caller, Pools};
use crate::{Error, LocateError, counts, member::Lease, waiting::Turn};

/// How often a call begins again whose session was ended: SQL may end its own, and is not to cost many connections.
const ENDED_MAX: u32 = 2;

impl Pools {
    /// After a failure at the beginning of something: `Ok` when it is worth beginning again.
    pub(crate) async fn reconsider(
        &self,
        error: Error,
        lease: impl Into<Option<Lease>>,
        caller: &Caller,
        patience: &mut Patience,
    ) -> Result<(), Error> {
        let verdict = heed(error, lease.into(), patience)?;
        self.settle(verdict, caller, patience).await;
        Ok(())
    }

    /// The same for a call that is nobody's: the way into the database is looked up again. No tenant's move is waited for.
    pub(crate) async fn reconsider_entrance(
        &self,
        error: Error,
        lease: Lease,
        database: TenantDatabaseId,
        patience: &mut Patience,
    ) -> Result<(), Error> {
        let verdict = heed(error, Some(lease), patience)?;
        if !verdict.is_about_session() {
            self.shared.placements.forget_entrance(database).await;
        }
        Ok(())
    }

    /// Lets the placement be looked up again, and waits where that is all there is to do.
    pub(crate) async fn settle(&self, verdict: Verdict, caller: &Caller, patience: &mut Patience) {
        if verdict.is_about_session() {
            return;
        }
        self.shared.placements.invalidate(caller.tenant).await;
        let waiting = &self.shared.waiting;
        // Where others wait already, they know why the fence is closed.
        let fenced_again = verdict == Verdict::Fenced
            && (std::mem::replace(&mut patience.fenced, true) || waiting.has_some(caller.tenant));
        if verdict == Verdict::Moving || fenced_again {
            if verdict == Verdict::Moving && !waiting.knows(caller.tenant) {
                self.go_ahead(caller.tenant);
            }
            let _kept = waiting.kept(caller.tenant);
            patience.refuse();
            let longest = patience.move_wait.saturating_sub(patience.since.elapsed());
            patience.turn = Some(waiting.turn(caller.tenant, longest).await);
        }
    }

    /// Whether the failure is about where the tenant is, or how the session is bound, and not about the statement.
    pub(crate) fn is_about_place(&self, error: &Error) -> bool {
        matches!(error, Error::Statement(error) if verdict(error) != Verdict::Final)
    }

    /// What a failure of a statement from outside means: that its fence closed, or what it says. It is not ours to wonder at.
    pub(crate) fn conclude_raw(&self, error: Error) -> Error {
        match error {
            Error::Statement(error) if verdict(&error) == Verdict::Fenced => {
                counts::refused(Verdict::Fenced);
                Error::Moving
            }
            error => error,
        }
    }

    /// What a failure means in the middle of something that had to have ended by `until`: from then on its connection is closed,
    /// whatever goes on.
    pub(crate) fn conclude_by(&self, until: Instant, error: Error, lease: &mut Lease) -> Error {
        match may_be_cut(&error) && Instant::now() >= until {
            true => Error::TransactionTimeout(self.shared.config.transaction_timeout),
            false => self.conclude(error, lease),
        }
    }

    /// What a failure in the middle of something means; it can't be repeated.
    pub(crate) fn conclude(&self, error: Error, lease: &mut Lease) -> Error {
        let Error::Statement(error) = error else { return error };
        let verdict = verdict(&error);
        if verdict.is_about_session() || verdict == Verdict::Rejected {
            if verdict != Verdict::Ended {
                tracing::error!(error = %error, "a session was not as it was left; its connection is closed");
            }
            lease.taint();
        }
        meaning(error)
    }
}

/// What a failure at the beginning of something means, where it is worth beginning again. The connection is free then: nobody waits
/// while holding one.
fn heed(error: Error, mut lease: Option<Lease>, patience: &mut Patience) -> Result<Verdict, Error> {
    let Error::Statement(error) = error else {
        return Err(error);
    };
    let verdict = verdict(&error);
    if let Some(lease) = &mut lease {
        if verdict.is_about_session() || (verdict == Verdict::Rejected && patience.looked_up) {
            lease.taint();
        }
        if verdict == Verdict::Fenced {
            lease.unbind();
        }
    }
    weigh(verdict, error, patience)?;
    Ok(verdict)
}

/// Whether a failure is one that comes of a connection's being ended from outside: what ran was stopped, or nothing more came.
pub(crate) fn may_be_cut(error: &Error) -> bool {
    matches!(error, Error::Statement(error) if error.database().is_none_or(|error| error.code() == "57014"))
}

/// `Ok` when it is worth beginning again.
pub(crate) fn weigh(verdict: Verdict, error: tenantry_wire::Error, patience: &mut Patience) -> Result<(), Error> {
    counts::refused(verdict);
    match verdict {
        Verdict::Final => return Err(Error::Statement(error)),
        Verdict::Suspended => return Err(Error::Locate(LocateError::Suspended)),
        Verdict::NotBound | Verdict::Tampered => {
            tracing::error!(error = %error, "a session was not as it was left; its connection is closed");
            if std::mem::replace(&mut patience.replaced, true) {
                return Err(if verdict == Verdict::NotBound {
                    Error::Context(error)
                } else {
                    Error::Statement(error)
                });
            }
        }
        Verdict::Ended if patience.ended >= ENDED_MAX => return Err(Error::Statement(error)),
        Verdict::Ended => patience.ended += 1,
        Verdict::Rejected if patience.looked_up => return Err(Error::Context(error)),
        Verdict::Elsewhere if patience.looked_up => return Err(Error::Moving),
        Verdict::Moving | Verdict::Fenced if patience.since.elapsed() > patience.move_wait => {
            patience.refuse();
            return Err(Error::Moving);
        }
        Verdict::Elsewhere | Verdict::Rejected => patience.looked_up = true,
        Verdict::Fenced | Verdict::Moving => {}
    }
    Ok(())
}

/// What a failure in the middle of something means; it can't be repeated.
pub(crate) fn meaning(error: tenantry_wire::Error) -> Error {
    let verdict = verdict(&error);
    counts::refused(verdict);
    match verdict {
        Verdict::Final | Verdict::Tampered | Verdict::Ended => Error::Statement(error),
        Verdict::Suspended => Error::Locate(LocateError::Suspended),
        Verdict::NotBound | Verdict::Rejected => Error::Context(error),
        Verdict::Fenced | Verdict::Elsewhere | Verdict::Moving => Error::Moving,
    }
}

/// What a caller has been through already.
pub(crate) struct Patience {
    since: Instant,
    /// How long a move may take.
    move_wait: Duration,
    /// The placement was looked up again.
    looked_up: bool,
    /// Another connection was taken.
    replaced: bool,
    /// How often the session was ended under it.
    ended: u32,
    /// The binding was made again, after which `enter` says why the fence is closed.
    fenced: bool,
    /// It waited for a move and asks whether that has ended. Dropped with the call that was served, it tells the others.
    turn: Option<Turn>,
}

impl Patience {
    /// With a statement that is no part of a transaction.
    pub(crate) fn of(sql: &str, move_wait: Duration) -> Self {
        match tenantry_wire::may_commit(sql) {
            true => Self::committing(move_wait),
            false => Self::new(move_wait),
        }
    }

    /// With what may have been committed when its session is ended, and so is not begun again then.
    pub(crate) fn committing(move_wait: Duration) -> Self {
        Self {
            ended: ENDED_MAX,
            ..Self::new(move_wait)
        }
    }

    pub(crate) fn new(move_wait: Duration) -> Self {
        Self {
            since: Instant::now(),
            move_wait,
            looked_up: false,
            replaced: false,
            ended: 0,
            fenced: false,
            turn: None,
        }
    }

    /// It was told to wait on.
    fn refuse(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.refuse();
        }
    }
}

/// What an error says about the tenant's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing.
    Final,
    /// The placement is out of date.
    Elsewhere,
    /// The tenant is moving.
    Moving,
    /// The tenant is suspended.
    Suspended,
    /// The compiled fence closed on a bound session; `enter` will say why.
    Fenced,
    /// The token was not accepted, maybe because keys rotated.
    Rejected,
    /// The session is not bound as expected.
    NotBound,
    /// A setting of the session, which we never set, was the cause: SQL has changed it.
    Tampered,
    /// An administrator ended the session before what was asked took effect.
    Ended,
}

impl Verdict {
    /// Whether the session can't be used on.
    pub(crate) fn is_about_session(self) -> bool {
        matches!(self, Self::NotBound | Self::Tampered | Self::Ended)
    }
}

pub(crate) fn verdict(error: &tenantry_wire::Error) -> Verdict {
    let Some(error) = error.database() else {
        return Verdict::Final;
    };
    match error.code() {
        "TN001" => Verdict::Elsewhere,
        "TN002" => Verdict::Suspended,
        "TN003" => Verdict::Moving,
        "28000" if error.message().starts_with("tenantry: ") => Verdict::Rejected,
        "22P02" => match error.tenantry_sentence() {
            Some(sentence) if sentence.starts_with("fenced") => Verdict::Fenced,
            Some(sentence) if sentence.starts_with("the session is not bound") => Verdict::NotBound,
            _ => Verdict::Final,
        },
        "42501"
            if error
                .message()
                .starts_with("query would be affected by row-level security") =>
        {
            Verdict::Tampered
        }
        "25006" => Verdict::Tampered,
        // What a statement by itself did is not committed then: between its commit and the end of the call nobody is interrupted. For others
        // see `Patience::committing`.
        "57P01" => Verdict::Ended,
        "57014" if error.message().contains("statement timeout") => Verdict::Tampered,
        _ => Verdict::Final,
    }
}
