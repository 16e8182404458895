//! Programs that try to reach another tenant's rows.
//!
//! Each runs first on an open database, where it must succeed, and then on ours, where it must not. What counts as a
//! success: a row, message, detail, notice or notification that holds the victim's mark; rows, rights or functions of the
//! victim's that are others afterwards; an answer that tells what the victim has; a forged token that is accepted; a step
//! of the victim's that fails.

mod act;
mod declared;
mod ground;
mod line;
mod mutate;
mod open;
mod ours;
mod program;
mod report;
mod run;
mod seat;
mod suite;
mod token;

use anyhow::{Result, bail};

use tenantry_testing::{OwnCluster, OwnClusterOptions};

use self::suite::Plan;

/// What to attack.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only programs whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// Only this version of PostgreSQL.
    #[arg(long, value_parser = ["15", "18"])]
    pg: Option<String>,
    /// Only grounds whose name holds this: `open`, `shared sealed`, `database`, …
    #[arg(long)]
    ground: Option<String>,
    /// Only the open database: whether the programs bite.
    #[arg(long)]
    open_only: bool,
    /// How many mutated tokens are offered to each tier of each version.
    #[arg(long, default_value_t = 10_000)]
    tokens: u64,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// All that was said in the programs that went wrong.
    #[arg(long)]
    verbose: bool,
}

/// Runs the programs.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut programs = program::all()?;
    programs.retain(|program| options.only.as_ref().is_none_or(|only| program.name.contains(only)));
    if programs.is_empty() {
        bail!("no program has such a name");
    }
    let plan = Plan {
        programs,
        shapes: suite::every_shape()
            .into_iter()
            .filter(|shape| {
                options
                    .ground
                    .as_ref()
                    .is_none_or(|only| shape.to_string().contains(only))
            })
            .collect(),
        open: options.ground.as_ref().is_none_or(|only| "open".contains(only)),
        ours: !options.open_only,
        tokens: if options.only.is_some() || options.ground.is_some() || options.open_only {
            0
        } else {
            options.tokens
        },
    };
    let mut report = report::Report::default();
    for version in ["15", "18"] {
        if options.pg.as_deref().is_some_and(|only| only != version) {
            continue;
        }
        let server = server_of(version).await;
        if server.cluster().major().to_string() != version {
            bail!(
                "PostgreSQL {version} can't be had here, only {}",
                server.cluster().major()
            );
        }
        plan.run(server.cluster(), &mut report).await?;
    }
    report.print(options.json, options.verbose);
    report.verdict()
}
/// A server of its own: the openings make roles superusers and grant parameters, which are the server's.
async fn server_of(version: &str) -> OwnCluster {
    let binaries = match version {
        "18" => tenantry_testing::second_binaries(),
        _ => tenantry_testing::default_binaries(),
    };
    tenantry_testing::own_cluster(OwnClusterOptions {
        binaries: Some(binaries),
        ..OwnClusterOptions::default()
    })
    .await
}

/// 128 random bits.
fn random_hex() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use tenantry_core::Tier;

    use super::*;
    use crate::attack::ours::{Living, Shape};

    /// The whole suite is `cargo xtask attack`; this is what every change has to pass.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_program_bites_and_reaches_nothing_in_shared_tables() {
        let shape = Shape {
            living: Living::Shared,
            tier: Tier::Sealed,
            hardened: false,
        };
        let plan = Plan {
            programs: program::all().unwrap(),
            shapes: vec![shape],
            open: true,
            ours: true,
            tokens: 20_000,
        };
        let mut report = report::Report::default();
        let server = server_of("15").await;
        plan.run(server.cluster(), &mut report).await.unwrap();
        report.print(false, true);
        report.verdict().unwrap();
    }

    /// What is broken in ours is found: a suite that finds nothing anywhere would pass as well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn defects_in_ours_are_found() {
        let server = server_of("15").await;
        let installation = tenantry_testing::installation_id().parse().unwrap();
        let defects = [
            ("truncate", "changed", "grant truncate on app.contact to {app}"),
            ("unique-email", "told", "create unique index global on app.contact (email)"),
            (
                "code-not-checked",
                "read, accepted",
                "create or replace function tenantry.enter(p_msg bytea, p_mac bytea) returns void language sql security definer as
                 $$ select set_config('backtrace_functions', tenantry_private.carried(p_msg), false),
                           set_config('tenantry.expect', encode(substr(p_msg, 1, 25), 'hex'), true) $$;
                 alter function tenantry.enter owner to {seal}",
            ),
            ("plain-select", "read", "alter table app.contact disable row level security"),
            ("sequence-rewound", "denied", "revoke usage on sequence app.ticket_id_seq from {app}"),
        ];
        let names = defects.map(|(name, ..)| name);
        let programs: Vec<_> = program::all()
            .unwrap()
            .into_iter()
            .filter(|program| names.contains(&program.name.as_str()))
            .collect();
        let application = ours::Application::derive(server.cluster(), &installation, &programs, false)
            .await
            .unwrap();
        let world = ours::World {
            cluster: server.cluster(),
            installation: &installation,
            application: &application,
            bookings: false,
        };
        let shape = Shape {
            living: Living::Shared,
            tier: Tier::Sealed,
            hardened: false,
        };
        for (name, found, defect) in defects {
            let program = programs.iter().find(|program| program.name == name).unwrap();
            let mut ground = world.ground(shape).await.unwrap();
            let before = run::run(&mut ground, program).await.unwrap();
            assert!(!before.succeeded(), "{name}: {before:?}");
            ground.own_admin.batch_execute(&ground.fill(defect)).await.unwrap();
            let after = run::run(&mut ground, program).await.unwrap();
            assert_eq!(after.words(), found, "{name}: {after:?}");
            tokio::task::spawn_blocking(move || drop(ground)).await.unwrap();
        }
    }
}
