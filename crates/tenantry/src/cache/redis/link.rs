//! The connection: one for all, given up at the first doubt, and looked for again after a pause.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::redis::{AsyncConnectionConfig, Client, RedisResult, aio::MultiplexedConnection};
use parking_lot::Mutex;
use tenantry_core::TenantId;

use super::{
    call::{self, Line, Sent},
    doubt::{Doubt, Doubtful},
    names,
};
use crate::cache::status::{Counters, count};

/// How often what came into doubt while a connection was made is settled before the connection is given up.
const SETTLINGS_MAX: usize = 10;

pub(super) struct Link {
    client: Client,
    timeout: Duration,
    pause: Duration,
    state: Mutex<State>,
    /// Whoever holds it makes the connection.
    making: tokio::sync::Mutex<()>,
    doubt: Doubt,
    /// The name under which Redis knows the present connection of this process.
    name: Arc<str>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    connection: Option<(MultiplexedConnection, Line)>,
    /// Grows with each connection, so that an old one's failure does not cost the new one.
    number: u64,
    away_until: Option<Instant>,
}

/// A connection that is in use.
struct Open {
    connection: MultiplexedConnection,
    line: Line,
    number: u64,
}

/// What the present state allows.
enum Way {
    Open(Open),
    Away,
    Unmade,
}

impl Link {
    pub(super) fn new(client: Client, timeout: Duration, pause: Duration, counters: Arc<Counters>) -> Self {
        Self {
            client,
            timeout,
            pause,
            state: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            doubt: Doubt::default(),
            name: format!("l:{}", names::fresh()).into(),
            counters,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().connection.is_some()
    }

    /// Asks Redis, if it is there; nobody waits for a connection that another is making.
    pub(super) async fn read<T, F>(&self, ask: impl FnOnce(MultiplexedConnection, Line) -> F) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let open = match self.way() {
            Way::Open(open) => open,
            Way::Away => return None,
            Way::Unmade => {
                let _making = self.making.try_lock().ok()?;
                self.connect().await?
            }
        };
        match tokio::time::timeout(self.timeout, ask(open.connection, open.line)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                self.lost(Some(open.number), &error);
                None
            }
            Err(_) => {
                self.lost(Some(open.number), &"no answer in time");
                None
            }
        }
    }

    /// Changes something in Redis, and says whether it is done. If not, or if that is not known, nothing that stands there of this
    /// tenant counts any more once there is a connection again.
    ///
    /// Not to be dropped half-way.
    pub(super) async fn write<F>(&self, tenant: TenantId, change: impl FnOnce(MultiplexedConnection, Line) -> F) -> bool
    where
        F: Future<Output = RedisResult<Sent>>,
    {
        let open = match self.way() {
            Way::Open(open) => Some(open),
            Way::Away => None,
            Way::Unmade => {
                let _making = self.making.lock().await;
                match self.way() {
                    Way::Open(open) => Some(open),
                    Way::Away => None,
                    Way::Unmade => self.connect().await,
                }
            }
        };
        if let Some(open) = open {
            match tokio::time::timeout(self.timeout, change(open.connection, open.line)).await {
                Ok(Ok(Sent::InTime)) => return true,
                Ok(Ok(Sent::TooLate)) => self.in_doubt(tenant, &"another connection was made meanwhile"),
                Ok(Err(error)) => self.in_doubt(tenant, &error),
                Err(_) => self.in_doubt(tenant, &"no answer in time"),
            }
        } else {
            self.in_doubt(tenant, &"Redis is away");
        }
        false
    }

    fn way(&self) -> Way {
        let state = self.state.lock();
        match (&state.connection, state.away_until) {
            (Some((connection, line)), _) => Way::Open(Open {
                connection: connection.clone(),
                line: line.clone(),
                number: state.number,
            }),
            (None, Some(until)) if until > Instant::now() => Way::Away,
            (None, _) => Way::Unmade,
        }
    }

    /// Makes a connection, settles on it what is in doubt, and only then lets others use it.
    async fn connect(&self) -> Option<Open> {
        // Connecting takes several round trips, and names may have to be looked up.
        let patience = 3 * self.timeout;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(patience))
            .set_response_timeout(Some(patience));
        let made = async {
            let mut connection = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            let line = Line {
                name: Arc::clone(&self.name),
                token: names::fresh().into(),
            };
            // From here on nothing counts that still comes over an earlier one.
            call::take_line(&mut connection, &line).await?;
            for _ in 0..SETTLINGS_MAX {
                self.settle(&mut connection).await?;
                let opened = self.doubt.if_none(|| self.open(&connection, &line));
                if let Some(number) = opened {
                    return Ok(Some(Open {
                        connection,
                        line,
                        number,
                    }));
                }
            }
            Ok(None)
        };
        match made.await {
            Ok(Some(open)) => Some(open),
            Ok(None) => {
                self.lost(None, &"too much is in doubt");
                None
            }
            Err(error) => {
                let error: ::redis::RedisError = error;
                self.lost(None, &error);
                None
            }
        }
    }

    fn open(&self, connection: &MultiplexedConnection, line: &Line) -> u64 {
        let mut state = self.state.lock();
        if state.away_until.take().is_some() {
            tracing::info!("Redis is there again");
        }
        state.number += 1;
        state.connection = Some((connection.clone(), line.clone()));
        state.number
    }

    /// What may be outdated in Redis counts no more.
    async fn settle(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let doubtful = self.doubt.take();
        // Dropped half-way or failed, it is in doubt still.
        let mut unsettled = Unsettled {
            doubt: &self.doubt,
            doubtful: Some(doubtful),
        };
        match &unsettled.doubtful {
            Some(Doubtful::These(tenants)) if !tenants.is_empty() => {
                let generations: Vec<String> = tenants.iter().map(|tenant| names::generation(*tenant)).collect();
                call::renew(connection, &generations).await?;
            }
            Some(Doubtful::All) => {
                let mut cursor = call::renew_some(connection, 0).await?;
                while cursor != 0 {
                    cursor = call::renew_some(connection, cursor).await?;
                }
            }
            _ => {}
        }
        unsettled.doubtful = None;
        Ok(())
    }

    /// A connection failed; the newest where none is named.
    fn lost(&self, number: Option<u64>, why: &dyn std::fmt::Display) {
        count(&self.counters.redis_failures);
        let mut state = self.state.lock();
        if number.is_none_or(|number| number == state.number) {
            if state.away_until.is_none() {
                tracing::warn!(error = %why, "Redis does not answer; values are computed until it does");
            }
            state.connection = None;
            state.away_until = Some(Instant::now() + self.pause);
        }
    }

    /// First what is in doubt, and then the connection goes, whichever it is: it comes back when that is settled.
    fn in_doubt(&self, tenant: TenantId, why: &dyn std::fmt::Display) {
        self.doubt.add(tenant);
        let is_open = self.state.lock().connection.is_some();
        if is_open {
            self.lost(None, why);
        }
    }
}

/// Gives back what is in doubt still.
struct Unsettled<'a> {
    doubt: &'a Doubt,
    doubtful: Option<Doubtful>,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(doubtful) = self.doubtful.take() {
            self.doubt.give_back(doubtful);
        }
    }
}
