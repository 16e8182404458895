//! What the linter says of the files that somebody lacks.

use tenantry_engine::migrate::{self, Files, LintFinding};

use super::SiteStatus;
use crate::Ops;

impl Ops {
    /// What the linter says of the files that these schemas lack, those of single tenants among them.
    #[must_use]
    pub fn lint_pending(&self, sites: &[SiteStatus]) -> Vec<LintFinding> {
        let Some(files) = &self.fleet().migrations else {
            return Vec::new();
        };
        let own = files.overlay_slugs().filter_map(|slug| files.overlay(slug));
        std::iter::once(Files::clone(files))
            .chain(own)
            .flat_map(|files| {
                let pending = files.as_slice().iter().filter(|file| {
                    let lacks = |site: &SiteStatus| site.pending.contains(&file.name);
                    sites.iter().any(lacks)
                });
                pending.flat_map(migrate::lint).collect::<Vec<_>>()
            })
            .collect()
    }
}
