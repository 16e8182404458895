//! What goes before a statement under the same Sync: the binding, the expectation, BEGIN.

use postgres_protocol::{IsNull, message::frontend};
use postgres_types::Oid;

use crate::{Connection, Error};

const BYTEA: Oid = 17;
const INT8: Oid = 20;
const INT2: Oid = 21;
const TEXT: Oid = 25;
const FLOAT8: Oid = 701;
const UUID: Oid = 2950;

/// What goes before a statement, in the same round trip.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Lead<'a> {
    /// Bind the session.
    pub(crate) enter: Option<Enter<'a>>,
    /// Open a transaction.
    pub(crate) begin: Begin,
    /// State the seal that the session must be bound to.
    pub(crate) expect: Option<&'a str>,
    /// The account that goes with it, empty where nobody acts; `enter` takes it from its token.
    pub(crate) account: &'a str,
    /// The transaction may only read: once it is said, PostgreSQL lets nobody take it back.
    pub(crate) read_only: bool,
}

/// The parameters of `tenantry.enter`, and the search path that goes with the binding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enter<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) mac: &'a [u8],
    /// `None` where the session has it already.
    pub(crate) search_path: Option<&'a str>,
}

/// Whether a transaction is opened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) enum Begin {
    /// The Sync is the transaction.
    #[default]
    No,
    /// BEGIN after a binding that holds for itself, under a Sync of its own: undoing the transaction must not undo it.
    AfterEnter,
    /// BEGIN before the binding, where the binding holds for the transaction only.
    BeforeEnter,
}

/// The statements that every connection uses, prepared with their first use. One bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Fixed {
    Enter,
    EnterWithPath,
    EnterPooled,
    Expect,
    ExpectAndAccount,
    Begin,
    Commit,
    Rollback,
    Enqueue,
    JobDone,
    ReadOnly,
    EnqueueByKey,
}

impl Fixed {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Enter => "select tenantry.enter($1, $2)",
            // For another tenant. What SQL that hides its `set_config` left on the session must not reach it: an account, which
            // `enter` then states for its transaction, and a path. Setting a path looks its schemas up again, even where it is
            // the same.
            Self::EnterWithPath => {
                "select pg_catalog.set_config('tenantry.account', '', false), tenantry.enter($1, $2), \
                 case when pg_catalog.current_setting('search_path') operator(pg_catalog.<>) $3 \
                      then pg_catalog.set_config('search_path', $3, false) end"
            }
            // For this transaction only, the path too.
            Self::EnterPooled => "select tenantry.enter_pooled($1, $2), pg_catalog.set_config('search_path', $3, true)",
            Self::Expect => "select pg_catalog.set_config('tenantry.expect', $1, true)",
            Self::ExpectAndAccount => {
                "select pg_catalog.set_config('tenantry.expect', $1, true), \
                 pg_catalog.set_config('tenantry.account', $2, true)"
            }
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Enqueue => "select tenantry.enqueue($1, $2, $3, pg_catalog.make_interval(secs => $4), $5, $6, null)",
            Self::EnqueueByKey => {
                "select tenantry.enqueue($1, $2, $3, pg_catalog.make_interval(secs => $4), $5, $6, null, $7)"
            }
            Self::JobDone => "select tenantry.job_done($1, $2)",
            Self::ReadOnly => "select pg_catalog.set_config('transaction_read_only', 'on', true)",
        }
    }

    /// The parameters' types, named so that no Describe is needed.
    pub(crate) fn types(self) -> &'static [Oid] {
        match self {
            Self::Enter => &[BYTEA, BYTEA],
            Self::EnterWithPath | Self::EnterPooled => &[BYTEA, BYTEA, TEXT],
            Self::Expect => &[TEXT],
            Self::ExpectAndAccount => &[TEXT, TEXT],
            Self::Begin | Self::Commit | Self::Rollback | Self::ReadOnly => &[],
            Self::Enqueue => &[UUID, TEXT, TEXT, FLOAT8, INT2, INT2],
            Self::EnqueueByKey => &[UUID, TEXT, TEXT, FLOAT8, INT2, INT2, UUID],
            Self::JobDone => &[UUID, INT8],
        }
    }

    /// Follows the connection's prefix; statements of the cache go on with digits.
    fn suffix(self) -> char {
        char::from(b'a' + self as u8)
    }
}

/// Which fixed statements the server has: known only when it confirmed the Parse.
#[derive(Clone, Default, Debug)]
pub(crate) struct Prepared {
    done: u16,
    /// In the order in which they were sent.
    sent: [Option<Fixed>; 7],
}

impl Prepared {
    fn has(&self, fixed: Fixed) -> bool {
        self.done & (1 << fixed as u8) != 0
    }

    fn is_sent(&self, fixed: Fixed) -> bool {
        self.sent.contains(&Some(fixed))
    }

    fn expect(&mut self, fixed: Fixed) {
        if let Some(place) = self.sent.iter_mut().find(|place| place.is_none()) {
            *place = Some(fixed);
        }
    }

    /// The server confirmed the next Parse of the call; one of a cached statement comes last, and finds none here.
    pub(crate) fn confirm(&mut self, call: &mut Self) {
        if let Some(fixed) = call.sent[0].take() {
            self.done |= 1 << fixed as u8;
            call.sent.rotate_left(1);
        }
    }
}

/// A call of the mechanism's own that goes before a statement, or before a commit, under the same Sync: no round trip of its own.
/// Its answer is stepped over; its error is the statement's.
#[derive(Clone, Debug)]
pub struct Ahead {
    fixed: Fixed,
    values: Vec<Vec<u8>>,
}

impl Ahead {
    /// Enqueues a job without a unique key.
    pub fn enqueue(id: &[u8; 16], kind: &str, payload: String, delay_s: f64, priority: i16, attempts_max: i16) -> Self {
        Self {
            fixed: Fixed::Enqueue,
            values: vec![
                id.to_vec(),
                kind.as_bytes().to_vec(),
                payload.into_bytes(),
                delay_s.to_be_bytes().to_vec(),
                priority.to_be_bytes().to_vec(),
                attempts_max.to_be_bytes().to_vec(),
            ],
        }
    }

    /// The same job as one that this API key asks for.
    #[must_use]
    pub fn by_api_key(mut self, key: &[u8; 16]) -> Self {
        debug_assert!(self.fixed == Fixed::Enqueue, "only what enqueues is asked for by a key");
        self.fixed = Fixed::EnqueueByKey;
        self.values.push(key.to_vec());
        self
    }

    /// Ends a job, if the lease is still the newest.
    pub fn job_done(id: &[u8; 16], lease: i64) -> Self {
        Self {
            fixed: Fixed::JobDone,
            values: vec![id.to_vec(), lease.to_be_bytes().to_vec()],
        }
    }

    /// How many bytes it takes, roughly.
    pub fn bytes(&self) -> usize {
        self.values.iter().map(|value| value.len() + 4).sum()
    }
}

impl Connection {
    /// Puts what goes ahead of a statement into the outbox.
    pub(crate) fn put_ahead(&mut self, ahead: &[Ahead]) -> Result<(), Error> {
        for call in ahead {
            let values: Vec<&[u8]> = call.values.iter().map(Vec::as_slice).collect();
            self.put_fixed(call.fixed, &values)?;
        }
        Ok(())
    }

    /// Sends lead, calls, a last fixed statement and Sync.
    pub(crate) async fn start_ahead(
        &mut self,
        lead: &Lead<'_>,
        ahead: &[Ahead],
        last: Option<Fixed>,
    ) -> Result<(), Error> {
        self.begin_call()?;
        self.put_lead(lead)?;
        self.put_ahead(ahead)?;
        if let Some(last) = last {
            self.put_fixed(last, &[])?;
        }
        frontend::sync(&mut self.outbox);
        self.send().await
    }

    /// Puts the lead into the outbox.
    pub(crate) fn put_lead(&mut self, lead: &Lead<'_>) -> Result<(), Error> {
        if lead.begin == Begin::BeforeEnter {
            self.put_fixed(Fixed::Begin, &[])?;
        }
        if let Some(enter) = lead.enter {
            self.put_enter(&enter)?;
        }
        if lead.begin == Begin::AfterEnter {
            if lead.enter.is_some() {
                self.put_inner_sync();
            }
            self.put_fixed(Fixed::Begin, &[])?;
        }
        match (lead.expect, lead.account) {
            (None, _) => {}
            (Some(seal), "") => self.put_fixed(Fixed::Expect, &[seal.as_bytes()])?,
            (Some(seal), account) => self.put_fixed(Fixed::ExpectAndAccount, &[seal.as_bytes(), account.as_bytes()])?,
        }
        match lead.read_only {
            true => self.put_fixed(Fixed::ReadOnly, &[]),
            false => Ok(()),
        }
    }

    fn put_enter(&mut self, enter: &Enter<'_>) -> Result<(), Error> {
        match enter.search_path {
            // Not remembered: it ends with the transaction, and the server may say so.
            Some(path) if self.pooled => {
                self.put_fixed(Fixed::EnterPooled, &[enter.message, enter.mac, path.as_bytes()])
            }
            Some(path) => {
                path.clone_into(&mut self.search_path);
                self.put_fixed(Fixed::EnterWithPath, &[enter.message, enter.mac, path.as_bytes()])
            }
            None => self.put_fixed(Fixed::Enter, &[enter.message, enter.mac]),
        }
    }

    /// What was put so far takes effect by itself.
    fn put_inner_sync(&mut self) {
        frontend::sync(&mut self.outbox);
        self.call.skip_after_sync = Some(0);
    }

    /// Runs a lead by itself.
    pub(crate) async fn run_lead(&mut self, lead: &Lead<'_>) -> Result<(), Error> {
        self.begin_call()?;
        self.put_lead(lead)?;
        frontend::sync(&mut self.outbox);
        self.send().await?;
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// Runs a fixed statement by itself.
    pub(crate) async fn run_fixed(&mut self, fixed: Fixed) -> Result<(), Error> {
        self.begin_call()?;
        self.put_fixed(fixed, &[])?;
        frontend::sync(&mut self.outbox);
        self.send().await?;
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// Puts a fixed statement into the outbox, with its Parse when the server does not have it yet. Its result is
    /// stepped over.
    pub(crate) fn put_fixed(&mut self, fixed: Fixed, values: &[&[u8]]) -> Result<(), Error> {
        if self.pooled {
            return self.put_once(fixed.sql(), fixed.types(), values);
        }
        let length = self.prefix.len();
        self.prefix.push(fixed.suffix());
        let put = self.put_named(fixed, values);
        self.prefix.truncate(length);
        put?;
        match &mut self.call.skip_after_sync {
            Some(skip) => *skip += 1,
            None => self.call.skip += 1,
        }
        Ok(())
    }

    fn put_named(&mut self, fixed: Fixed, values: &[&[u8]]) -> Result<(), Error> {
        if !self.prepared.has(fixed) && !self.call.parsing.is_sent(fixed) {
            frontend::parse(
                &self.prefix,
                fixed.sql(),
                fixed.types().iter().copied(),
                &mut self.outbox,
            )?;
            self.call.parsing.expect(fixed);
        }
        let serialize = |value: &[u8], buffer: &mut bytes::BytesMut| {
            buffer.extend_from_slice(value);
            Ok(IsNull::No)
        };
        frontend::bind(
            "",
            &self.prefix,
            [1],
            values.iter().copied(),
            serialize,
            [1],
            &mut self.outbox,
        )
        .map_err(|error| bind_error(error, 0))?;
        Ok(frontend::execute("", 0, &mut self.outbox)?)
    }
}

/// What could not be written of parameter `number`.
pub(crate) fn bind_error(error: frontend::BindError, number: usize) -> Error {
    match error {
        frontend::BindError::Conversion(source) => Error::Parameter { number, source },
        frontend::BindError::Serialization(error) => Error::Io(error),
    }
}
