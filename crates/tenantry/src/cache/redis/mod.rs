//! Redis, for all processes: one round trip for each call, and left alone for a while when it does not answer.
//!
//! Beside a value (`t:<tenant>:<key>`) a tenant has a generation (`g:<tenant>`, random): a value counts only with the
//! present one, so that a purge is one write, whatever comes late. A deletion leaves a mark (`d:<tenant>:<key>`) for half a minute,
//! by which a value that was computed from older rows is told. `i:<tenant>` and `s:<tenant>` say when values end and how large
//! they are, for the tenant's budget.

mod call;
mod doubt;
mod link;
mod names;
mod scripts;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use tenantry_core::TenantId;

use super::{
    CacheError, RedisConfig,
    envelope::{self, Bad},
    remote::{Found, Seen},
    status::{Counters, RedisState, count},
};
use link::Link;
use names::Names;

/// How long a deletion can be told.
const DELETION_TTL: Duration = Duration::from_secs(30);
/// What took longer to compute is not stored: a deletion meanwhile may be forgotten.
const COMPUTATION_MAX: Duration = Duration::from_secs(25);
/// Digits of a generation, which stand before each value.
const GENERATION_LEN: usize = 16;

/// The Redis of all processes. Cheap to clone.
#[derive(Clone)]
pub(in crate::cache) struct Remote(Arc<Shared>);

struct Shared {
    link: Link,
    tenant_bytes_max: u64,
    counters: Arc<Counters>,
}

impl Remote {
    pub(in crate::cache) fn new(config: RedisConfig, counters: Arc<Counters>) -> Result<Self, CacheError> {
        let client = ::redis::Client::open(config.url.expose_secret()).map_err(|_| CacheError::Address)?;
        Ok(Self(Arc::new(Shared {
            link: Link::new(client, config.timeout, config.pause, Arc::clone(&counters)),
            tenant_bytes_max: config.tenant_bytes_max,
            counters,
        })))
    }

    pub(in crate::cache) fn state(&self) -> RedisState {
        if self.0.link.is_connected() {
            RedisState::Connected
        } else {
            RedisState::Away
        }
    }

    /// The value, by one command.
    pub(in crate::cache) async fn fetch(&self, tenant: TenantId, key: &str) -> Found {
        let names = Names::new(tenant, key);
        let at = Instant::now();
        let asked = self.0.link.read(|connection, _| call::read(connection, &names));
        let Some([mut raw, generation, deletion]) = asked.await else {
            return Found { text: None, seen: None };
        };
        let text = match self.open(tenant, key, &raw, &generation) {
            Ok(text) => text,
            Err(bad) => {
                self.remove(&names, tenant, key, bad, &raw).await;
                raw.clear();
                None
            }
        };
        let seen = Seen {
            at,
            generation,
            raw,
            deletion,
        };
        Found { text, seen: Some(seen) }
    }

    /// What is not there, or older than the tenant's last purge, is no value; what somebody else put there is bad.
    fn open(&self, tenant: TenantId, key: &str, raw: &[u8], generation: &[u8]) -> Result<Option<Box<str>>, Bad> {
        if raw.is_empty() {
            return Ok(None);
        }
        let (written_in, text) = raw.split_at_checked(GENERATION_LEN).ok_or(Bad::Mangled)?;
        let text = std::str::from_utf8(text).map_err(|_| Bad::Mangled)?;
        let value = envelope::open(tenant, key, text)?;
        Ok((written_in == generation).then(|| value.into()))
    }

    /// Takes a bad value out, if it still stands there, and says so: nobody but us should write there.
    async fn remove(&self, names: &Names, tenant: TenantId, key: &str, bad: Bad, raw: &[u8]) {
        count(match bad {
            Bad::Foreign => &self.0.counters.foreign,
            Bad::Mangled => &self.0.counters.mangled,
        });
        tracing::error!(
            tenant.id = %tenant, key, bad = ?bad,
            "a value in Redis is not what was written for this tenant and key; it is removed and counts as not there"
        );
        let _ = self
            .0
            .link
            .read(|connection, _| call::remove(connection, names, raw))
            .await;
    }

    /// Stores what was computed, unless anything is different from what was seen before.
    pub(in crate::cache) async fn keep(&self, tenant: TenantId, key: &str, text: &str, ttl: Duration, seen: &Seen) {
        if seen.at.elapsed() > COMPUTATION_MAX {
            return;
        }
        let names = Names::new(tenant, key);
        let text = envelope::seal(tenant, key, text);
        let new = call::Value {
            text: &text,
            ttl,
            tenant_bytes_max: self.0.tenant_bytes_max,
        };
        // A failure leaves nothing that would be wrong.
        let _ = self
            .0
            .link
            .read(|connection, line| call::keep(connection, &names, &new, seen, line))
            .await;
    }

    /// Stores a value. When it fails, nobody believes this tenant's values once this process is back.
    pub(in crate::cache) async fn set(&self, tenant: TenantId, key: &str, text: &str, ttl: Duration) -> bool {
        let names = Names::new(tenant, key);
        let text = envelope::seal(tenant, key, text);
        let new = call::Value {
            text: &text,
            ttl,
            tenant_bytes_max: self.0.tenant_bytes_max,
        };
        let write = |connection, line| call::set(connection, &names, &new, line);
        self.0.link.write(tenant, write).await
    }

    /// Forgets a value, with the same care.
    pub(in crate::cache) async fn delete(&self, tenant: TenantId, key: &str) -> bool {
        let names = Names::new(tenant, key);
        let write = |connection, _| call::delete(connection, &names, DELETION_TTL);
        self.0.link.write(tenant, write).await
    }

    /// Forgets all of a tenant: what counts by one write, and then what is there.
    pub(in crate::cache) async fn purge(&self, tenant: TenantId) -> bool {
        let names = Names::new(tenant, "");
        let begin = |connection, _| call::begin_purge(connection, &names);
        if !self.0.link.write(tenant, begin).await {
            return false;
        }
        let mut cursor = 0;
        loop {
            let step = |connection, _| call::purge_some(connection, &names, cursor);
            match self.0.link.read(step).await {
                Some(0) => return true,
                Some(next) => cursor = next,
                None => return false,
            }
        }
    }

    /// How many names hold the tenant's id, beside its generation; `None` where Redis does not answer. SCAN may show a name twice.
    pub(in crate::cache) async fn count(&self, tenant: TenantId) -> Option<u64> {
        let names = Names::new(tenant, "");
        let (mut cursor, mut counted) = (0, 0);
        loop {
            let step = |connection, _| call::count_some(connection, &names, cursor);
            let (next, some) = self.0.link.read(step).await?;
            counted += some;
            match next {
                0 => return Some(counted),
                next => cursor = next,
            }
        }
    }
}
