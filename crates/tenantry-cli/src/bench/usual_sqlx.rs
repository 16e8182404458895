//! The usual way by sqlx: a transaction of a connection of its own, the tenant in a setting, and a policy that reads it.
//!
//! Behind the feature `bench-sqlx`, which `cargo xtask bench` switches on: the everyday binary does not hold sqlx.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use super::{
    measure::{Caller, Crowd, compare},
    queries::{Ids, Kind, Scoped},
    report::{Finding, Target},
    run::Run,
    world::{COLUMNS, Home},
};

/// BEGIN, set_config, query and COMMIT in four round trips, against a call in scope.
pub(super) async fn usual(run: &Run) -> Result<Finding> {
    let home = &run.world.shared[0];
    let usual = Usual::connect(run, home).await?;
    let scoped = Scoped::new(Kind::Point, std::slice::from_ref(home));
    let (mut usual, mut scoped) = (Crowd::new(vec![usual]), Crowd::new(vec![scoped]));
    let found = compare(&run.meter, run.plan, &mut usual, &mut scoped).await?;
    Ok(Finding::rates(
        "usual-sqlx",
        "point select in scope, bound, 1 connection",
        "the usual way: BEGIN, set_config, query, COMMIT in four round trips by sqlx",
        &found,
        Target::AtLeast(2.5),
    ))
}

struct Usual {
    connection: PgConnection,
    tenant: String,
    query: Arc<str>,
    ids: Ids,
}

impl Usual {
    async fn connect(run: &Run, home: &Home) -> Result<Self> {
        let connection = PgConnection::connect(&run.world.plain_url(&home.database)).await;
        Ok(Self {
            connection: connection.context("can't connect by sqlx")?,
            tenant: home.id.to_string(),
            query: format!("select {COLUMNS} from plain.usual where id = $1").into(),
            ids: Ids::of(home),
        })
    }
}

impl Caller for Usual {
    async fn call(&mut self) -> Result<()> {
        let id = self.ids.next();
        let mut transaction = self.connection.begin().await?;
        // Each is prepared by its first call and kept by the connection.
        sqlx::query("select set_config('app.tenant_id', $1, true)")
            .bind(&self.tenant)
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query(AssertSqlSafe(self.query.clone()))
            .bind(id)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        ensure!(row.try_get::<Uuid, _>(0)? == id, "another row was read");
        Ok(())
    }
}
