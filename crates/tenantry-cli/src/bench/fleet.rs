//! What a run over many schemas costs, against the finished DDL sent by hand.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tenantry_core::Isolation;
use tenantry_engine::migrate::Files;
use tenantry_ops::{Ops, Rollout};
use tenantry_wire::Connection;

use super::{
    create, homes,
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    script,
    world::{World, authority, ops_with},
};

/// Schemas that are migrated in each round.
const SCHEMAS: usize = 1000;
/// Schemas that the catalog knows of when nothing is pending; they exist nowhere else, and nobody asks for them.
const KNOWN_SCHEMAS: i32 = 2000;
/// A round takes seconds: fewer than of the short lines.
const ROUNDS_MAX: u32 = 5;

/// Every line about many schemas, in one go: they share what takes longest, which is making the schemas.
pub(super) async fn all(run: &Run) -> Result<Vec<Finding>> {
    let world = &run.world;
    let mut fleet = Fleet::make(world).await?;
    let rounds = run.plan.rounds.min(ROUNDS_MAX);
    Ok(vec![
        fleet.column("fleet-column-1", 1, 1.3, rounds).await?,
        fleet.column("fleet-column-2", 2, 0.9, rounds).await?,
        fleet.nothing_pending(run.plan.rounds).await?,
    ])
}

struct Fleet<'a> {
    world: &'a World,
    schemas: Vec<String>,
    /// Migrations beyond the application's own.
    more: Vec<(String, String)>,
    /// Whether what we are compared with is sent by PostgreSQL's own client.
    has_psql: bool,
}

impl<'a> Fleet<'a> {
    async fn make(world: &'a World) -> Result<Self> {
        let have = schemas(world).await?.len();
        stream::iter(have..SCHEMAS)
            .map(|_| create::make(world, Isolation::Schema))
            .buffer_unordered(4)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let fleet = Self {
            world,
            schemas: schemas(world).await?,
            more: vec![(homes::LATER.0.to_owned(), homes::LATER.1.to_owned())],
            has_psql: script::has_psql(world),
        };
        // What the line about costs may have done already.
        fleet.apply(&fleet.ops()?, 2).await?;
        Ok(fleet)
    }

    fn ops(&self) -> Result<Ops> {
        let own = tenantry_crm::MIGRATIONS
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let files = Files::from_embedded(own.chain(self.more.iter().cloned()))?;
        Ok(ops_with(self.world.ops.catalog().clone(), Arc::new(files)))
    }

    async fn apply(&self, ops: &Ops, connections: usize) -> Result<usize> {
        let mut rollout = Rollout::default();
        rollout.per_server = connections;
        let report = ops.roll_out(&authority(), &rollout, &|_| {}).await?;
        ensure!(
            report.failed.is_empty(),
            "{} schemas stayed behind",
            report.failed.len()
        );
        Ok(report.applied.len())
    }

    /// A column and an index in every schema.
    async fn column(&mut self, name: &'static str, connections: usize, target: f64, rounds: u32) -> Result<Finding> {
        let (mut ratios, mut ours, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let column = format!("c_{}_{round}", name.replace('-', "_"));
            let by_hand = self.by_hand(&format!("{column}_plain")).await?;
            let number = self.more.len() + 100;
            self.more.push((
                format!("{number:04}_{column}.sql"),
                format!("alter table contacts add column {column} text; create index on contacts ({column});"),
            ));
            let ops = self.ops()?;
            // What it becomes is worked out once for a fleet of any size.
            ops.derive_migrations().await?;
            let begun = Instant::now();
            let applied = self.apply(&ops, connections).await?;
            let time = begun.elapsed();
            ensure!(applied >= self.schemas.len(), "only {applied} schemas were migrated");
            // The first round warms both sides up.
            if round > 0 {
                let per_schema = time.as_secs_f64() / applied as f64;
                ratios.push(per_schema / by_hand);
                ours.push(per_schema * 1e3);
                others.push(by_hand * 1e3);
            }
        }
        Ok(Finding::new(
            name,
            format!(
                "add column and create index in {} schemas, {connections} connection(s), time per schema",
                self.schemas.len()
            ),
            match self.has_psql {
                true => "the isolated DDL by psql, one connection, a message and a transaction a schema, no ledger: the limit",
                false => {
                    "the isolated DDL by our own client (there is no psql), one connection, a message and a transaction a schema, no ledger"
                }
            },
            Spread::of(ratios),
            Target::AtMost(target),
        )
        .detail(format!(
            "{:.2} ms against {:.2} ms a schema",
            Spread::of(ours).median,
            Spread::of(others).median
        )))
    }

    /// What isolation makes of the same, as somebody would send it who needs no ledger; seconds per schema.
    async fn by_hand(&self, column: &str) -> Result<f64> {
        let client = self.world.ops.catalog().client().await?;
        let sql = "select app_role from tenant_database where name = $1";
        let application: String = client.query_one(sql, &[&self.world.schema.database]).await?.get(0);
        drop(client);
        let database = &self.world.schema.database;
        let messages: Vec<[String; 5]> = self
            .schemas
            .iter()
            .map(|schema| {
                [
                    "begin".to_owned(),
                    format!("alter table {schema}.contacts add column {column} text"),
                    format!("create index on {schema}.contacts (tenant_id, {column})"),
                    format!("grant update ({column}) on {schema}.contacts to {application}"),
                    "commit".to_owned(),
                ]
            })
            .collect();
        let time = if self.has_psql {
            // What stands between such marks psql sends as one message.
            let text: String = messages.iter().map(|message| message.join(" \\; ") + ";\n").collect();
            script::by_psql(self.world, database, &text)?
        } else {
            let mut admin: Connection = self.world.admin(database).await?;
            let begun = Instant::now();
            for message in &messages {
                admin.batch(&message.join("; ")).await?;
            }
            begun.elapsed()
        };
        Ok(time.as_secs_f64() / self.schemas.len() as f64)
    }

    /// A run that finds everything done.
    async fn nothing_pending(&self, rounds: u32) -> Result<Finding> {
        let client = self.world.ops.catalog().client().await?;
        // Copies of the rows of one tenant with a schema of its own, ledger and all.
        client
            .batch_execute(&format!(
                "create temporary table pattern as
                     select p.tenant_database, p.schema_name, p.tenant from placement p where p.isolation = 'schema' limit 1;
                 create temporary table extra as
                     select gen_random_uuid() as tenant, 'known_' || n as schema_name
                     from generate_series(1, {KNOWN_SCHEMAS} - {}) n;
                 insert into tenant (id, slug, slug_skeleton, name, plan, state)
                     select e.tenant, e.schema_name, e.schema_name, t.name, t.plan, t.state
                     from extra e, tenant t join pattern p on p.tenant = t.id;
                 insert into placement (tenant, isolation, tenant_database, schema_name, ready)
                     select e.tenant, 'schema', p.tenant_database, e.schema_name, true from extra e, pattern p;
                 insert into app_migration (tenant_database, schema_name, version, name, checksum)
                     select m.tenant_database, e.schema_name, m.version, m.name, m.checksum
                     from extra e, pattern p join app_migration m using (tenant_database, schema_name);
                 analyze",
                self.schemas.len()
            ))
            .await
            .context("the catalog could not be filled")?;
        drop(client);
        let ops = self.ops()?;
        ops.derive_migrations().await?;
        let mut times_ms = Vec::new();
        for _ in 0..rounds.max(3) {
            let begun = Instant::now();
            let report = ops.apply_migrations(&authority()).await?;
            times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(
                report.applied.is_empty() && report.failed.is_empty() && report.current >= KNOWN_SCHEMAS as usize,
                "something was pending"
            );
        }
        Ok(Finding::new(
            "fleet-nothing",
            format!("a run over {KNOWN_SCHEMAS} schemas with nothing pending"),
            "–",
            Spread::of(times_ms),
            Target::AtMost(100.0),
        )
        .unit("ms")
        .detail(format!(
            "one query over the catalog's copy of {} ledger rows a schema; no tenant database is asked",
            self.more.len() + tenantry_crm::MIGRATIONS.len()
        )))
    }
}

/// The own schemas of the shared tenant database.
async fn schemas(world: &World) -> Result<Vec<String>> {
    let client = world.ops.catalog().client().await?;
    let rows = client
        .query(
            "select schema_name from placement where isolation = 'schema' and ready",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
