//! One tenant's values.

use std::{any::Any, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tenantry_core::TenantId;

use super::{
    Cache, CacheError, CacheKey,
    entry::Entry,
    flight::Seat,
    remote::{Found, Seen},
    shared::Inner,
    status::count,
};
use crate::Scope;

/// Who no longer sees the old value.
#[must_use = "where Redis was away, other processes may see the old value until its end"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nobody: Redis took the change, and other processes follow within their `local_ttl`.
    Everywhere,
    /// This process. Without Redis that is all there is. With one it was away: nobody believes its values of this tenant any more
    /// once this process has found it again; until then, or if this process ends before, other processes may see the
    /// old value until its own end.
    ThisProcess,
}

/// One tenant's values; made by [`Scope::cache`].
#[derive(Clone, Copy, Debug)]
pub struct ScopedCache<'a> {
    cache: &'a Cache,
    tenant: TenantId,
}

impl Scope {
    /// The tenant's values in the cache.
    pub fn cache(&self) -> ScopedCache<'_> {
        ScopedCache {
            cache: self.tenantry().cache(),
            tenant: self.context().tenant,
        }
    }
}

impl ScopedCache<'_> {
    fn inner(&self) -> &Arc<Inner> {
        &self.cache.0
    }

    /// The value, if there is one that reads as a `T`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(scope: tenantry::Scope) {
    /// if let Some(theme) = scope.cache().get::<String>("theme").await {
    ///     println!("{theme}");
    /// }
    /// # }
    /// ```
    pub async fn get<T>(&self, key: impl Into<CacheKey<'_>>) -> Option<Arc<T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let key = key.into();
        let key = key.as_str();
        if let Some(value) = self.here(key) {
            return Some(value);
        }
        let inner = self.inner();
        let remote = inner.remote.as_ref()?;
        let seat = inner.local.join(self.tenant, key);
        // Whoever has the turn may be computing for long; a look into Redis need not wait for that.
        let turn = seat.flight().turn.try_lock();
        let text = remote.fetch(self.tenant, key).await.text?;
        let (entry, value) = self.read::<T>(&seat, &text)?;
        if turn.is_ok() {
            count(&inner.counters.from_redis);
            inner.local.land(&seat, entry);
        }
        Some(value)
    }

    /// Keeps a value for the usual time.
    ///
    /// # Errors
    ///
    /// [`CacheError::Value`] and [`CacheError::TooLarge`]; what was kept under the key is gone then.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on when dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(scope: tenantry::Scope) -> Result<(), tenantry::cache::CacheError> {
    /// let _ = scope.cache().set("theme", &"dark").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set<T: Serialize + ?Sized>(
        &self,
        key: impl Into<CacheKey<'_>>,
        value: &T,
    ) -> Result<Reach, CacheError> {
        self.store(key.into(), value, None).await
    }

    /// The same for a time of one's own, of a day at most.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_for<T: Serialize + ?Sized>(
        &self,
        key: impl Into<CacheKey<'_>>,
        value: &T,
        ttl: Duration,
    ) -> Result<Reach, CacheError> {
        self.store(key.into(), value, Some(ttl)).await
    }

    async fn store<T: Serialize + ?Sized>(
        &self,
        key: CacheKey<'_>,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<Reach, CacheError> {
        let text = match self.write(value) {
            Ok(text) => text,
            Err(error) => {
                let _ = self.delete_key(&key).await;
                return Err(error);
            }
        };
        let (ttl, _) = self.inner().lives(ttl);
        if self.inner().remote.is_none() {
            self.inner().local.set(self.tenant, key.as_str(), &text, ttl);
            return Ok(Reach::ThisProcess);
        }
        // Whatever reads it next here asks Redis: of two writers at once the one that Redis heard last counts for all.
        let stored = self.in_redis(&key, move |inner, tenant, key| async move {
            match &inner.remote {
                Some(remote) => remote.set(tenant, &key, &text, ttl).await,
                None => false,
            }
        });
        Ok(stored.await)
    }

    /// Forgets a value. What is being computed for this key while this is called is not kept: call it after the transaction
    /// that changes what the value was made of has committed.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on when dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(scope: tenantry::Scope) {
    /// let _ = scope.cache().delete("contacts:count").await;
    /// # }
    /// ```
    pub async fn delete(&self, key: impl Into<CacheKey<'_>>) -> Reach {
        self.delete_key(&key.into()).await
    }

    async fn delete_key(&self, key: &CacheKey<'_>) -> Reach {
        if self.inner().remote.is_none() {
            self.inner().local.outdate(self.tenant, key.as_str());
            return Reach::ThisProcess;
        }
        self.in_redis(key, |inner, tenant, key| async move {
            match &inner.remote {
                Some(remote) => remote.delete(tenant, &key).await,
                None => false,
            }
        })
        .await
    }

    /// Changes a value in Redis, in a task that a dropped caller does not stop half-way. What this process holds is
    /// forgotten before, and again afterwards: a look in between may have found the old value.
    async fn in_redis<F>(
        &self,
        key: &CacheKey<'_>,
        change: impl FnOnce(Arc<Inner>, TenantId, String) -> F + Send + 'static,
    ) -> Reach
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let (inner, tenant, key) = (Arc::clone(self.inner()), self.tenant, key.as_str().to_owned());
        let changing = tokio::spawn(async move {
            inner.local.outdate(tenant, &key);
            let reached = change(Arc::clone(&inner), tenant, key.clone()).await;
            inner.local.outdate(tenant, &key);
            reached
        });
        match changing.await {
            Ok(true) => Reach::Everywhere,
            Ok(false) | Err(_) => Reach::ThisProcess,
        }
    }

    /// The value, or what `compute` gives, which is then kept for the usual time. However many ask at once in this process, one
    /// computes; if that one fails, is dropped or panics, the next one does.
    ///
    /// What changes while it is computed (a [`set`](Self::set), a [`delete`](Self::delete), a purge, here or in another process)
    /// is not overwritten: the computed value is given to those who wait and not kept.
    ///
    /// Within `compute` the same key must not be computed again: it would wait for itself.
    ///
    /// # Errors
    ///
    /// What `compute` gives; nothing is kept then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `compute`, and another caller goes on.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
    /// let names = scope
    ///     .cache()
    ///     .get_or_compute("names", async || scope.query_as::<(String,)>("select name from contact", &[]).await)
    ///     .await?;
    /// # let _: std::sync::Arc<Vec<(String,)>> = names;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_compute<T, E>(
        &self,
        key: impl Into<CacheKey<'_>>,
        compute: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.fly(key.into(), None, compute).await
    }

    /// The same for a time of one's own, of a day at most.
    ///
    /// # Errors
    ///
    /// As [`get_or_compute`](Self::get_or_compute).
    pub async fn get_or_compute_for<T, E>(
        &self,
        key: impl Into<CacheKey<'_>>,
        ttl: Duration,
        compute: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.fly(key.into(), Some(ttl), compute).await
    }

    async fn fly<T, E>(
        &self,
        key: CacheKey<'_>,
        ttl: Option<Duration>,
        compute: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let key = key.as_str();
        if let Some(value) = self.here(key) {
            return Ok(value);
        }
        let inner = self.inner();
        let seat = inner.local.join(self.tenant, key);
        // Released by the drop, also when this future is dropped or `compute` panics: the next one computes.
        let _turn = seat.flight().turn.lock().await;
        if let Some(value) = self.here(key) {
            return Ok(value);
        }
        if let Some(Ok(value)) = seat.flight().landed().map(|entry| entry.value()) {
            return Ok(value);
        }
        let found = match &inner.remote {
            Some(remote) => remote.fetch(self.tenant, key).await,
            None => Found { text: None, seen: None },
        };
        if let Some((entry, value)) = found.text.as_deref().and_then(|text| self.read::<T>(&seat, text)) {
            count(&inner.counters.from_redis);
            inner.local.land(&seat, entry);
            return Ok(value);
        }
        let value = Arc::new(compute().await?);
        count(&inner.counters.computed);
        self.keep(&seat, &value, ttl, found.seen);
        Ok(value)
    }

    /// Keeps what was computed, here at once and in Redis in the background.
    fn keep<T: Serialize + Send + Sync + 'static>(
        &self,
        seat: &Seat<'_>,
        value: &Arc<T>,
        ttl: Option<Duration>,
        seen: Option<Seen>,
    ) {
        let inner = self.inner();
        let text = match self.write(&**value) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(tenant.id = %self.tenant, key = &*seat.key().key, %error, "a computed value is not kept");
                return;
            }
        };
        let (ttl, local_ttl) = inner.lives(ttl);
        if let Some(seen) = seen
            && seat.flight().may_be_kept()
        {
            let (inner, tenant) = (Arc::clone(inner), self.tenant);
            let (key, text) = (Arc::clone(&seat.key().key), text.clone());
            tokio::spawn(async move {
                if let Some(remote) = &inner.remote {
                    remote.keep(tenant, &key, &text, ttl, &seen).await;
                }
            });
        }
        let decoded: Arc<dyn Any + Send + Sync> = Arc::clone(value) as _;
        let entry = inner.local.entry(seat, &text, local_ttl).with_decoded(decoded);
        inner.local.land(seat, Arc::new(entry));
    }

    /// Forgets all of this tenant, here and in Redis. What is being computed meanwhile is not kept.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on when dropped.
    pub async fn purge(&self) -> Reach {
        self.cache.purge_tenant(self.tenant).await
    }

    /// What this process holds.
    fn here<T: DeserializeOwned + Send + Sync + 'static>(&self, key: &str) -> Option<Arc<T>> {
        self.inner().local.get(self.tenant, key)?.value().ok()
    }

    /// What Redis holds, as a `T`.
    fn read<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        seat: &Seat<'_>,
        text: &str,
    ) -> Option<(Arc<Entry>, Arc<T>)> {
        let (_, local_ttl) = self.inner().lives(None);
        let entry = self.inner().local.entry(seat, text, local_ttl);
        match entry.value() {
            Ok(value) => Some((Arc::new(entry), value)),
            Err(error) => {
                // Another release of the application may have written it: it counts as not there.
                tracing::warn!(tenant.id = %self.tenant, key = &*seat.key().key, %error, "a cached value has another form");
                None
            }
        }
    }

    fn write<T: Serialize + ?Sized>(&self, value: &T) -> Result<String, CacheError> {
        let text = serde_json::to_string(value).map_err(CacheError::Value)?;
        let max = self.inner().config.value_bytes_max;
        if text.len() > max {
            return Err(CacheError::TooLarge { bytes: text.len(), max });
        }
        Ok(text)
    }
}
