//! What this process knows of the catalog: filled when asked, dropped when the catalog says that something changed.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tenantry_catalog::{Catalog, CatalogError, ChangeEvent, Client, Look, api_key, directory, membership, signing_key};
use tenantry_core::{AccountId, ApiKeyId, Change, TenantId, TenantState};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    ResolveError,
    cache::{Cache, Tickets},
};

/// Without news from the catalog for this long nobody knows who was suspended: everything is refused. Long enough for
/// a restart of the catalog's connection, short enough that a cut-off process does not serve on.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// How long a request waits for the catalog.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a writer waits for its own change to arrive; everybody else's arrives by itself.
const CATCH_UP_TIMEOUT: Duration = Duration::from_millis(500);

/// Entries at most, of each kind: some 30 MB when all are full.
const FOUND_MAX: usize = 50_000;
/// Names that don't exist at most, of each kind.
const ABSENT_MAX: usize = 10_000;

/// Accounts, tenants and keys as the catalog has them. Ends its task when dropped.
pub(super) struct Directory {
    shared: Arc<Shared>,
    follower: JoinHandle<()>,
}

struct Shared {
    catalog: Catalog,
    accounts: Cache<AccountId, directory::Account>,
    tenants: Cache<TenantId, directory::Tenant>,
    slugs: Cache<String, TenantId>,
    emails: Cache<String, AccountId>,
    api_keys: Cache<[u8; 32], directory::ApiKey>,
    // The same by their ids, for the work that they left behind.
    api_keys_by_id: Cache<(TenantId, ApiKeyId), directory::ApiKey>,
    operator_keys: Cache<[u8; 32], directory::OperatorKey>,
    signing_keys: Cache<(), Vec<signing_key::PublicKey>>,
    // Grows when signing keys change: what was verified with a removed key is verified again.
    signing_keys_version: AtomicU64,
    lookups: AtomicU64,
    started: Instant,
    // Milliseconds after `started` at which everything that the catalog had told was applied.
    current_at_ms: AtomicU64,
    applied: watch::Sender<Look>,
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Directory {
    pub(super) fn start(catalog: Catalog) -> Self {
        // Subscribed before anything is looked up, so that no change falls between.
        let mut changes = catalog.follower();
        let shared = Arc::new(Shared {
            catalog,
            accounts: Cache::new(FOUND_MAX, ABSENT_MAX),
            tenants: Cache::new(FOUND_MAX, ABSENT_MAX),
            slugs: Cache::new(FOUND_MAX, ABSENT_MAX),
            emails: Cache::new(FOUND_MAX, ABSENT_MAX),
            api_keys: Cache::new(FOUND_MAX, ABSENT_MAX),
            api_keys_by_id: Cache::new(FOUND_MAX, ABSENT_MAX),
            operator_keys: Cache::new(1000, ABSENT_MAX),
            signing_keys: Cache::new(16, 16),
            signing_keys_version: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            started: Instant::now(),
            current_at_ms: AtomicU64::new(0),
            applied: watch::Sender::default(),
        });
        let follower = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                loop {
                    shared.apply(changes.next().await);
                }
            }
        });
        Self { shared, follower }
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// Passes while the catalog's changes are known.
    pub(super) fn require_current(&self) -> Result<(), ResolveError> {
        let current_at = Duration::from_millis(self.shared.current_at_ms.load(Ordering::Acquire));
        if self.shared.started.elapsed().saturating_sub(current_at) <= STALE_AFTER {
            Ok(())
        } else {
            Err(ResolveError::Unavailable)
        }
    }

    /// Waits until what was committed to the catalog before this call is known here.
    pub(super) async fn catch_up(&self) -> Result<(), ResolveError> {
        let mut applied = self.shared.applied.subscribe();
        let look = self.shared.catalog.look_for_changes();
        let caught_up = applied.wait_for(|applied| *applied >= look);
        match tokio::time::timeout(CATCH_UP_TIMEOUT, caught_up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ResolveError::Unavailable),
        }
    }

    pub(super) async fn account(&self, id: AccountId) -> Result<Option<Arc<directory::Account>>, ResolveError> {
        let query = async |client: &Client| directory::account(client, id).await;
        self.known(&self.shared.accounts, &id, query).await
    }

    /// Looks the account up anew, for a token that knows more than we do: a log-in or membership of a moment ago.
    pub(super) async fn refreshed_account(
        &self,
        id: AccountId,
    ) -> Result<Option<Arc<directory::Account>>, ResolveError> {
        self.shared.accounts.invalidate(&id);
        self.account(id).await
    }

    pub(super) async fn tenant(&self, id: TenantId) -> Result<Option<Arc<directory::Tenant>>, ResolveError> {
        let query = async |client: &Client| directory::tenant(client, id).await;
        self.known(&self.shared.tenants, &id, query).await
    }

    /// The tenant that has this slug now.
    pub(super) async fn tenant_by_slug(&self, slug: &str) -> Result<Option<Arc<directory::Tenant>>, ResolveError> {
        let key = slug.to_owned();
        // Twice at most: slugs move between tenants, and the tenant itself is what is kept up to date.
        for _ in 0..2 {
            let query = async |client: &Client| {
                let tickets = self.shared.tenants.tickets();
                let tenant = directory::tenant_by_slug(client, slug).await?;
                Ok(tenant.map(|tenant| self.keep_tenant(tickets, tenant)))
            };
            let Some(id) = self.known(&self.shared.slugs, &key, query).await? else {
                return Ok(None);
            };
            match self.tenant(*id).await? {
                Some(tenant) if tenant.slug == slug && tenant.state != TenantState::Purged => return Ok(Some(tenant)),
                _ => self.shared.slugs.invalidate(&key),
            }
        }
        Ok(None)
    }

    pub(super) async fn account_by_email(&self, email: &str) -> Result<Option<AccountId>, ResolveError> {
        let query = async |client: &Client| directory::account_by_email(client, email).await;
        let id = self.known(&self.shared.emails, &email.to_owned(), query).await?;
        Ok(id.map(|id| *id))
    }

    /// Notes that a person who has no log-in here has shown up, in this tenant or in all. A failure is only logged: the
    /// next token is the next occasion.
    pub(super) async fn note_arrival(&self, account: AccountId, tenant: Option<TenantId>) {
        let note = async {
            let client = self.shared.catalog.client().await?;
            membership::note_arrival(&client, account, tenant).await
        };
        let outcome = match tokio::time::timeout(LOAD_TIMEOUT, note).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(account.id = %account, error = outcome, "an arrival was not noted");
    }

    pub(super) async fn api_key(&self, hash: &[u8; 32]) -> Result<Option<Arc<directory::ApiKey>>, ResolveError> {
        let query = async |client: &Client| {
            let tickets = self.shared.tenants.tickets();
            let found = directory::api_key(client, hash).await?;
            Ok(found.map(|(key, tenant)| {
                self.keep_tenant(tickets, tenant);
                key
            }))
        };
        self.known(&self.shared.api_keys, hash, query).await
    }

    /// The tenant's API key with this id, whose text nobody shows: for the work that it left behind.
    pub(super) async fn api_key_by_id(
        &self,
        tenant: TenantId,
        id: ApiKeyId,
    ) -> Result<Option<Arc<directory::ApiKey>>, ResolveError> {
        let query = async |client: &Client| {
            let found = api_key::get(client, tenant, id).await?;
            Ok(found.map(|key| directory::ApiKey {
                id: key.id,
                tenant,
                role: key.role,
                expires_at: key.expires_at,
            }))
        };
        self.known(&self.shared.api_keys_by_id, &(tenant, id), query).await
    }

    /// Keeps a tenant that another look-up has brought along: it is asked for next, and that is one question less.
    fn keep_tenant(&self, tickets: Tickets, tenant: directory::Tenant) -> TenantId {
        let id = tenant.id;
        let ticket = self.shared.tenants.ticket_of(tickets, &id);
        self.shared.tenants.keep(ticket, &id, Some(Arc::new(tenant)));
        id
    }

    pub(super) async fn operator_key(
        &self,
        hash: &[u8; 32],
    ) -> Result<Option<Arc<directory::OperatorKey>>, ResolveError> {
        let query = async |client: &Client| directory::operator_key(client, hash).await;
        self.known(&self.shared.operator_keys, hash, query).await
    }

    /// Every signing key. To be asked for after [`Directory::signing_keys_version`].
    pub(super) async fn signing_keys(&self) -> Result<Arc<Vec<signing_key::PublicKey>>, ResolveError> {
        let query = async |client: &Client| signing_key::list(client).await.map(Some);
        let keys = self.known(&self.shared.signing_keys, &(), query).await?;
        keys.ok_or(ResolveError::Unavailable)
    }

    pub(super) fn signing_keys_version(&self) -> u64 {
        self.shared.signing_keys_version.load(Ordering::Acquire)
    }

    /// How often the catalog was asked.
    pub(super) fn lookups(&self) -> u64 {
        self.shared.lookups.load(Ordering::Relaxed)
    }

    /// What the cache knows, or what the catalog says.
    async fn known<K: Hash + Eq + Clone, V>(
        &self,
        cache: &Cache<K, V>,
        key: &K,
        query: impl AsyncFnOnce(&Client) -> Result<Option<V>, CatalogError>,
    ) -> Result<Option<Arc<V>>, ResolveError> {
        if let Some(known) = cache.get(key) {
            return Ok(known);
        }
        let load = async || {
            self.shared.lookups.fetch_add(1, Ordering::Relaxed);
            let client = self.shared.catalog.client().await?;
            query(&client).await
        };
        // Around the wait for others' look-ups too: behind one that hangs nobody waits longer than this.
        let outcome = match tokio::time::timeout(LOAD_TIMEOUT, cache.get_or_load(key, load)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(
            error = outcome,
            "the catalog can't be asked about a credential: refused"
        );
        Err(ResolveError::Unavailable)
    }
}

impl Shared {
    fn apply(&self, event: ChangeEvent) {
        match event {
            ChangeEvent::Changed(change) => self.drop_changed(change),
            ChangeEvent::UpToDate { look } => {
                let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.current_at_ms.store(now_ms, Ordering::Release);
                self.applied.send_replace(look);
            }
            // Lost, and whatever a later version may tell.
            _ => self.drop_all(),
        }
    }

    fn drop_changed(&self, change: Change) {
        match change {
            Change::Tenant(id) => {
                self.tenants.invalidate(&id);
                // A slug that nobody had may be this tenant's now; one that is another's shows by the tenant itself.
                self.slugs.invalidate_absent();
            }
            Change::Account(id) => {
                self.accounts.invalidate(&id);
                self.emails.invalidate_absent();
            }
            Change::ApiKey(id) => {
                self.api_keys.invalidate_if(|key| key.id == id);
                self.api_keys_by_id.invalidate_if(|key| key.id == id);
            }
            Change::OperatorKey(id) => self.operator_keys.invalidate_if(|key| key.operator.key == id),
            Change::SigningKeys => self.drop_signing_keys(),
            Change::Servers | Change::Shares | Change::Plans => {}
            _ => self.drop_all(),
        }
    }

    fn drop_signing_keys(&self) {
        self.signing_keys.clear();
        self.signing_keys_version.fetch_add(1, Ordering::AcqRel);
    }

    fn drop_all(&self) {
        self.accounts.clear();
        self.tenants.clear();
        self.slugs.clear();
        self.emails.clear();
        self.api_keys.clear();
        self.api_keys_by_id.clear();
        self.operator_keys.clear();
        self.drop_signing_keys();
    }
}
