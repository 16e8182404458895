//! Who changed which row, when, and what stood there: of tables whose migration declares `-- tenantry: history <tables>`.
//!
//! The database writes an entry with every change, in the change's own transaction, whoever makes it and by whatever way. Entries
//! stand with the tenant's rows: its admins read them, its owners take out old ones, nobody changes one.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tenantry_core::AccountId;
use uuid::Uuid;

use crate::{Error, ErrorKind, FromRow, Row, Scope};

/// Identifies an entry within its tenant; a later entry has a greater one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId(Uuid);

impl EntryId {
    /// From what [`as_uuid`](Self::as_uuid) gave.
    pub fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    /// As a uuid, to be shown or sent as a cursor.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

/// What happened to a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Act {
    /// It was inserted.
    Insert,
    /// It was updated.
    Update,
    /// It was deleted.
    Delete,
}

impl Act {
    /// `insert`, `update` or `delete`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One change of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// When the row was changed, by the database's clock.
    pub at: DateTime<Utc>,
    /// The table, by its name at that time.
    pub table: String,
    /// The row: its primary key as a JSON object, after the change.
    pub key: String,
    /// What happened.
    pub act: Act,
    /// Who did it, if a person did; `None` for the application itself and for migrations.
    pub account: Option<AccountId>,
    /// What was there, a JSON object: of an update the columns that changed, of a delete all of them. As PostgreSQL's `to_jsonb` writes
    /// values, with all digits of a number.
    pub old: Option<String>,
    /// What is there now, a JSON object: of an update the columns that changed, of an insert all of them.
    pub new: Option<String>,
}

impl FromRow for Entry {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let act: String = row.get("act")?;
        let account: Option<Uuid> = row.get("account")?;
        Ok(Self {
            id: EntryId(row.get("id")?),
            at: row.get("at")?,
            table: row.get("table_name")?,
            key: row.get("row_key")?,
            act: [Act::Insert, Act::Update, Act::Delete]
                .into_iter()
                .find(|known| known.as_str() == act)
                .ok_or_else(|| Error::new(ErrorKind::Column, "an entry's act is unknown to this version"))?,
            account: account.map(AccountId::from_uuid),
            old: row.get("old")?,
            new: row.get("new")?,
        })
    }
}

/// Which entries: all of the tenant, where nothing is named.
#[derive(Clone, Copy, Default, Debug)]
pub struct EntryFilter<'a> {
    /// Of this table.
    pub table: Option<&'a str>,
    /// Of the row with this primary key, a JSON object of its columns without the tenant. With the table it is found by an index.
    pub key: Option<&'a Value>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// Before this entry: for the next page.
    pub before: Option<EntryId>,
}

impl Scope {
    /// What became of the tenant's rows, the latest first, `count` at most.
    ///
    /// ```no_run
    /// # async fn example(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
    /// use tenantry::history::EntryFilter;
    ///
    /// let key = serde_json::json!({ "id": "0190c2f4-0000-7000-8000-000000000001" });
    /// let of_the_row = EntryFilter { table: Some("tasks"), key: Some(&key), ..EntryFilter::default() };
    /// for entry in scope.history(of_the_row, 50).await? {
    ///     println!("{} {:?} {:?}", entry.at, entry.account, entry.new);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::Database`] (42501) for roles below admin.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn history(&self, filter: EntryFilter<'_>, count: u32) -> Result<Vec<Entry>, Error> {
        let key = filter.key.map(Value::to_string);
        let account = filter.account.map(|account| *account.as_uuid());
        let before = filter.before.map(|before| *before.as_uuid());
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let sql = "select * from tenantry.history_list($1, $2::text::jsonb, $3, $4, $5)";
        self.query_as(sql, &[&filter.table, &key, &account, &before, &count])
            .await
    }

    /// Takes out the tenant's entries from before that time, for good; tells how many. Rows stay as they are.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute); [`ErrorKind::Database`] (42501) for roles below owner. What went until then stays gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped, what went until then stays gone; another call goes on.
    pub async fn forget_history(&self, before: DateTime<Utc>) -> Result<u64, Error> {
        // Small transactions: others write to the same table.
        const AT_ONCE: i32 = 5_000;
        let mut gone = 0;
        loop {
            let sql = "select tenantry.history_forget($1, $2)";
            let some: i32 = self.query_one(sql, &[&before, &AT_ONCE]).await?.get(0)?;
            gone += u64::from(some.unsigned_abs());
            if some < AT_ONCE {
                return Ok(gone);
            }
        }
    }
}
