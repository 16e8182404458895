//! What the seal adds to a row policy that trusts a plain setting, in PostgreSQL's processor time, and the parts of a call.

use anyhow::{Context, Result, ensure};
use tenantry_wire::Connection;
use uuid::Uuid;

use super::{
    measure::{Caller, Crowd, Side, Spread},
    queries::{Ids, Kind, Scoped},
    report::{Finding, Target},
    run::Run,
    world::{COLUMNS, Home},
};

/// The same point select in four ways, each on top of the one before.
const WAYS: [&str; 4] = [
    "explicit filter",
    "policy on a plain setting",
    "sealed policy",
    "whole call with its expectation",
];

/// The difference of the third way to the second.
pub(super) async fn sealing(run: &Run) -> Result<Finding> {
    let home = &run.world.shared[0];
    let mut filter = Crowd::new(vec![Bound::by_filter(run, home).await?]);
    let mut plain = Crowd::new(vec![Bound::by_plain_setting(run, home).await?]);
    let mut sealed = Crowd::new(vec![Bound::by_seal(run, home).await?]);
    let mut whole = Crowd::new(vec![Scoped::new(Kind::Point, std::slice::from_ref(home))]);
    let sides: [&mut dyn Side; 4] = [&mut filter, &mut plain, &mut sealed, &mut whole];
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..run.plan.warm_up + run.plan.rounds {
        for turn in 0..sides.len() {
            let way = (round as usize + turn) % sides.len();
            let before = run.meter.read();
            let slice = sides[way].slice(run.plan.slice).await?;
            let used = run.meter.read() - before;
            if round >= run.plan.warm_up {
                times[way].push(slice.per_call(used.server).as_secs_f64() * 1e6);
            }
        }
    }
    ensure!(
        times.iter().flatten().all(|time| *time > 0.0),
        "this system does not tell processor time"
    );
    let added = times[2].iter().zip(&times[1]).map(|(sealed, plain)| sealed - plain);
    let parts: Vec<String> = WAYS
        .iter()
        .zip(&times)
        .map(|(way, times)| format!("{way} {:.1} µs", Spread::of(times.iter().copied()).median))
        .collect();
    Ok(Finding::new(
        "sealing",
        "PostgreSQL's processor time for a point select, bound: the sealed policy",
        "the same with a policy on a plain setting, both set for the session",
        Spread::of(added),
        Target::AtMost(1.5),
    )
    .unit("µs more")
    .detail(parts.join(", ")))
}

/// A connection whose session says whose rows it reads.
struct Bound {
    connection: Connection,
    sql: String,
    tenant: Option<Uuid>,
    ids: Ids,
}

impl Bound {
    async fn by_filter(run: &Run, home: &Home) -> Result<Self> {
        let connection = run.world.plain(&home.database).await?;
        let sql = format!("select {COLUMNS} from plain.contacts where tenant_id = $1 and id = $2");
        Ok(Self::new(connection, sql, Some(*home.id.as_uuid()), home))
    }

    async fn by_plain_setting(run: &Run, home: &Home) -> Result<Self> {
        let mut connection = run.world.plain(&home.database).await?;
        let setting = format!("set app.tenant_id = '{}'", home.id);
        connection.batch(&setting).await?;
        let sql = format!("select {COLUMNS} from plain.usual where id = $1");
        Ok(Self::new(connection, sql, None, home))
    }

    /// As a superuser may: without a token, for longer than a transaction, and then as the application's role.
    async fn by_seal(run: &Run, home: &Home) -> Result<Self> {
        let mut connection = run.world.admin(&home.database).await?;
        let role = connection
            .query("select app_role::text from tenantry_private.tenant_database", &[])
            .await?
            .rows
            .first()
            .context("the database is no tenant database")?
            .get::<String>(0)?;
        let seal = format!("{}000000000000000130", home.id.as_uuid().simple());
        let (carrier, carried) = (tenantry_engine::seal::CARRIER, tenantry_engine::seal::carried(&seal));
        connection
            .batch(&format!(
                "set {carrier} = '{carried}'; set tenantry.expect = '{seal}'; set role {role}"
            ))
            .await?;
        let sql = format!("select {COLUMNS} from {}.contacts where id = $1", home.schema);
        Ok(Self::new(connection, sql, None, home))
    }

    fn new(connection: Connection, sql: String, tenant: Option<Uuid>, home: &Home) -> Self {
        Self {
            connection,
            sql,
            tenant,
            ids: Ids::of(home),
        }
    }
}

impl Caller for Bound {
    async fn call(&mut self) -> Result<()> {
        let id = self.ids.next();
        let outcome = match &self.tenant {
            Some(tenant) => self.connection.query(&self.sql, &[tenant, &id]).await?,
            None => self.connection.query(&self.sql, &[&id]).await?,
        };
        let row = outcome.rows.first().context("no row was read")?;
        ensure!(row.get::<Uuid>(0)? == id, "another row was read");
        Ok(())
    }
}
