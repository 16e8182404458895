//! All rows of one tenant as of one moment.

use chrono::{DateTime, Utc};
use tenantry_core::{Epoch, InstallationId, Isolation, TenantId};
use tenantry_sql::{Identifier, Qualified};
use tokio_postgres::{Client, CopyOutStream};

use super::{
    ArchiveError, LeftOut, Migrated, SequenceValue, TableHead, ahead,
    tables::{self, Table},
};
use crate::{
    fence::{self, State},
    home::{self, Acting, acting},
    migrate,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// How often tables are listed again that changed before they were locked.
const LISTINGS: u32 = 5;
/// What the library's list of files is called; its rows name bytes that stand elsewhere.
const LISTS_OF_FILES: [&str; 1] = ["stored_file"];

/// Where a tenant lives, as the catalog knows it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whose rows.
    pub tenant: TenantId,
    /// The schema of its tables.
    pub schema: String,
    /// The placement.
    pub epoch: Epoch,
    /// How its rows are kept apart.
    pub isolation: Isolation,
}

/// All rows of one tenant as of one moment: a transaction that reads them, and nothing of any other tenant.
///
/// While it is open the tables can't be migrated; a migration waits, and tries again.
///
/// # Cancel safety
///
/// Dropped before [`end`](Self::end), its connection has to be dropped as well.
#[derive(Debug)]
pub struct Snapshot<'a> {
    client: &'a Client,
    place: Place,
    tables: Vec<Table>,
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// PostgreSQL's version, as in `server_version_num`.
    pub server_version: i32,
    /// The migrations that the tables have, lowest first.
    pub migrations: Vec<Migrated>,
    /// The tenant's own migrations, lowest first.
    pub own_migrations: Vec<Migrated>,
    /// Migrations of data that the rows have and the tables have not, since others are still to get them, lowest first.
    pub ahead: Vec<i64>,
    /// What the tenant has beside its rows.
    pub left_out: LeftOut,
}

/// Values look the same wherever they are written: no setting of a database or a role has a say.
pub(super) const FORMATS: &str = "
    set local datestyle = 'iso, ymd';
    set local intervalstyle = 'postgres';
    set local timezone = 'UTC';
    set local extra_float_digits = 1;
    set local bytea_output = 'hex';
    set local lc_monetary = 'C';
    set local xmloption = 'content';
    set local statement_timeout = 0;
    set local idle_in_transaction_session_timeout = 0;
    set local lock_timeout = '10s'";

/// The tenant's tables first on the search path, so that types of theirs are named without a schema.
pub(super) fn search_path(schema: &str) -> Result<String, ArchiveError> {
    let schema = identifier(schema)?;
    Ok(format!("set local search_path = {schema}, tenantry_ext, pg_catalog"))
}

pub(super) fn identifier(name: &str) -> Result<Identifier, ArchiveError> {
    Identifier::new(name).map_err(ArchiveError::malformed)
}

/// A table by its schema and name.
pub(super) fn qualified(schema: &str, table: &str) -> Result<Qualified, ArchiveError> {
    Qualified::new(schema, table).map_err(ArchiveError::malformed)
}

impl<'a> Snapshot<'a> {
    /// Takes it, over a connection of the administrator that is in no transaction.
    ///
    /// # Errors
    ///
    /// Where the tenant does not live there, its tables can't be locked, or a statement fails.
    pub async fn begin(client: &'a Client, installation: &InstallationId, place: &Place) -> Result<Self, ArchiveError> {
        let acting = acting(client, installation).await?;
        for _ in 0..LISTINGS {
            match Self::try_begin(client, installation, place, acting).await {
                Ok(Some(snapshot)) => return Ok(snapshot),
                Ok(None) => roll_back(client).await?,
                Err(error) => {
                    // Where this fails too the connection is gone.
                    let _ = roll_back(client).await;
                    return Err(error);
                }
            }
        }
        Err(ArchiveError::Changing(place.schema.clone()))
    }

    /// `None` where the tables changed between the list and the locks. The locks come first of all: what takes them takes no
    /// snapshot, and a table that was rewritten after the snapshot would look empty.
    async fn try_begin(
        client: &'a Client,
        installation: &InstallationId,
        place: &Place,
        acting: Acting,
    ) -> Result<Option<Self>, ArchiveError> {
        let Roles { mover, owner, .. } = Roles::of(installation);
        let path = search_path(&place.schema)?;
        client.batch_execute(&format!("begin; {path}")).await.doing("begin")?;
        let listed = tables::list(client, &place.schema).await?;
        let is_open = fence::read(client, place.tenant)
            .await?
            .is_some_and(|found| found.state == State::Open);
        roll_back(client).await?;
        // A role that row security binds acts for the tenant, which lifts a closed fence in a transaction that is rolled back. That
        // takes the fence's lock until then, and goes under read committed only: nobody writes for the tenant meanwhile.
        let (mode, role) = match acting {
            Acting::Mover => ("repeatable read, read only", &mover),
            Acting::Owner if is_open => ("repeatable read", &owner),
            Acting::Owner => ("read committed", &owner),
        };
        let mut names = Vec::new();
        for table in &listed {
            names.push(qualified(&place.schema, &table.head.name)?.to_string());
        }
        let lock = if names.is_empty() {
            String::new()
        } else {
            format!("lock table {} in access share mode;", names.join(", "))
        };
        client
            .batch_execute(&format!(
                "begin isolation level {mode}; {path}; {FORMATS}; set local role {role}; {lock} set local role none"
            ))
            .await
            .doing("lock the tables against migrations")?;
        let row = client
            .query_one(
                "select transaction_timestamp(), current_setting('server_version_num')::int4",
                &[],
            )
            .await
            .doing("take the snapshot")?;
        if tables::list(client, &place.schema).await? != listed {
            return Ok(None);
        }
        check_fence(client, place).await?;
        let mut snapshot = Self {
            client,
            place: place.clone(),
            tables: listed,
            taken_at: row.get(0),
            server_version: row.get(1),
            migrations: migrated(client, &place.schema).await?,
            own_migrations: migrated(client, &migrate::overlay_name(&place.schema)).await?,
            ahead: ahead::read(client, place).await?,
            left_out: left_out(client, place.tenant).await?,
        };
        let act = match acting {
            Acting::Mover => format!("set local row_security = off; set local role {mover}"),
            Acting::Owner => format!(
                "select tenantry_private.act_for('{}'); set local role {owner}",
                place.tenant.as_uuid()
            ),
        };
        client.batch_execute(&act).await.doing("act for the tenant")?;
        if acting == Acting::Owner && !is_open && !is_lifted(client).await? {
            // It was opened in between.
            return Ok(None);
        }
        snapshot.read_sequences().await?;
        snapshot.left_out.lists_of_files = snapshot
            .tables()
            .map(|table| table.name.clone())
            .filter(|name| LISTS_OF_FILES.contains(&name.as_str()))
            .collect();
        Ok(Some(snapshot))
    }

    /// How far the sequences are. One of shared tables is drawn from by all tenants, and how far it is is nobody's business: what
    /// counts is this tenant's largest value.
    async fn read_sequences(&mut self) -> Result<(), ArchiveError> {
        let (client, place) = (self.client, &self.place);
        for table in &mut self.tables {
            for sequence in &table.sequences {
                let (column, name) = (
                    identifier(&sequence.column)?,
                    qualified(&place.schema, &table.head.name)?,
                );
                let last = if sequence.ascending { "max" } else { "min" };
                let value = match place.isolation {
                    Isolation::Shared => format!(
                        "select {last}({column})::int8 from {name} where tenant_id = '{}'",
                        place.tenant.as_uuid()
                    ),
                    Isolation::Schema | Isolation::Database => {
                        format!(
                            "select pg_catalog.pg_sequence_last_value({}::oid::regclass)",
                            sequence.oid
                        )
                    }
                };
                let row = client.query_one(&value, &[]).await.doing("read a sequence")?;
                table.head.sequences.push(SequenceValue {
                    column: sequence.column.clone(),
                    value: row.get(0),
                });
            }
        }
        Ok(())
    }

    /// The tables, parents before those that refer to them.
    pub fn tables(&self) -> impl Iterator<Item = &TableHead> {
        self.tables.iter().map(|table| &table.head)
    }

    /// Whose it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The rows of the table of this name in COPY's text format; `columns` and `order` as SQL.
    pub(super) async fn rows(&self, table: &str, columns: &[&str], order: &str) -> Result<CopyOutStream, ArchiveError> {
        let partitioned = self
            .tables
            .iter()
            .any(|known| known.head.name == table && known.partitioned);
        let only = if partitioned { "" } else { "only " };
        let columns = quoted(columns)?;
        let copy = format!(
            "copy (select {columns} from {only}{} where tenant_id = '{}'{order}) to stdout",
            qualified(&self.place.schema, table)?,
            self.place.tenant.as_uuid()
        );
        Ok(self.client.copy_out(&copy).await.doing("read the tenant's rows")?)
    }

    /// The least and the largest number in a column of integers; `None` where there is none.
    pub(super) async fn span(&self, table: &str, column: &str) -> Result<Option<(i64, i64)>, ArchiveError> {
        let (name, column) = (qualified(&self.place.schema, table)?, identifier(column)?);
        let row = self
            .client
            .query_one(
                &format!(
                    "select pg_catalog.min({column})::pg_catalog.int8, pg_catalog.max({column})::pg_catalog.int8
                       from {name} where tenant_id = '{}'",
                    self.place.tenant.as_uuid()
                ),
                &[],
            )
            .await
            .doing("look how far the ids of rows reach")?;
        Ok(row.get::<_, Option<i64>>(0).zip(row.get(1)))
    }

    /// Ends it; its connection can be used for other work.
    ///
    /// # Errors
    ///
    /// Where the connection is gone.
    pub async fn end(self) -> Result<(), ArchiveError> {
        Ok(roll_back(self.client).await?)
    }
}

/// Names of columns, quoted, as a list.
pub(super) fn quoted(columns: &[&str]) -> Result<String, ArchiveError> {
    let mut quoted = Vec::with_capacity(columns.len());
    for column in columns {
        quoted.push(identifier(column)?.to_string());
    }
    Ok(quoted.join(", "))
}

pub(super) async fn roll_back(client: &Client) -> Result<(), SqlError> {
    client.batch_execute("rollback").await.doing("roll back")
}

/// Whether this transaction lifted the tenant's fence, and with it holds it shut for everybody else.
async fn is_lifted(client: &Client) -> Result<bool, ArchiveError> {
    let row = client
        .query_one(
            "select coalesce(current_setting('tenantry.lifted', true), '') <> ''",
            &[],
        )
        .await
        .doing("look whether the fence is held")?;
    Ok(row.get(0))
}

async fn check_fence(client: &Client, place: &Place) -> Result<(), ArchiveError> {
    let found = fence::read(client, place.tenant).await?;
    let lives_here =
        found.is_some_and(|found| found.epoch == place.epoch && matches!(found.state, State::Open | State::Suspended));
    if lives_here { Ok(()) } else { Err(ArchiveError::Moved) }
}

async fn migrated(client: &Client, ledger: &str) -> Result<Vec<Migrated>, ArchiveError> {
    let rows = migrate::read_ledger(client, ledger)
        .await
        .doing("read the ledger of migrations")?;
    Ok(rows
        .into_values()
        .map(|row| Migrated {
            version: row.version,
            name: row.name,
            checksum: row.checksum,
        })
        .collect())
}

async fn left_out(client: &Client, tenant: TenantId) -> Result<LeftOut, ArchiveError> {
    let count = home::count_jobs(client, tenant).await?;
    Ok(LeftOut {
        jobs: u64::try_from(count.jobs).unwrap_or(0),
        schedules: u64::try_from(count.schedules).unwrap_or(0),
        history: home::count_history(client, tenant).await?,
        lists_of_files: Vec::new(),
    })
}
