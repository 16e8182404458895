//! Whether every schema is what its migrations have made of it: drift, shown as SQL, and repaired where that is safe.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tenantry_catalog::fleet_state::SiteState;
use tenantry_core::{OperatorScope, ServerId, TenantDatabaseId};
use tenantry_engine::{
    admin::ServerAdmin,
    home::ScratchDatabase,
    isolate::{self, Derived, Version},
    migrate::Target,
    structure::{self, Change, Difference, Ledger, Remedy, Repair, ScratchSite, Structure},
};
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{
    MigrationError, RolloutError,
    answers::{Answers, in_time},
    overlay::Overlays,
};
use crate::{
    Authority, Ops,
    audit::{self, Act},
    runner::{Failure, UNREACHABLE, administer, target},
};

/// Servers that are read at the same time: each makes a scratch database, and with the databases below that is as many connections as a
/// roll-out has.
const SERVERS_AT_ONCE: usize = 4;
/// Databases of one server that are read at the same time.
const AT_ONCE: usize = 4;
/// How often a schema is compared anew that was migrated meanwhile.
const COMPARED_MAX: usize = 3;

/// What is verified, and whether it is repaired.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verify {
    /// Only these tenants, by slug, which have a schema or a database of their own; everything where it is empty.
    pub only: Vec<String>,
    /// Whether to run what is safe.
    pub repair: bool,
}

/// A schema and how it differs from what its migrations make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedSite {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The slug of the tenant it belongs to, unless its tables are shared.
    pub slug: Option<String>,
    /// The newest version in its ledger; 0 for none.
    pub version: i64,
    /// Equal for equal structures; as it was before a repair.
    pub fingerprint: Option<String>,
    /// Whether this is the fingerprint that the version should have.
    pub as_expected: bool,
    /// What differs.
    pub differences: Vec<SiteDifference>,
    /// Why it could not be verified.
    pub error: Option<String>,
}

impl VerifiedSite {
    /// Whether nothing differs, or no longer.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.error.is_none()
            && self
                .differences
                .iter()
                .all(|difference| difference.state == DriftState::Repaired)
    }
}

/// One thing that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteDifference {
    /// `index contacts_phone_idx on table contacts`.
    pub object: String,
    /// How it differs.
    pub change: Change,
    /// What to run to get back, with this schema first on the search path.
    pub sql: Vec<String>,
    /// What became of it.
    pub state: DriftState,
}

/// What became of a difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DriftState {
    /// A repair would run it.
    Repairable,
    /// A repair has run it, and it is gone.
    Repaired,
    /// It has to be looked at: the sentence says why.
    Left(String),
}

impl Ops {
    /// Compares every schema of the fleet with what its ledger's version makes in a scratch database, some servers at a time; `done` is
    /// called with each schema's name. A repair runs what is safe and refuses the rest with a sentence. A server that does not answer
    /// three connections in a row is given up: its other schemas are told as not read at once.
    ///
    /// # Errors
    /// See [`MigrationError`]; what can't be asked stands in its line.
    ///
    /// # Cancel safety
    /// What was repaired stays repaired; the scratch databases are dropped by the next run.
    pub async fn verify_migrations(
        &self,
        authority: &Authority,
        verify: &Verify,
        done: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<VerifiedSite>, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let mut servers: BTreeMap<ServerId, BTreeMap<TenantDatabaseId, Vec<SiteState>>> = BTreeMap::new();
        let wanted = wanted(self.fleet_state(&derived).await?, verify)?;
        let overlays = self.overlays(&wanted).await?;
        for state in wanted {
            let databases = servers.entry(state.site.database.server).or_default();
            databases.entry(state.site.database.id).or_default().push(state);
        }
        let asked = servers.into_iter().map(|(server, databases)| {
            let on_server = Server {
                ops: self,
                derived: &derived,
                overlays: &overlays,
                repair: verify.repair,
                done,
                answers: Answers::default(),
            };
            async move { on_server.verify(server, databases).await }
        });
        let by_server: Vec<Vec<VerifiedSite>> = stream::iter(asked).buffered(SERVERS_AT_ONCE).collect().await;
        let verified: Vec<_> = by_server.into_iter().flatten().collect();
        if verify.repair {
            self.note_repair(authority, &verified).await?;
        }
        Ok(verified)
    }

    async fn note_repair(&self, authority: &Authority, verified: &[VerifiedSite]) -> Result<(), MigrationError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        for site in verified {
            let repaired: Vec<_> = site
                .differences
                .iter()
                .filter(|difference| difference.state == DriftState::Repaired)
                .map(|difference| difference.object.as_str())
                .collect();
            if !repaired.is_empty() {
                let act = Act {
                    action: "migration.repair",
                    tenant: None,
                    target: format!("{}.{}", site.database, site.schema),
                    before: None,
                    after: Some(json!({ "repaired": repaired })),
                };
                audit::record(&transaction, authority, act).await?;
            }
        }
        Ok(transaction.commit().await?)
    }
}

pub(super) fn wanted(all: Vec<SiteState>, verify: &Verify) -> Result<Vec<SiteState>, MigrationError> {
    let is = |state: &SiteState, name: &String| state.site.slug.as_ref() == Some(name);
    if let Some(nobody) = verify.only.iter().find(|name| !all.iter().any(|state| is(state, name))) {
        return Err(RolloutError::NoSuchSite(nobody.clone()).into());
    }
    Ok(all
        .into_iter()
        .filter(|state| verify.only.is_empty() || verify.only.iter().any(|name| is(state, name)))
        .collect())
}

/// One server while it is verified.
struct Server<'a> {
    ops: &'a Ops,
    derived: &'a Derived,
    overlays: &'a Overlays,
    repair: bool,
    done: &'a (dyn Fn(&str) + Sync),
    answers: Answers,
}

/// What versions make, worked out when the first schema needs them.
struct Expected {
    client: Client,
    by_versions: HashMap<Versions, Arc<Structure>>,
    /// Why nothing more can be worked out: the scratch database did not answer, and what was sent to it may still be under way.
    silent: Option<String>,
}

/// How many of the fleet's versions, and which tenant's how many own ones.
type Versions = (usize, Option<(String, usize)>);

impl Server<'_> {
    async fn verify(
        &self,
        server: ServerId,
        databases: BTreeMap<TenantDatabaseId, Vec<SiteState>>,
    ) -> Vec<VerifiedSite> {
        match in_time(self.ops, self.scratch(server)).await {
            Ok((admin, scratch, client)) => {
                let expected = Mutex::new(Expected {
                    client,
                    by_versions: HashMap::new(),
                    silent: None,
                });
                let asked = databases
                    .into_values()
                    .map(|states| self.database(&admin, states, &expected));
                let verified: Vec<Vec<VerifiedSite>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
                drop(expected);
                self.remove(scratch).await;
                verified.into_iter().flatten().collect()
            }
            Err(failure) => {
                let reason = failure.message();
                let states = databases.into_values().flatten();
                let told = states.map(|state| {
                    (self.done)(&state.site.schema);
                    silent(&state, reason.clone())
                });
                told.collect()
            }
        }
    }

    /// A server that hangs keeps it: whoever makes the next one there drops it.
    async fn remove(&self, scratch: ScratchDatabase) {
        let removed = async {
            scratch.remove().await;
            Ok::<_, Failure>(())
        };
        if let Err(failure) = in_time(self.ops, removed).await {
            tracing::warn!(error = failure.message(), "a scratch database stays for now");
        }
    }

    async fn scratch(&self, server: ServerId) -> Result<(ServerAdmin, ScratchDatabase, Client), Failure> {
        let (admin, _) = administer(self.ops, server).await?;
        let scratch = ScratchDatabase::make(&admin, self.ops.catalog().installation()).await?;
        let client = scratch.connect().await?;
        Ok((admin, scratch, client))
    }

    /// The schemas of one database, over one connection.
    async fn database(
        &self,
        admin: &ServerAdmin,
        states: Vec<SiteState>,
        expected: &Mutex<Expected>,
    ) -> Vec<VerifiedSite> {
        let mut verified = Vec::new();
        let mut connected = None;
        for state in states {
            let site = async {
                let client = match connected.take() {
                    Some(client) => client,
                    None => {
                        self.answers.require()?;
                        self.answers.heard(admin.connect(&state.site.database.name).await)?
                    }
                };
                let site = self.site(&client, &state, expected).await?;
                connected = Some(client);
                Ok::<_, Failure>(site)
            };
            verified.push(match site.await {
                Ok(site) => site,
                Err(failure) => silent(&state, failure.message()),
            });
            (self.done)(&state.site.schema);
        }
        verified
    }

    async fn site(
        &self,
        client: &Client,
        state: &SiteState,
        expected: &Mutex<Expected>,
    ) -> Result<VerifiedSite, Failure> {
        for _ in 0..COMPARED_MAX {
            if let Some(verified) = self.compare(client, state, expected).await? {
                return Ok(verified);
            }
        }
        Err(Failure::retry(
            "migration_busy",
            "it was migrated while it was compared, again and again: verify it when the roll-out has ended",
        ))
    }

    /// `None` where it got other migrations meanwhile: what it should be is another thing then.
    async fn compare(
        &self,
        client: &Client,
        state: &SiteState,
        expected: &Mutex<Expected>,
    ) -> Result<Option<VerifiedSite>, Failure> {
        let site = &state.site;
        let target = target(self.ops.catalog().installation(), &site.database, &site.schema)?;
        let ledger = in_time(self.ops, structure::read_ledger(client, &target)).await?;
        let version = ledger.versions.last().map_or(0, |(version, _)| *version);
        let differs = || {
            Failure::permanent(
                "other_ledger",
                "its ledger differs from these migrations: `tenantry migrate apply` says in which file",
            )
        };
        let length = prefix(&ledger.versions, self.derived).ok_or_else(differs)?;
        let own = match (self.overlays.of(state), ledger.overlay.as_slice()) {
            (_, []) => None,
            (None, _) => {
                let unfit = self.overlays.unfit(state);
                return Err(unfit.map_or_else(differs, |reason| Failure::permanent("migration_refused", reason)));
            }
            (Some(overlay), had) => {
                let had = prefix(had, overlay).ok_or_else(differs)?;
                Some((site.slug.clone().unwrap_or_default(), &overlay.versions[..had]))
            }
        };
        let should = self.expected(length, own, expected).await?;
        let found = in_time(self.ops, structure::read(client, &target, site.tenant)).await?;
        let differences = structure::compare(&found, &should, &target, site.tenant);
        let differences = if self.repair && differences.iter().any(Difference::is_safe) {
            self.repair(client, &target, state, &should, &ledger).await?
        } else if in_time(self.ops, structure::read_ledger(client, &target)).await? == ledger {
            Some(differences.into_iter().map(as_found).collect())
        } else {
            None
        };
        Ok(differences.map(|differences| VerifiedSite {
            version,
            fingerprint: Some(found.fingerprint()),
            as_expected: found == *should,
            differences,
            error: None,
            ..silent(state, String::new())
        }))
    }

    /// Runs what is safe; `None` where the schema has another ledger when the turn has come.
    async fn repair(
        &self,
        client: &Client,
        target: &Target,
        state: &SiteState,
        should: &Structure,
        ledger: &Ledger,
    ) -> Result<Option<Vec<SiteDifference>>, Failure> {
        let patience = &self.ops.fleet().patience;
        let repaired = match structure::repair(client, target, state.site.tenant, should, ledger, patience).await? {
            Repair::Ran(repaired) => repaired,
            Repair::OtherLedger => return Ok(None),
        };
        let told = repaired.into_iter().map(|repaired| SiteDifference {
            state: repaired.left.map_or(DriftState::Repaired, DriftState::Left),
            ..as_found(repaired.difference)
        });
        Ok(Some(told.collect()))
    }

    async fn expected(
        &self,
        length: usize,
        own: Option<(String, &[Version])>,
        expected: &Mutex<Expected>,
    ) -> Result<Arc<Structure>, Failure> {
        let key = (
            length,
            own.as_ref().map(|(slug, versions)| (slug.clone(), versions.len())),
        );
        let mut expected = expected.lock().await;
        if let Some(known) = expected.by_versions.get(&key) {
            return Ok(Arc::clone(known));
        }
        if let Some(reason) = &expected.silent {
            return Err(Failure::retry(UNREACHABLE, reason.clone()));
        }
        let own = own.map_or(&[][..], |(_, versions)| versions);
        let laid_out = in_time(self.ops, self.lay_out(&expected.client, length, own)).await;
        match laid_out {
            Ok(structure) => {
                let structure = Arc::new(structure);
                expected.by_versions.insert(key, Arc::clone(&structure));
                Ok(structure)
            }
            Err(failure) => {
                if let Failure::Retry(reason) = &failure
                    && reason.code == UNREACHABLE
                {
                    expected.silent = Some(format!("its scratch database: {}", reason.message));
                }
                Err(failure)
            }
        }
    }

    async fn lay_out(&self, client: &Client, length: usize, own: &[Version]) -> Result<Structure, Failure> {
        let installation = self.ops.catalog().installation();
        let target = ScratchSite::make(client, installation, &format!("version_{length}")).await?;
        let versions = isolate::in_order(&self.derived.versions[..length], own);
        structure::lay_out(client, &target, versions).await?;
        Ok(structure::read(client, &target, None).await?)
    }
}

fn as_found(difference: Difference) -> SiteDifference {
    SiteDifference {
        state: match difference.remedy {
            Remedy::Refused(sentence) => DriftState::Left(sentence),
            Remedy::Safe | Remedy::SafeAlone => DriftState::Repairable,
        },
        object: difference.object,
        change: difference.change,
        sql: difference.sql,
    }
}

/// How many versions, from the first on, the ledger holds, where it holds no other ones.
fn prefix(ledger: &[(i64, String)], derived: &Derived) -> Option<usize> {
    let same = ledger
        .iter()
        .zip(&derived.versions)
        .filter(|((version, checksum), derived)| *version == derived.version && *checksum == derived.checksum)
        .count();
    (same == ledger.len()).then_some(same)
}

fn silent(state: &SiteState, reason: String) -> VerifiedSite {
    VerifiedSite {
        server: state.site.server.clone(),
        database: state.site.database.name.clone(),
        schema: state.site.schema.clone(),
        slug: state.site.slug.clone(),
        version: state.version,
        fingerprint: None,
        as_expected: false,
        differences: Vec::new(),
        error: Some(reason),
    }
}
