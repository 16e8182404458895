//! The statements that are compared, each in a scope and with an explicit tenant.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tenantry::{Scope, TenantId};
use tenantry_wire::Connection;
use uuid::Uuid;

use super::{
    measure::Caller,
    world::{COLUMNS, Home},
};

/// Which statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A contact by its id.
    Point,
    /// The newest hundred.
    List,
    /// A new contact.
    Insert,
}

impl Kind {
    fn scoped_sql(self) -> String {
        match self {
            Self::Point => format!("select {COLUMNS} from contacts where id = $1"),
            Self::List => format!("select {COLUMNS} from contacts order by created_at desc, id desc limit 100"),
            Self::Insert => "insert into contacts (id, name, email, phone, company, notes) \
                             values ($1, $2, $3, $4, $5, $6)"
                .to_owned(),
        }
    }

    fn plain_sql(self) -> String {
        match self {
            Self::Point => format!("select {COLUMNS} from plain.contacts where tenant_id = $1 and id = $2"),
            Self::List => format!(
                "select {COLUMNS} from plain.contacts where tenant_id = $1 order by created_at desc, id desc limit 100"
            ),
            Self::Insert => "insert into plain.contacts (tenant_id, id, name, email, phone, company, notes) \
                             values ($1, $2, $3, $4, $5, $6, $7)"
                .to_owned(),
        }
    }
}

/// One of a tenant's ids after the other.
pub(crate) struct Ids {
    contacts: Arc<[Uuid]>,
    next: usize,
}

impl Ids {
    pub(crate) fn of(home: &Home) -> Self {
        Self {
            contacts: home.contacts.clone(),
            next: 0,
        }
    }

    pub(crate) fn next(&mut self) -> Uuid {
        let id = self.contacts[self.next];
        // A stride that shares no factor with a thousand visits every row, and not in the order of the pages.
        self.next = (self.next + 379) % self.contacts.len();
        id
    }
}

/// What a new contact holds; the e-mail is unique in its tenant.
const NEW: [&str; 4] = [
    "Person",
    "+41 44 000 00 00",
    "Company 7",
    "Met at the fair, wants to hear from us in spring.",
];

/// By way of the library, in the tenants' scopes, one after the other.
pub(crate) struct Scoped {
    kind: Kind,
    sql: String,
    tenants: Vec<(Scope, Ids)>,
    next: usize,
}

impl Scoped {
    pub(crate) fn new(kind: Kind, homes: &[Home]) -> Self {
        Self::in_scopes(
            kind,
            homes.iter().map(|home| (home.scope.clone(), Ids::of(home))).collect(),
        )
    }

    pub(crate) fn in_scopes(kind: Kind, tenants: Vec<(Scope, Ids)>) -> Self {
        Self {
            kind,
            sql: kind.scoped_sql(),
            tenants,
            next: 0,
        }
    }
}

impl Caller for Scoped {
    async fn call(&mut self) -> Result<()> {
        let turn = turn(&mut self.next, self.tenants.len());
        let (scope, ids) = &mut self.tenants[turn];
        match self.kind {
            Kind::Point => {
                let id = ids.next();
                let row = scope.query_one(&self.sql, &[&id]).await?;
                ensure!(row.get::<Uuid>(0)? == id, "another row was read");
            }
            Kind::List => {
                let rows = scope.query(&self.sql, &[]).await?;
                ensure!(rows.len() == 100, "{} rows were listed", rows.len());
            }
            Kind::Insert => {
                let id = Uuid::now_v7();
                let email = format!("{}@example.com", id.simple());
                let [name, phone, company, notes] = NEW;
                let made = scope
                    .execute(&self.sql, &[&id, &name, &email, &phone, &company, &notes])
                    .await?;
                ensure!(made == 1, "nothing was inserted");
            }
        }
        Ok(())
    }
}

/// The limit: the same by a connection of its own, without row security and without a context.
pub(crate) struct Plain {
    kind: Kind,
    sql: String,
    connection: Connection,
    tenants: Vec<(TenantId, Ids)>,
    next: usize,
}

impl Plain {
    pub(crate) fn new(kind: Kind, connection: Connection, homes: &[Home]) -> Self {
        Self {
            kind,
            sql: kind.plain_sql(),
            connection,
            tenants: homes.iter().map(|home| (home.id, Ids::of(home))).collect(),
            next: 0,
        }
    }
}

impl Caller for Plain {
    async fn call(&mut self) -> Result<()> {
        let turn = turn(&mut self.next, self.tenants.len());
        let (tenant, ids) = &mut self.tenants[turn];
        let tenant = tenant.as_uuid();
        match self.kind {
            Kind::Point => {
                let id = ids.next();
                let mut outcome = self.connection.query(&self.sql, &[&tenant, &id]).await?;
                let row = outcome.rows.pop().filter(|_| outcome.rows.is_empty());
                ensure!(
                    row.is_some_and(|row| row.get::<Uuid>(0).is_ok_and(|read| read == id)),
                    "another row was read"
                );
            }
            Kind::List => {
                let rows = self.connection.query(&self.sql, &[&tenant]).await?.rows;
                ensure!(rows.len() == 100, "{} rows were listed", rows.len());
            }
            Kind::Insert => {
                let id = Uuid::now_v7();
                let email = format!("{}@example.com", id.simple());
                let [name, phone, company, notes] = NEW;
                let values: [&(dyn tenantry::ToSql + Sync); 7] =
                    [&tenant, &id, &name, &email, &phone, &company, &notes];
                let made = self.connection.query(&self.sql, &values).await?.affected;
                ensure!(made == 1, "nothing was inserted");
            }
        }
        Ok(())
    }
}

/// Whose turn it is.
fn turn(next: &mut usize, all: usize) -> usize {
    let turn = *next;
    *next = (turn + 1) % all;
    turn
}
