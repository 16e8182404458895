//! What pending migrations do where nobody is: run for real on a scratch copy of each version that the fleet has, on the
//! server that has it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::fleet_state::SiteState;
use tenantry_core::{OperatorScope, ServerId};
use tenantry_engine::{
    home::ScratchDatabase,
    isolate::{self, Derived, Version},
    structure::{self, Rehearsed, ScratchSite},
};

use super::{MigrationError, overlay::Overlays, state};
use crate::{Authority, Ops, runner::Failure};

/// Servers that are asked at the same time.
const AT_ONCE: usize = 4;

/// The pending files from one version on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rehearsal {
    /// On which server.
    pub server: String,
    /// Whose copy it was, by slug, where the tenant has files of its own.
    pub tenant: Option<String>,
    /// The version that the schemas have; 0 for none.
    pub from: i64,
    /// How many schemas have it.
    pub sites: usize,
    /// What each file did.
    pub files: Vec<Rehearsed>,
    /// Why they did not run to the end.
    pub error: Option<String>,
}

/// Schemas that are alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Like {
    /// How many of the fleet's versions they have.
    length: usize,
    /// Whose own files, and how many of them they have.
    own: Option<(String, usize)>,
}

/// How many schemas of one server are alike, with an example.
type Copies = BTreeMap<Like, (usize, SiteState)>;

impl Ops {
    /// Runs what is pending on a scratch copy, without rows, of each distinct version that a server has, and says which locks
    /// each file took on tables that stood before, which it wrote anew, and which it read whole. A tenant with files of its
    /// own has a copy of its own. The copies are gone afterwards; after a crash the next run drops them. `progress` hears how
    /// many copies of how many are done.
    ///
    /// # Errors
    /// See [`MigrationError`]; that a file fails, or a server can't be reached, stands with its version.
    ///
    /// # Cancel safety
    /// The next run drops what was made.
    pub async fn rehearse_migrations(
        &self,
        authority: &Authority,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<Rehearsal>, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let all = self.fleet_state(&derived).await?;
        let overlays = self.overlays(&all).await?;
        let mut servers: BTreeMap<(String, ServerId), Copies> = BTreeMap::new();
        for site in all {
            let Some(like) = like(&site, &derived, &overlays) else {
                continue;
            };
            let server = (site.site.server.clone(), site.site.database.server);
            let copies = servers.entry(server).or_default();
            copies.entry(like).or_insert((0, site)).0 += 1;
        }
        let counted = Counted {
            done: AtomicUsize::new(0),
            total: servers.values().map(BTreeMap::len).sum(),
            progress,
        };
        let rehearsed = servers.into_iter().map(|((name, server), copies)| {
            let on_server = OnServer {
                ops: self,
                name,
                derived: &derived,
                overlays: &overlays,
                counted: &counted,
            };
            async move { on_server.rehearse(server, copies).await }
        });
        let all: Vec<Vec<Rehearsal>> = stream::iter(rehearsed).buffered(AT_ONCE).collect().await;
        Ok(all.into_iter().flatten().collect())
    }
}

/// What the schema is like, where something is pending. A ledger of another kind is told by the status; nothing can be tried
/// on a copy of it.
fn like(site: &SiteState, derived: &Derived, overlays: &Overlays) -> Option<Like> {
    let length = state::prefix(site, derived)?;
    let own = match (overlays.of(site), overlays.unfit(site)) {
        (None, None) => None,
        (Some(_), _) => Some((site.site.slug.clone()?, overlays.had(site)?)),
        // Nothing can be tried, which is what the plan has to tell.
        (None, Some(_)) => Some((site.site.slug.clone()?, 0)),
    };
    let pending = length < derived.versions.len() || !overlays.has_all(site);
    pending.then_some(Like { length, own })
}

struct Counted<'a> {
    done: AtomicUsize,
    total: usize,
    progress: &'a (dyn Fn(usize, usize) + Sync),
}

impl Counted<'_> {
    fn one_more(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (self.progress)(done, self.total);
    }
}

/// One server while its copies are made.
struct OnServer<'a> {
    ops: &'a Ops,
    name: String,
    derived: &'a Derived,
    overlays: &'a Overlays,
    counted: &'a Counted<'a>,
}

impl OnServer<'_> {
    async fn rehearse(&self, server: ServerId, copies: Copies) -> Vec<Rehearsal> {
        let scratch = match self.ops.scratch_on(server).await {
            Ok(scratch) => scratch,
            Err(failure) => {
                let reason = failure.message();
                let copies = copies.into_iter();
                return copies
                    .map(|(like, (sites, _))| {
                        self.counted.one_more();
                        self.told(&like, sites, Err(reason.clone()))
                    })
                    .collect();
            }
        };
        let mut rehearsals = Vec::new();
        for (number, (like, (sites, example))) in copies.into_iter().enumerate() {
            let files = self.copy(&scratch, number, &like, &example).await;
            rehearsals.push(self.told(&like, sites, files.map_err(|failure| failure.message())));
            self.counted.one_more();
        }
        scratch.remove().await;
        rehearsals
    }

    async fn copy(
        &self,
        scratch: &ScratchDatabase,
        number: usize,
        like: &Like,
        example: &SiteState,
    ) -> Result<Vec<Rehearsed>, Failure> {
        if let Some(reason) = self.overlays.unfit(example) {
            return Err(Failure::permanent("migration_refused", reason));
        }
        let client = scratch.connect().await?;
        let installation = self.ops.catalog().installation();
        let target = ScratchSite::make(&client, installation, &format!("copy_{number}")).await?;
        let (had, pending) = self.derived.versions.split_at(like.length);
        let own: &[Version] = self.overlays.of(example).map_or(&[], |own| &own.versions);
        let (own_had, own_pending) = own.split_at(like.own.as_ref().map_or(0, |own| own.1));
        structure::lay_out(&client, &target, isolate::in_order(had, own_had)).await?;
        Ok(structure::rehearse(&client, &target, isolate::in_order(pending, own_pending)).await?)
    }

    fn told(&self, like: &Like, sites: usize, files: Result<Vec<Rehearsed>, String>) -> Rehearsal {
        let before = like
            .length
            .checked_sub(1)
            .and_then(|last| self.derived.versions.get(last));
        let (files, error) = match files {
            Ok(files) => (files, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        Rehearsal {
            server: self.name.clone(),
            tenant: like.own.as_ref().map(|(slug, _)| slug.clone()),
            from: before.map_or(0, |version| version.version),
            sites,
            files,
            error,
        }
    }
}
