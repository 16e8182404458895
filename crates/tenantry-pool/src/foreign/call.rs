//! What the application's statements leave behind in a transaction of another driver.

use std::time::{Duration, Instant};

use tenantry_wire::{DbError, is_stale};

use super::silence::Silence;
use crate::{
    Error,
    pools::{Verdict, verdict},
};

/// Where the transaction stands after the application's statements, as its adapter has seen them end.
#[derive(Default, Debug)]
pub struct Call {
    /// A statement was begun and its end was not seen.
    pub(super) in_doubt: bool,
    /// Rows of a statement were not read to their end: an error may stand behind them.
    pub(super) unread: bool,
    /// A statement failed: PostgreSQL accepts only the end, and keeps nothing.
    pub(super) failed: bool,
    /// Something may be left in the session: it serves nobody else.
    pub(super) tainted: bool,
    /// A change of the schema made statements stale: so are those of connections that are as old.
    pub(super) stale: bool,
    /// When the transaction has to have ended, and how long it may last.
    pub(super) until: Option<(Instant, Duration)>,
    /// What is told of a server that has fallen silent.
    pub(super) silence: Option<Silence>,
}

impl Call {
    /// A statement goes out. Unless its end is told, the connection is in doubt, and closed.
    pub fn begins(&mut self) {
        self.in_doubt = true;
    }

    /// The statement came to its end, or did not go out.
    pub fn ends(&mut self) {
        self.in_doubt = false;
        self.unread = false;
    }

    /// Rows come from here on, and need not be read to their end: the driver itself steps over what is left.
    pub fn gives_rows(&mut self) {
        self.in_doubt = false;
        self.unread = true;
    }

    /// What the loss of the connection means, where the transaction had lasted for longer than it may, or the statement in it without an
    /// answer: that it was ended for that.
    pub fn ended_for_its_age(&self) -> Option<Error> {
        if let Some(limit) = self.silence.as_ref().and_then(Silence::fallen) {
            return Some(Error::StatementTimeout(limit));
        }
        let (until, limit) = self.until?;
        (Instant::now() >= until).then_some(Error::TransactionTimeout(limit))
    }

    /// PostgreSQL refused the statement.
    pub fn refused(&mut self, error: &DbError) {
        // After a fatal error the server closes the connection.
        self.in_doubt = matches!(error.severity(), "FATAL" | "PANIC") || error.code().starts_with("57P");
        self.failed = true;
        let error = tenantry_wire::Error::Database(Box::new(error.clone()));
        self.tainted |= verdict(&error) != Verdict::Final;
        self.stale |= is_stale(&error) && !error.code().is_some_and(|code| code.starts_with("42"));
    }
}
