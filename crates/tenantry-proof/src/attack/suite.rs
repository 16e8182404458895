//! All programs on one version: first whether they bite, then whether they reach anything on ours.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tenantry_core::{InstallationId, Tier};
use tenantry_testing::TestCluster;

use super::{
    mutate,
    open::Open,
    ours::{Application, Living, Shape, World},
    program::Program,
    report::{Report, Result as Line},
    run::{self, Outcome},
};

/// What is run.
pub(super) struct Plan {
    pub(super) programs: Vec<Program>,
    pub(super) shapes: Vec<Shape>,
    /// Whether they have to bite.
    pub(super) open: bool,
    /// Not only on the open database.
    pub(super) ours: bool,
    /// Mutated tokens for each tier.
    pub(super) tokens: u64,
}

/// How many programs, or grounds, are under way at once: more would wait for each other's processors.
const AT_ONCE: usize = 6;

/// Every way in which tenants live, in every tier.
pub(super) fn every_shape() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for tier in [Tier::Sealed, Tier::Signed] {
        shapes.extend(Living::ALL.map(|living| Shape {
            living,
            tier,
            hardened: false,
        }));
    }
    // An own database that is hardened is T4.
    shapes.extend(Living::ALL.map(|living| Shape {
        living,
        tier: Tier::Sealed,
        hardened: true,
    }));
    shapes
}

impl Plan {
    /// Runs everything on one server.
    pub(super) async fn run(&self, cluster: &TestCluster, report: &mut Report) -> Result<()> {
        let version = cluster.major();
        let begun = Instant::now();
        let (programs, skipped) = self.able(cluster).await?;
        for (name, reason) in skipped {
            report.skip(version, name, reason);
        }
        let bookings = has_extension(cluster, "btree_gist").await?;

        if self.open {
            eprintln!("PostgreSQL {version}: {} programs on the open database", programs.len());
            for line in bites(cluster, &programs, bookings).await? {
                report.add(version, line);
            }
        }
        if !self.ours {
            return Ok(());
        }

        let installation: InstallationId = tenantry_testing::installation_id().parse().context("an id")?;
        let application = Application::derive(cluster, &installation, &programs, bookings).await?;
        for (program, sentence) in &application.refused {
            report.refuse(version, program, sentence);
        }
        let world = World {
            cluster,
            installation: &installation,
            application: &application,
            bookings,
        };
        let lines: Vec<Vec<Line>> = stream::iter(&self.shapes)
            .map(|shape| on_ours(&world, *shape, &programs))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for line in lines.into_iter().flatten() {
            report.add(version, line);
        }
        if self.tokens > 0 {
            self.offer_mutated_tokens(&world, report).await?;
        }
        eprintln!("PostgreSQL {version}: done in {} s", begun.elapsed().as_secs());
        Ok(())
    }

    async fn offer_mutated_tokens(&self, world: &World<'_>, report: &mut Report) -> Result<()> {
        for tier in [Tier::Sealed, Tier::Signed] {
            eprintln!(
                "PostgreSQL {}: {} mutated tokens, {tier}",
                world.cluster.major(),
                self.tokens
            );
            let ground = world
                .ground(Shape {
                    living: Living::Shared,
                    tier,
                    hardened: false,
                })
                .await?;
            let offered = mutate::offer(&ground, self.tokens).await?;
            report.tokens(world.cluster.major(), tier, offered);
        }
        Ok(())
    }

    /// Those that this server can run, and why not the others.
    async fn able(&self, cluster: &TestCluster) -> Result<(Vec<Program>, Vec<(String, String)>)> {
        let (mut able, mut skipped) = (Vec::new(), Vec::new());
        for program in &self.programs {
            if program.since > cluster.major() {
                skipped.push((program.name.clone(), format!("needs PostgreSQL {}", program.since)));
                continue;
            }
            if let Some(name) = &program.extension
                && !has_extension(cluster, name).await?
            {
                skipped.push((program.name.clone(), format!("the server has no extension {name}")));
                continue;
            }
            able.push(program.clone());
        }
        Ok((able, skipped))
    }
}

/// Each program on a copy of the open database of its own.
async fn bites(cluster: &TestCluster, programs: &[Program], bookings: bool) -> Result<Vec<Line>> {
    let open = Open::make(cluster, bookings).await?;
    let lines = stream::iter(programs)
        .map(|program| async {
            let mut ground = open.ground().await?;
            let outcome = run::run(&mut ground, program).await;
            open.drop_ground(ground).await;
            Ok::<_, anyhow::Error>(Line::new("open", program, outcome))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(lines)
}

/// All programs on one ground of ours, one after the other.
async fn on_ours(world: &World<'_>, shape: Shape, programs: &[Program]) -> Result<Vec<Line>> {
    let mut ground = world.ground(shape).await?;
    eprintln!(
        "PostgreSQL {}: {} programs on {}",
        world.cluster.major(),
        programs.len(),
        ground.label
    );
    let mut lines = Vec::new();
    for program in programs {
        // What the engine refused is not there; its attack runs all the same, and finds nothing to call.
        let outcome: Result<Outcome> = run::run(&mut ground, program).await;
        lines.push(Line::new(&ground.label, program, outcome));
    }
    // A database is dropped by waiting for its sessions to go, which must not keep them from going.
    tokio::task::spawn_blocking(move || drop(ground)).await?;
    Ok(lines)
}

async fn has_extension(cluster: &TestCluster, name: &str) -> Result<bool> {
    let client = cluster.connect("postgres").await;
    let row = client
        .query_one(
            "select exists (select from pg_available_extensions where name = $1)",
            &[&name],
        )
        .await
        .context("the extensions can't be listed")?;
    Ok(row.get(0))
}
