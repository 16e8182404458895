//! `tenantry tenant diff`: what differs between two tenants.

use clap::Args;
use serde::Serialize;
use tenantry_ops::{Ops, TableDifference, TenantRef};

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output, table},
    progress::Progress,
};

/// The tenants to compare.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The first tenant's slug or id
    a: String,
    /// The second tenant's slug or id
    b: String,
    /// Name so many rows of each table at most
    #[arg(long, default_value_t = 20)]
    examples: usize,
}

/// What differs.
#[derive(Serialize)]
struct Differences {
    same: bool,
    tables: Vec<TableDifference>,
}

impl Answer for Differences {
    fn text(&self) -> String {
        let rows = self.tables.iter().map(|found| {
            [
                found.table.clone(),
                found.same.to_string(),
                found.only_in_a.to_string(),
                found.only_in_b.to_string(),
                found.differing.to_string(),
                found.structure.join(", "),
            ]
        });
        let mut text = table(
            ["table", "same", "only in a", "only in b", "differing", "structure"],
            rows,
        );
        for found in &self.tables {
            for example in &found.examples {
                let key: Vec<&str> = example
                    .key
                    .iter()
                    .map(|value| value.as_deref().unwrap_or("null"))
                    .collect();
                text.push_str(&format!(
                    "\n{} {} ({})",
                    found.table,
                    example.kind.replace('_', " "),
                    key.join(", ").escape_debug()
                ));
            }
        }
        text
    }
}

/// Exit code 1 where there is a difference, as `diff` has it.
pub(super) async fn run(ops: &Ops, diff: &Diff, output: Output) -> Result<(), Failure> {
    let progress = Progress::start(output);
    progress.step("comparing");
    let (a, b) = (TenantRef::parse(&diff.a), TenantRef::parse(&diff.b));
    let compared = ops.compare_tenants(&authority(), &a, &b, diff.examples).await;
    progress.end();
    let compared = compared?;
    let same = compared.is_same();
    output.answer(&Differences {
        same,
        tables: compared.tables,
    })?;
    if same {
        return Ok(());
    }
    Err(Failure::failed(format!("{} and {} differ", diff.a, diff.b)))
}
