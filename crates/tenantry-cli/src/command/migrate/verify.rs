//! `tenantry migrate verify`: drift, as SQL.

use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use serde::Serialize;
use tenantry_engine::structure::Change;
use tenantry_ops::{DriftState, MigrationError, Ops, SiteDifference, VerifiedSite, Verify};

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output},
    progress::Progress,
};

/// What to verify.
///
/// Exit codes: 0 nothing differs (any more), 1 something does, 2 the call is wrong.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only this tenant, which has a schema or a database of its own; may be repeated
    #[arg(long = "tenant", value_name = "SLUG")]
    tenants: Vec<String>,
    /// Run what is safe: policies, rights, defaults, indexes, views, functions, comments
    #[arg(long)]
    repair: bool,
}

#[derive(Serialize)]
struct Report {
    schemas: usize,
    /// How many are as they should be.
    right: usize,
    sites: Vec<Site>,
}

#[derive(Serialize)]
struct Site {
    /// The tenant it belongs to; none where its tables are shared.
    tenant: Option<String>,
    server: String,
    database: String,
    schema: String,
    version: i64,
    fingerprint: Option<String>,
    differences: Vec<Line>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Line {
    object: String,
    change: Change,
    sql: Vec<String>,
    /// `repairable`, `repaired` or `left`.
    state: &'static str,
    /// Why it is left.
    reason: Option<String>,
}

impl From<VerifiedSite> for Site {
    fn from(site: VerifiedSite) -> Self {
        Self {
            tenant: site.slug,
            server: site.server,
            database: site.database,
            schema: site.schema,
            version: site.version,
            fingerprint: site.fingerprint,
            differences: site.differences.into_iter().map(Line::from).collect(),
            error: site.error,
        }
    }
}

impl From<SiteDifference> for Line {
    fn from(difference: SiteDifference) -> Self {
        let (state, reason) = match difference.state {
            DriftState::Repairable => ("repairable", None),
            DriftState::Repaired => ("repaired", None),
            DriftState::Left(reason) => ("left", Some(reason)),
        };
        Self {
            object: difference.object,
            change: difference.change,
            sql: difference.sql,
            state,
            reason,
        }
    }
}

impl Answer for Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} of {} schemas are what their migrations make",
            self.right, self.schemas
        );
        for site in &self.sites {
            text.push_str(&site.text());
        }
        text
    }
}

impl Site {
    fn text(&self) -> String {
        if self.differences.is_empty() && self.error.is_none() {
            return String::new();
        }
        let whose = self.tenant.as_deref().unwrap_or("shared tables");
        let mut text = format!(
            "\n\n-- {whose}, version {}, on {}\n\\connect {}\nset search_path = {}, tenantry_ext;",
            self.version, self.server, self.database, self.schema
        );
        if let Some(error) = &self.error {
            text.push_str(&format!("\n-- could not be verified: {error}"));
        }
        for line in &self.differences {
            text.push_str(&line.text());
        }
        text
    }
}

impl Line {
    fn text(&self) -> String {
        let change = match self.change {
            Change::Missing => "is missing",
            Change::Extra => "is one too many",
            Change::Changed => "differs",
        };
        let state = match (self.state, &self.reason) {
            (_, Some(reason)) => format!(": {reason}"),
            ("repaired", None) => ": repaired".to_owned(),
            _ => String::new(),
        };
        // What a repair has run is not to be run again.
        let mark = if self.state == "repaired" { "-- " } else { "" };
        let mut text = format!("\n-- {} {change}{state}", self.object);
        for sql in &self.sql {
            text.push_str(&format!("\n{mark}{};", sql.replace('\n', &format!("\n{mark}"))));
        }
        text
    }
}

pub(super) async fn run(ops: &Ops, options: Options, output: Output, progress: &Progress) -> Result<(), Failure> {
    let verify = Verify {
        only: options.tenants,
        repair: options.repair,
    };
    progress.step("reading every schema");
    let total = match verify.only.len() {
        0 => ops.migration_status(&authority()).await?.len(),
        named => named,
    };
    let done = AtomicUsize::new(0);
    let show = |schema: &str| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        progress.step(format!("read {schema}: {done} of {total}"));
    };
    let verified = ops.verify_migrations(&authority(), &verify, &show).await;
    progress.end();
    let verified = match verified {
        Err(MigrationError::Rollout(error)) => return Err(Failure::usage(error.to_string())),
        verified => verified?,
    };
    let right = verified.iter().filter(|site| site.is_right()).count();
    let unread = verified.iter().filter(|site| site.error.is_some()).count();
    let repairable = verified
        .iter()
        .flat_map(|site| &site.differences)
        .any(|difference| difference.state == DriftState::Repairable);
    let report = Report {
        schemas: verified.len(),
        right,
        sites: verified.into_iter().map(Site::from).collect(),
    };
    output.answer(&report)?;
    verdict(report.schemas, report.schemas - right - unread, unread, repairable)
}

/// What differs and what nobody could look at are two things: a server that is down has no drift to repair.
fn verdict(all: usize, differing: usize, unread: usize, repairable: bool) -> Result<(), Failure> {
    let differing = match differing {
        0 => None,
        differing if repairable => Some(format!(
            "{differing} of {all} schemas differ from what their migrations make: `tenantry migrate verify --repair` mends what is safe"
        )),
        differing => Some(format!(
            "{differing} of {all} schemas differ from what their migrations make: the report says what to run and why it was not"
        )),
    };
    let unread = (unread > 0).then(|| {
        format!("{unread} of {all} schemas could not be read, so nobody knows whether they differ: the report says why (is their server up?)")
    });
    let said: Vec<String> = differing.into_iter().chain(unread).collect();
    if said.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(said.join("; ")))
    }
}
