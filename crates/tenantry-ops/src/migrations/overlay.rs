//! Files of single tenants, on top of the fleet's: only for those with a schema or a database of their own.

use std::{collections::HashMap, sync::Arc};

use tenantry_catalog::{
    app_derived,
    fleet_state::{self, SiteState},
    overlay_base::{self, OwnFile},
    placement,
};
use tenantry_core::TenantId;
use tenantry_engine::{
    home::ScratchDatabase,
    isolate::{self, DeriveError, Derived},
    migrate::{ApplyError, File, Files},
};

use super::MigrationError;
use crate::{Ops, derived::key_of};

/// The overlays of a fleet, and how far each is as the catalog knows it.
#[derive(Default)]
pub(super) struct Overlays {
    by_slug: HashMap<String, Overlay>,
}

struct Overlay {
    files: Files,
    /// What they become, or why they can't: that concerns this tenant and nobody else.
    derived: Result<Arc<Derived>, String>,
    had: Vec<(i64, String)>,
}

impl Overlay {
    fn lacks(&self, file: &File) -> bool {
        let has = |(version, checksum): &(i64, String)| *version == file.version && *checksum == file.checksum;
        !self.had.iter().any(has)
    }

    fn lacks_some(&self) -> bool {
        self.files.as_slice().iter().any(|file| self.lacks(file))
    }

    /// Whether it was applied with another text.
    fn is_edited(&self, file: &File) -> bool {
        let has_other = |(version, checksum): &(i64, String)| *version == file.version && *checksum != file.checksum;
        self.had.iter().any(has_other)
    }
}

impl Overlays {
    fn get(&self, state: &SiteState) -> Option<&Overlay> {
        self.by_slug.get(state.site.slug.as_ref()?)
    }

    /// What a schema's own files become, if it has some that can be worked out.
    pub(super) fn of(&self, state: &SiteState) -> Option<&Derived> {
        self.get(state)?.derived.as_deref().ok()
    }

    /// Why nothing can be made of a schema's own files.
    pub(super) fn unfit(&self, state: &SiteState) -> Option<&str> {
        self.get(state)?.derived.as_ref().err().map(String::as_str)
    }

    /// The same where it keeps the schema back: it lacks one of them. A schema that has them all goes on with the fleet's.
    pub(super) fn refused(&self, state: &SiteState) -> Option<&str> {
        self.unfit(state).filter(|_| !self.has_all(state))
    }

    /// Whether a schema has all of its own files, as they are.
    pub(super) fn has_all(&self, state: &SiteState) -> bool {
        self.get(state).is_none_or(|overlay| !overlay.lacks_some())
    }

    /// Why nothing can be done with a schema's own files until a change is undone, in a run's words: one was edited after it had been
    /// applied, as the catalog's copy of the ledger tells.
    pub(super) fn edited(&self, state: &SiteState) -> Option<String> {
        let overlay = self.get(state)?;
        let file = overlay.files.as_slice().iter().find(|file| overlay.is_edited(file))?;
        let error = ApplyError::Edited {
            name: file.name.clone(),
            schema: state.site.schema.clone(),
        };
        Some(error.to_string())
    }

    /// How many of its own files, from the first on, a schema has, where it has no other ones; `None` where it has, or where
    /// there are no files.
    pub(super) fn had(&self, state: &SiteState) -> Option<usize> {
        let overlay = self.get(state)?;
        let versions = overlay.files.as_slice();
        let same = versions
            .iter()
            .zip(&overlay.had)
            .take_while(|(version, had)| (version.version, &version.checksum) == (had.0, &had.1))
            .count();
        (same == overlay.had.len()).then_some(same)
    }

    /// The names of a schema's own files that it lacks; one that was edited is none of them.
    pub(super) fn pending(&self, state: &SiteState) -> Vec<String> {
        let Some(overlay) = self.get(state) else {
            return Vec::new();
        };
        let files = overlay.files.as_slice().iter();
        files
            .filter(|file| overlay.lacks(file) && !overlay.is_edited(file))
            .map(|file| file.name.clone())
            .collect()
    }
}

impl Ops {
    /// The overlays of these schemas. One that is refused is noted with its tenant.
    pub(super) async fn overlays(&self, sites: &[SiteState]) -> Result<Overlays, MigrationError> {
        let mut overlays = Overlays::default();
        let Some(files) = &self.fleet().migrations else {
            return Ok(overlays);
        };
        let slugs: Vec<&str> = files.overlay_slugs().collect();
        if slugs.is_empty() {
            return Ok(overlays);
        }
        let client = self.catalog().client().await?;
        if let Some(shared) = placement::in_shared_tables(&client, &slugs).await?.pop() {
            return Err(MigrationError::SharedOverlay(shared));
        }
        let had = fleet_state::list_overlays(&client).await?;
        drop(client);
        for state in sites {
            let Some((slug, files)) = state
                .site
                .slug
                .as_ref()
                .and_then(|slug| Some((slug, files.overlay(slug)?)))
            else {
                continue;
            };
            let derived = match self.overlay(slug, state.site.tenant).await {
                Ok(Some(derived)) => Ok(derived),
                Ok(None) => continue,
                Err(MigrationError::Refused(reason)) => Err(reason),
                Err(error) => return Err(error),
            };
            let had = had
                .iter()
                .filter(|row| row.0 == state.site.database.id && row.1 == state.site.schema)
                .map(|row| (row.2, row.3.clone()))
                .collect();
            overlays.by_slug.insert(slug.clone(), Overlay { files, derived, had });
        }
        Ok(overlays)
    }

    /// What a tenant's own files become on top of the fleet's as it was when they were written; worked out once, and kept in
    /// the catalog. By the tenant, where there is one already, the version is known again that it was when the tenant had another slug.
    pub(crate) async fn overlay(
        &self,
        slug: &str,
        tenant: Option<TenantId>,
    ) -> Result<Option<Arc<Derived>>, MigrationError> {
        let Some(files) = self.fleet().migrations.clone() else {
            return Ok(None);
        };
        let Some(overlay) = files.overlay(slug) else {
            return Ok(None);
        };
        let bases = self.overlay_bases((slug, tenant), &files, &overlay).await?;
        let layered = files.with_own(&overlay, |file| bases.get(&file.version).copied().unwrap_or(i64::MAX));
        let key = key_of(layered.as_slice());
        let client = self.catalog().client().await?;
        let kept = app_derived::find(&client, &key).await?;
        drop(client);
        if let Some(derived) = kept.and_then(|text| serde_json::from_str(&text).ok()) {
            return Ok(Some(Arc::new(derived)));
        }
        let derived = self.derive_overlay_somewhere(&layered).await?;
        let text = serde_json::to_string(&derived).map_err(|error| MigrationError::Server(error.to_string()))?;
        let client = self.catalog().client().await?;
        app_derived::keep(&client, &key, &text).await?;
        Ok(Some(Arc::new(derived)))
    }

    /// On top of which of the fleet's migrations each of these files comes: the one that it names, else the newest when it
    /// was first seen.
    async fn overlay_bases(
        &self,
        (slug, tenant): (&str, Option<TenantId>),
        files: &Files,
        overlay: &Files,
    ) -> Result<HashMap<i64, i64>, MigrationError> {
        let mut bases = HashMap::new();
        let (named, unnamed): (Vec<_>, Vec<_>) =
            overlay.as_slice().iter().partition(|file| file.header.after.is_some());
        for file in named {
            let after = file.header.after.unwrap_or_default();
            if !files.as_slice().iter().any(|fleet| fleet.version == after) {
                return Err(MigrationError::Refused(format!(
                    "{}:1: no migration of the fleet has the number {after}; write the one that the file comes behind",
                    file.name
                )));
            }
            bases.insert(file.version, after);
        }
        if !unnamed.is_empty() {
            let newest = files.as_slice().last().map_or(0, |file| file.version);
            let own: Vec<_> = unnamed.iter().map(|file| own_file(file)).collect();
            let client = self.catalog().client().await?;
            let settled = overlay_base::settle(&client, (slug, tenant), &own, newest).await?;
            bases.extend(unnamed.iter().map(|file| file.version).zip(settled));
        }
        Ok(bases)
    }

    async fn derive_overlay_somewhere(&self, layered: &Files) -> Result<Derived, MigrationError> {
        let mut servers = self.scratch_servers().await?;
        loop {
            let scratch = self.next_scratch(&mut servers).await?;
            let derived = self.derive_overlay_on(&scratch, layered).await;
            scratch.remove().await;
            match derived {
                Err(MigrationError::Server(_)) if !servers.is_empty() => {}
                other => return other,
            }
        }
    }

    async fn derive_overlay_on(&self, scratch: &ScratchDatabase, layered: &Files) -> Result<Derived, MigrationError> {
        let failed = |error: &dyn std::fmt::Display| MigrationError::Server(error.to_string());
        let client = scratch.connect().await.map_err(|error| failed(&error))?;
        let owner = tenantry_engine::Roles::of(self.catalog().installation()).owner;
        isolate::derive_overlay(&client, owner.as_str(), layered)
            .await
            .map_err(|error| match error {
                DeriveError::Scratch(cause) => failed(&cause),
                refused => MigrationError::Refused(refused.to_string()),
            })
    }
}

fn own_file(file: &File) -> OwnFile<'_> {
    OwnFile {
        version: file.version,
        checksum: &file.checksum,
    }
}
