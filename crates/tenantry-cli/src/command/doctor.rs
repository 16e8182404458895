//! `tenantry doctor`: everything that could be wrong, each with its mend.

mod fleet;
mod identity;
mod machine;

use clap::Args;
use serde::Serialize;
use tenantry_catalog::{Catalog, CatalogError};
use tenantry_ops::Ops;

use crate::{
    config::Config,
    connect,
    failure::Failure,
    output::{Answer, List, Output, table},
    progress::Progress,
};

/// Nothing to choose: it looks at all.
#[derive(Args, Debug)]
pub(crate) struct Arguments {}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    check: &'static str,
    /// How it is.
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Well,
    /// Works, and should be looked after.
    Warning,
    /// Does not work.
    Wrong,
}

impl Finding {
    fn well(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Well,
            found: found.into(),
            mend: None,
        }
    }

    fn warning(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Warning,
            found: found.into(),
            mend: Some(mend.into()),
        }
    }

    fn wrong(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Wrong,
            found: found.into(),
            mend: Some(mend.into()),
        }
    }

    /// Something that could not even be looked at.
    fn failed(check: &'static str, error: impl Into<anyhow::Error>) -> Self {
        let found = Failure::from(error).to_string();
        Self::wrong(
            check,
            found,
            "mend what the finding names, then run `tenantry doctor` again",
        )
    }
}

impl Answer for List<Finding> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|finding| {
            let sign = match finding.verdict {
                Verdict::Well => "well",
                Verdict::Warning => "look",
                Verdict::Wrong => "WRONG",
            };
            let found = match &finding.mend {
                Some(mend) => format!("{}\n→ {mend}", finding.found),
                None => finding.found.clone(),
            };
            [finding.check.to_owned(), sign.to_owned(), found]
        });
        table(["looked at", "is", "found"], rows)
    }
}

/// Looks at everything; what one check finds does not keep the others from being made.
pub(super) async fn run(_: Arguments, config: &Config, output: Output) -> Result<(), Failure> {
    let progress = Progress::start(output);
    let mut items = machine::look(config);
    progress.step("asking the catalog");
    match open_catalog(config).await {
        Ok(ops) => {
            items.push(Finding::well(
                "catalog",
                format!("installation {}", ops.catalog().installation()),
            ));
            items.extend(identity::look(&ops).await);
            progress.step("asking the servers");
            items.extend(fleet::look(&ops).await);
        }
        Err(finding) => items.push(finding),
    }
    progress.end();
    let wrong = items.iter().filter(|finding| finding.verdict == Verdict::Wrong).count();
    output.answer(&List { items })?;
    match wrong {
        0 => Ok(()),
        1 => Err(Failure::failed("one thing is wrong: see its mend")),
        many => Err(Failure::failed(format!("{many} things are wrong: see their mends"))),
    }
}

async fn open_catalog(config: &Config) -> Result<Ops, Finding> {
    use secrecy::ExposeSecret;
    let wrong = |found: String, mend: &str| Finding::wrong("catalog", found, mend);
    let (url, key) = connect::catalog(config)
        .map_err(|failure| wrong(failure.to_string(), "say where the catalog is, and start again"))?;
    let catalog = Catalog::connect(url.expose_secret(), &key).await.map_err(|error| {
        let mend = mend_of(&error);
        wrong(Failure::from(error).to_string(), mend)
    })?;
    connect::ops_on(catalog, config).map_err(|failure| wrong(failure.to_string(), "correct the configuration"))
}

fn mend_of(error: &CatalogError) -> &'static str {
    match error {
        CatalogError::Url(_) => "write it as postgres://user:password@host:port/database",
        CatalogError::WrongKey | CatalogError::Secret(_) => {
            "use the key that this catalog was made with; without it, its servers' passwords and keys can't be read"
        }
        CatalogError::TooNew { .. } | CatalogError::Changed { .. } => {
            "use the release of tenantry that the servers use"
        }
        _ => "check that PostgreSQL runs there, the address, the password, and that the role owns the database",
    }
}
