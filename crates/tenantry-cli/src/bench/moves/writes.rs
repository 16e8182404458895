//! What the application writes while its tenant is moved, and whether all that was acknowledged is there afterwards.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, bail};
use tenantry::{Error, ErrorKind, Scope, TenantId, Tenantry};

use super::calls::{Answer, Call, Calls};

/// One of so many writes is a transaction of two.
const TRANSACTION_OF: u64 = 10;
const INSERT: &str = "insert into projects (name) values ($1)";

/// Writes of one tenant.
pub(super) struct Writes {
    scope: Arc<Scope>,
    /// Begins the names of its rows.
    mark: String,
}

impl Writes {
    pub(super) async fn of(application: &Tenantry, tenant: TenantId, mark: String) -> Result<Self> {
        let scope = application.system_context(tenant, "benchmark").await?;
        Ok(Self {
            scope: Arc::new(scope),
            mark,
        })
    }

    /// So many a second.
    pub(super) fn start(&self, rate: f64) -> Calls {
        let (scope, mark) = (self.scope.clone(), self.mark.clone());
        Calls::start(rate, move |number| write(scope.clone(), names(&mark, number)))
    }

    /// Compares what was acknowledged with what is there.
    pub(super) async fn check(&self, calls: &[Call]) -> Result<()> {
        let like = format!("{}-%", self.mark);
        let rows: Vec<(String, i64)> = self
            .scope
            .query_as(
                "select name, count(*) from projects where name like $1 group by name",
                &[&like],
            )
            .await?;
        let there: BTreeMap<_, _> = rows.into_iter().collect();
        let mut wanted = BTreeMap::new();
        for call in calls {
            let is_acknowledged = matches!(call.answer, Answer::Served { .. });
            wanted.extend(names(&self.mark, call.number).map(|name| (name, is_acknowledged)));
        }
        for (name, is_acknowledged) in &wanted {
            match (there.get(name), is_acknowledged) {
                (Some(1), _) | (None, false) => {}
                (None, true) => bail!("the write {name} was acknowledged and is not there"),
                (Some(times), _) => bail!("the write {name} is there {times} times"),
            }
        }
        if let Some(name) = there.keys().find(|name| !wanted.contains_key(*name)) {
            bail!("the write {name} is there, and nobody has made it");
        }
        Ok(())
    }

    /// Takes its rows out again, so that each move has as many.
    pub(super) async fn remove(&self) -> Result<()> {
        let like = format!("{}-%", self.mark);
        self.scope
            .execute("delete from projects where name like $1", &[&like])
            .await?;
        Ok(())
    }
}

/// The rows of a write: one, or two of a transaction.
fn names(mark: &str, number: u64) -> impl Iterator<Item = String> + use<> {
    let rows = if number.is_multiple_of(TRANSACTION_OF) { 2 } else { 1 };
    let mark = mark.to_owned();
    (0..rows).map(move |row| format!("{mark}-{number}-{row}"))
}

/// A transaction that had begun may be refused, and is begun again, as `TenantMoving` says; a call by itself may not.
async fn write(scope: Arc<Scope>, names: impl Iterator<Item = String>) -> Answer {
    let names: Vec<String> = names.collect();
    let mut begun_again = 0;
    loop {
        let written = match &names[..] {
            [name] => scope.execute(INSERT, &[name]).await.map(drop),
            names => in_transaction(&scope, names).await,
        };
        match written {
            Ok(()) => return Answer::Served { begun_again },
            Err(error) if names.len() > 1 && error.kind() == ErrorKind::TenantMoving => begun_again += 1,
            Err(error) => {
                let what = if names.len() > 1 { "a transaction" } else { "a call" };
                return Answer::Failed(format!("{what}: {error}"));
            }
        }
    }
}

async fn in_transaction(scope: &Scope, names: &[String]) -> Result<(), Error> {
    scope
        .transaction(async |tx| {
            for name in names {
                tx.execute(INSERT, &[name]).await?;
            }
            Ok(())
        })
        .await
}
