//! Reading and writing in scope, against the limit and against the usual way.

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use super::{
    measure::{Caller, Comparison, Crowd, compare},
    queries::{Ids, Kind, Plain, Scoped},
    report::{Finding, Target},
    run::Run,
    world::{COLUMNS, CROWD, Home},
};

const LIMIT: &str = "the limit: same statement, explicit tenant, no row security, same tenant per connection";

/// A statement in scope with so many connections, each serving one tenant.
pub(super) async fn bound(run: &Run, kind: Kind, connections: usize) -> Result<Comparison> {
    let world = &run.world;
    let (mut plain, mut scoped) = (Vec::new(), Vec::new());
    for home in &world.shared[..connections] {
        let homes = std::slice::from_ref(home);
        plain.push(Plain::new(kind, world.plain(&home.database).await?, homes));
        scoped.push(Scoped::new(kind, homes));
    }
    compare(&run.meter, run.plan, &mut Crowd::new(plain), &mut Crowd::new(scoped)).await
}

pub(super) async fn point(run: &Run, name: &'static str, connections: usize) -> Result<Finding> {
    let found = bound(run, Kind::Point, connections).await?;
    let what = format!("point select in scope, bound, {}", of(connections));
    Ok(Finding::rates(name, what, LIMIT, &found, Target::AtLeast(0.80)))
}

pub(super) async fn list(run: &Run, name: &'static str, connections: usize) -> Result<Finding> {
    let found = bound(run, Kind::List, connections).await?;
    let what = format!("list of 100 rows in scope, bound, {}", of(connections));
    Ok(Finding::rates(name, what, LIMIT, &found, Target::AtLeast(0.90)))
}

pub(super) async fn insert(run: &Run, name: &'static str, connections: usize) -> Result<Finding> {
    let found = bound(run, Kind::Insert, connections).await?;
    let what = format!("insert in scope, bound, {}", of(connections));
    Ok(Finding::rates(name, what, LIMIT, &found, Target::AtLeast(0.85)))
}

/// Another tenant with each call on one and the same connection.
pub(super) async fn rebind(run: &Run) -> Result<Finding> {
    let world = &run.world;
    let handle = world.handle(1)?;
    let mut tenants = Vec::new();
    for home in &world.shared {
        let scope = handle.system_context(home.id, "benchmark").await?;
        tenants.push((scope, Ids::of(home)));
    }
    let scoped = Scoped::in_scopes(Kind::Point, tenants);
    let plain = Plain::new(
        Kind::Point,
        world.plain(&world.shared[0].database).await?,
        &world.shared,
    );
    let (mut plain, mut scoped) = (Crowd::new(vec![plain]), Crowd::new(vec![scoped]));
    let found = compare(&run.meter, run.plan, &mut plain, &mut scoped).await?;
    Ok(Finding::rates(
        "rebind",
        format!("point select in scope, another of {CROWD} tenants with each call, 1 connection"),
        "the limit, another tenant with each call",
        &found,
        Target::AtLeast(0.48),
    ))
}

/// A tenant with a home of its own.
pub(super) async fn own(run: &Run, name: &'static str, home: &Home, what: &str) -> Result<Finding> {
    let homes = std::slice::from_ref(home);
    let plain = Plain::new(Kind::Point, run.world.plain(&home.database).await?, homes);
    let scoped = Scoped::new(Kind::Point, homes);
    let (mut plain, mut scoped) = (Crowd::new(vec![plain]), Crowd::new(vec![scoped]));
    let found = compare(&run.meter, run.plan, &mut plain, &mut scoped).await?;
    let what = format!("point select in {what} of the tenant's own, bound, 1 connection");
    Ok(Finding::rates(name, what, LIMIT, &found, Target::AtLeast(0.80)))
}

/// What other systems do: BEGIN, set_config, query and COMMIT in four round trips.
pub(super) async fn usual(run: &Run) -> Result<Finding> {
    let home = &run.world.shared[0];
    let usual = Usual::connect(run, home).await?;
    let scoped = Scoped::new(Kind::Point, std::slice::from_ref(home));
    let (mut usual, mut scoped) = (Crowd::new(vec![usual]), Crowd::new(vec![scoped]));
    let found = compare(&run.meter, run.plan, &mut usual, &mut scoped).await?;
    Ok(Finding::rates(
        "usual",
        "point select in scope, bound, 1 connection",
        "the usual way: BEGIN, set_config, query, COMMIT in four round trips by tokio-postgres",
        &found,
        Target::AtLeast(2.5),
    ))
}

fn of(connections: usize) -> String {
    match connections {
        1 => "1 connection".to_owned(),
        more => format!("{more} connections"),
    }
}

struct Usual {
    client: Client,
    tenant: String,
    context: Statement,
    query: Statement,
    ids: Ids,
}

impl Usual {
    async fn connect(run: &Run, home: &Home) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(&run.world.plain_url(&home.database), NoTls)
            .await
            .context("can't connect by tokio-postgres")?;
        tokio::spawn(connection);
        Ok(Self {
            context: client.prepare("select set_config('app.tenant_id', $1, true)").await?,
            query: client
                .prepare(&format!("select {COLUMNS} from plain.usual where id = $1"))
                .await?,
            client,
            tenant: home.id.to_string(),
            ids: Ids::of(home),
        })
    }
}

impl Caller for Usual {
    async fn call(&mut self) -> Result<()> {
        let id = self.ids.next();
        self.client.batch_execute("begin").await?;
        self.client.query(&self.context, &[&self.tenant]).await?;
        let row = self.client.query_one(&self.query, &[&id]).await?;
        self.client.batch_execute("commit").await?;
        ensure!(row.get::<_, Uuid>(0) == id, "another row was read");
        Ok(())
    }
}
