//! Hardening: takes from PUBLIC what only SQL from outside the application has a use for.
//!
//! The seal, the policies and the rights on tables keep tenants' rows apart without it. What it takes are the ways that
//! PostgreSQL leaves open beside rows: other sessions, channels, locks and counters that belong to the database or to the
//! server. The roles of the mechanism, the owner, the mover, the administrator and `pg_monitor` keep everything.
//!
//! The rights themselves say how far a database is hardened. Nothing is written down beside them that could differ, a later
//! version that takes more finds what is missing, and what is granted to the application role by name stays granted.

mod group;

use tenantry_core::InstallationId;
use tenantry_sql::Identifier;
use tokio_postgres::{GenericClient, Transaction};

pub use group::{GROUPS, Group};

use super::{BootstrapError, lock, session, session::Standing};
use crate::{
    admin::ServerAdmin,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// The predefined role of those who watch servers.
const MONITOR: &str = "pg_monitor";

/// How far a database is hardened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hardening {
    /// The groups of which PUBLIC has nothing.
    pub taken: Vec<&'static str>,
    /// The groups of which PUBLIC has something.
    pub left: Vec<Left>,
}

/// What PUBLIC still has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// Of which group.
    pub group: &'static str,
    /// What, as `function pg_notify(text,text)`.
    pub objects: Vec<String>,
}

impl Hardening {
    /// Whether PUBLIC has nothing of any group.
    pub fn is_whole(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether nothing was taken.
    pub fn is_none(&self) -> bool {
        self.taken.iter().all(|group| *group == "dblink")
    }

    /// The groups that are left, in words.
    pub fn left_names(&self) -> String {
        let names: Vec<&str> = self.left.iter().map(|left| left.group).collect();
        names.join(", ")
    }
}

/// Hardens a database that is bootstrapped, but for the groups in `except`. Running it again takes what has come since.
///
/// System functions belong to the server's first superuser. An administrator that is none may take nothing from them, so
/// the answer says what is left; a superuser does it once, and what the administrator does afterwards goes on.
///
/// # Errors
///
/// Where a group is not known, or the database can't be reached.
///
/// # Cancel safety
///
/// All of it is one transaction: dropped, nothing is changed.
pub async fn harden(
    admin: &ServerAdmin,
    installation: &InstallationId,
    database: &str,
    except: &[&str],
) -> Result<Hardening, BootstrapError> {
    if let Some(unknown) = except
        .iter()
        .find(|name| GROUPS.iter().all(|group| group.name != **name))
    {
        return Err(BootstrapError::UnknownGroup((*unknown).to_owned()));
    }
    change(admin, installation, database, &|name| match except.contains(&name) {
        true => Change::Leave,
        false => Change::Take,
    })
    .await
}

/// Gives everything back to PUBLIC that hardening takes.
///
/// # Errors
///
/// Where the database can't be reached.
///
/// # Cancel safety
///
/// As [`harden`].
pub async fn unharden(
    admin: &ServerAdmin,
    installation: &InstallationId,
    database: &str,
) -> Result<Hardening, BootstrapError> {
    change(admin, installation, database, &|_| Change::GiveBack).await
}

/// How far the connected database is hardened. Any role may ask.
///
/// # Errors
///
/// Where the catalogs can't be read.
pub async fn hardening(client: &impl GenericClient) -> Result<Hardening, SqlError> {
    let objects = objects(client, &[]).await?;
    let mut hardening = Hardening {
        taken: Vec::new(),
        left: Vec::new(),
    };
    for group in GROUPS {
        let left: Vec<String> = objects
            .iter()
            .filter(|object| object.group == group.name && object.public)
            .map(|object| format!("{} {}", object.kind, object.identity))
            .collect();
        if left.is_empty() {
            hardening.taken.push(group.name);
        } else {
            hardening.left.push(Left {
                group: group.name,
                objects: left,
            });
        }
    }
    Ok(hardening)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Take,
    GiveBack,
    Leave,
}

struct Object {
    group: String,
    kind: String,
    privilege: String,
    identity: String,
    public: bool,
    lacking: bool,
}

async fn change(
    admin: &ServerAdmin,
    installation: &InstallationId,
    database: &str,
    change_of: &(dyn Fn(&str) -> Change + Sync),
) -> Result<Hardening, BootstrapError> {
    lock::again_on_collision(async || {
        let mut client = admin.connect(database).await?;
        let standing = Standing::read(&client).await?;
        let mut transaction = client.transaction().await.doing("begin")?;
        let done = attempt(&mut transaction, installation, &standing, change_of).await;
        session::end(transaction, done).await
    })
    .await
}

async fn attempt(
    transaction: &mut Transaction<'_>,
    installation: &InstallationId,
    standing: &Standing,
    change_of: &(dyn Fn(&str) -> Change + Sync),
) -> Result<Hardening, BootstrapError> {
    session::pin_search_path(transaction).await?;
    lock::database(transaction).await?;
    let Roles {
        seal,
        owner,
        home,
        mover,
    } = Roles::of(installation);
    if !session::role_exists(transaction, seal.as_str()).await? {
        return Err(BootstrapError::ServerNotReady(seal.as_str().to_owned()));
    }
    let mut keepers = vec![seal, owner, home, mover, Identifier::new(MONITOR)?];
    if !standing.superuser {
        keepers.push(Identifier::new(standing.role.as_str())?);
    }
    let objects = objects(transaction, &keepers).await?;
    let mut statements = Vec::new();
    for kind in ["function", "table", "language"] {
        let of = |wanted: Change, needed: fn(&Object) -> bool| -> String {
            let names: Vec<&str> = objects
                .iter()
                .filter(|object| object.kind == kind && change_of(&object.group) == wanted && needed(object))
                .map(|object| object.identity.as_str())
                .collect();
            names.join(", ")
        };
        let privilege = objects
            .iter()
            .find(|object| object.kind == kind)
            .map_or("all", |object| object.privilege.as_str());
        let roles: Vec<String> = keepers.iter().map(ToString::to_string).collect();
        let roles = roles.join(", ");
        statements.extend([
            (
                of(Change::Take, |object| object.lacking),
                format!("grant {privilege} on {kind} {{}} to {roles}"),
            ),
            (
                of(Change::Take, |object| object.public),
                format!("revoke {privilege} on {kind} {{}} from public"),
            ),
            (
                of(Change::GiveBack, |object| !object.public),
                format!("grant {privilege} on {kind} {{}} to public"),
            ),
            (
                of(Change::GiveBack, |_| true),
                format!("revoke {privilege} on {kind} {{}} from {roles}"),
            ),
        ]);
    }
    for (names, statement) in statements.into_iter().filter(|(names, _)| !names.is_empty()) {
        run_if_allowed(transaction, &statement.replace("{}", &names)).await?;
    }
    Ok(hardening(transaction).await?)
}

/// Where it is not allowed, the right is read back as being left.
async fn run_if_allowed(transaction: &mut Transaction<'_>, statement: &str) -> Result<(), SqlError> {
    let savepoint = transaction.transaction().await.doing("set a savepoint")?;
    match savepoint.batch_execute(statement).await {
        Ok(()) => savepoint.commit().await.doing("release a savepoint"),
        Err(error) if error.code().is_some_and(|code| code.code() == "42501") => {
            savepoint.rollback().await.doing("go back to a savepoint")
        }
        Err(error) => Err(error).doing("harden the database"),
    }
}

async fn objects(client: &impl GenericClient, keepers: &[Identifier]) -> Result<Vec<Object>, SqlError> {
    let column = |of: fn(&Group) -> &'static str| GROUPS.iter().map(of).collect::<Vec<_>>();
    let keepers: Vec<&str> = keepers.iter().map(Identifier::as_str).collect();
    let rows = client
        .query(
            include_str!("harden/objects.sql"),
            &[
                &column(|group| group.name),
                &column(|group| group.functions),
                &column(|group| group.relations),
                &keepers,
            ],
        )
        .await
        .doing("list what hardening takes")?;
    Ok(rows
        .iter()
        .map(|row| Object {
            group: row.get(0),
            kind: row.get(1),
            privilege: row.get(2),
            identity: row.get(3),
            public: row.get(4),
            lacking: row.get(5),
        })
        .collect())
}
