//! A cached value of a tenant.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    measure::Spread,
    report::{Finding, Target},
    run::Run,
};

/// Reads in each measurement, and values they go over.
const CALLS: usize = 200_000;
const VALUES: usize = 1000;

/// Something of the size that is worth keeping.
#[derive(Serialize, Deserialize)]
struct Contact {
    id: usize,
    name: String,
    email: String,
}

/// In this process: the tenant, the key and the type are looked at, and nothing is read from JSON again.
pub(super) async fn read(run: &Run) -> Result<Finding> {
    let scope = &run.world.shared[0].scope;
    let keys: Vec<String> = (0..VALUES).map(|id| format!("contact:{id}")).collect();
    for (id, key) in keys.iter().enumerate() {
        let contact = Contact {
            id,
            name: "Ada Lovelace".to_owned(),
            email: "ada@example.com".to_owned(),
        };
        let _ = scope.cache().set(key, &contact).await?;
    }
    let mut times_us = Vec::new();
    for _ in 0..run.plan.rounds {
        let since = Instant::now();
        for n in 0..CALLS {
            let id = n * 379 % VALUES;
            let contact = scope.cache().get::<Contact>(&keys[id]).await;
            ensure!(contact.context("a value is gone")?.id == id, "another value was read");
        }
        times_us.push(since.elapsed().as_secs_f64() * 1e6 / CALLS as f64);
    }
    let finding = Finding::new(
        "cache",
        "reading a cached value of the tenant in this process",
        "–",
        Spread::of(times_us),
        Target::AtMost(1.0),
    );
    Ok(finding.unit("µs").detail("one of 1000 values, by its key"))
}
