//! The list of a tenant's files, in the tenant's own tables.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{FileError, FilePath};
use crate::{Error, Scope};

/// The tables that files need, as a migration: put it among the application's own, as a file or as a text.
///
/// Without a `tenant_id`, as all migrations; they are isolated like every other table.
pub const MIGRATION: &str = "\
-- The files of a tenant: see tenantry::files.
create table stored_file (
    id uuid primary key,
    path text collate \"C\" not null,
    folded text collate \"C\" not null,
    content_type text not null,
    state text not null default 'uploading' check (state in ('uploading', 'stored', 'doomed')),
    bytes bigint not null default 0 check (bytes >= 0),
    touched_at timestamptz not null default now(),
    stored_at timestamptz
);
create unique index stored_file_place on stored_file (folded) where state = 'stored';
create index stored_file_path on stored_file (path) where state = 'stored';
create index stored_file_left on stored_file (touched_at) where state <> 'stored';
create table stored_file_usage (
    id smallint primary key check (id = 1),
    bytes bigint not null default 0 check (bytes >= 0)
);
";

/// A file as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoredFile {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What its sender said that it is. Nobody has checked it.
    pub content_type: String,
    /// Since when it is there.
    pub stored_at: DateTime<Utc>,
}

/// A file and where its bytes stand.
pub(super) struct Located {
    pub(super) id: Uuid,
    pub(super) file: StoredFile,
}

/// What came of asking for more room.
pub(super) enum Room {
    /// It is there, and counted.
    Given,
    /// The upload was given up meanwhile.
    GivenUp,
    /// The tenant has so much.
    Full { used: u64 },
}

/// What a row is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Stored,
    /// Its bytes are on their way, or are to be removed.
    Other,
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

/// Begins an upload: from here on a recount knows of it. Gives the path of a stored file that is the same, or looks so.
pub(super) async fn begin(
    scope: &Scope,
    id: Uuid,
    path: &FilePath,
    content_type: &str,
) -> Result<Option<String>, FileError> {
    let row = scope
        .query_one(
            "with usage as (insert into stored_file_usage (id) values (1) on conflict do nothing)
             insert into stored_file (id, path, folded, content_type) values ($1, $2, $3, $4)
             returning (select other.path from stored_file other where other.folded = $3 and other.state = 'stored')",
            &[&id, &path.as_str(), &path.folded(), &content_type],
        )
        .await?;
    Ok(row.get(0)?)
}

/// Counts bytes before they are sent: all uploads of a tenant wait for each other for this moment only, so that together
/// they never get more than there is.
pub(super) async fn grow(scope: &Scope, id: Uuid, bytes: u64, bytes_max: u64) -> Result<Room, FileError> {
    let grown = scope
        .execute(
            "with upload as (select id from stored_file where id = $1 and state = 'uploading' for update),
                  room as (
                      update stored_file_usage set bytes = bytes + $2
                      where id = 1 and bytes + $2 <= $3 and exists (select from upload)
                      returning id
                  )
             update stored_file set bytes = bytes + $2, touched_at = now()
             where id = $1 and state = 'uploading' and exists (select from room)",
            &[&id, &signed(bytes), &signed(bytes_max)],
        )
        .await?;
    if grown == 1 {
        return Ok(Room::Given);
    }
    let row = scope
        .query_one(
            "select exists (select from stored_file where id = $1 and state = 'uploading'),
                    coalesce((select bytes from stored_file_usage where id = 1), 0)",
            &[&id],
        )
        .await?;
    Ok(match row.get(0)? {
        true => Room::Full {
            used: unsigned(row.get(1)?),
        },
        false => Room::GivenUp,
    })
}

/// What came of putting an uploaded file into its place.
pub(super) enum Placed {
    Here {
        file: StoredFile,
        /// The file that was there before, to be removed.
        replaced: Option<Uuid>,
    },
    /// The upload was given up meanwhile.
    GivenUp,
    /// Another one came first.
    Taken,
}

/// Puts an uploaded file into its place, with the one that was there before taken out: both or neither.
pub(super) async fn place(scope: &Scope, id: Uuid, path: &FilePath) -> Result<Placed, FileError> {
    let placed: Result<Placed, NotPlaced> = scope
        .transaction(async |tx| {
            let replaced = tx
                .query_opt(
                    "update stored_file set state = 'doomed', touched_at = now()
                     where folded = $1 and path = $2 and state = 'stored'
                     returning id",
                    &[&path.folded(), &path.as_str()],
                )
                .await?;
            let stored = tx
                .query_opt(
                    "update stored_file set state = 'stored', stored_at = now()
                     where id = $1 and state = 'uploading'
                     returning path, bytes, content_type, stored_at",
                    &[&id],
                )
                .await?;
            // Nothing may be taken out for one that is gone.
            let stored = stored.ok_or(NotPlaced::GivenUp)?;
            Ok(Placed::Here {
                file: stored_file(&stored, 0)?,
                replaced: replaced.map(|row| row.get(0)).transpose()?,
            })
        })
        .await;
    match placed {
        Ok(placed) => Ok(placed),
        Err(NotPlaced::GivenUp) => Ok(Placed::GivenUp),
        Err(NotPlaced::Database(error)) if error.database().is_some_and(|error| error.code() == "23505") => {
            Ok(Placed::Taken)
        }
        Err(NotPlaced::Database(error)) => Err(error.into()),
    }
}

/// Why the transaction that places a file is undone.
enum NotPlaced {
    GivenUp,
    Database(Error),
}

impl From<Error> for NotPlaced {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// The stored file that looks like this path.
pub(super) async fn look_alike(scope: &Scope, path: &FilePath) -> Result<Option<String>, FileError> {
    let row = scope
        .query_opt(
            "select path from stored_file where folded = $1 and state = 'stored'",
            &[&path.folded()],
        )
        .await?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

/// Takes an upload out, unless it is in its place already; whether its bytes are to be removed. Waits for a transaction
/// that is putting it there.
pub(super) async fn doom_upload(scope: &Scope, id: Uuid) -> Result<bool, FileError> {
    let doomed = scope
        .execute(
            "update stored_file set state = 'doomed' where id = $1 and state = 'uploading'",
            &[&id],
        )
        .await?;
    Ok(doomed == 1)
}

/// Takes a stored file out; its bytes are to be removed.
pub(super) async fn doom(scope: &Scope, path: &FilePath) -> Result<Option<Uuid>, FileError> {
    let row = scope
        .query_opt(
            "update stored_file set state = 'doomed', touched_at = now()
             where folded = $1 and path = $2 and state = 'stored'
             returning id",
            &[&path.folded(), &path.as_str()],
        )
        .await?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

/// Takes out the uploads that did not go on for so long, and gives all files whose bytes are to be removed.
pub(super) async fn leftovers(
    scope: &Scope,
    idle_max: std::time::Duration,
    limit: i64,
) -> Result<Vec<Uuid>, FileError> {
    scope
        .execute(
            "update stored_file set state = 'doomed'
             where state = 'uploading' and touched_at < now() - make_interval(secs => $1)",
            &[&idle_max.as_secs_f64()],
        )
        .await?;
    let rows = scope
        .query(
            "select id from stored_file where state = 'doomed' order by touched_at limit $1",
            &[&limit],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Forgets a file whose bytes are removed, and counts them no more.
pub(super) async fn forget(scope: &Scope, id: Uuid) -> Result<(), FileError> {
    scope
        .execute(
            "with gone as (delete from stored_file where id = $1 and state = 'doomed' returning bytes)
             update stored_file_usage set bytes = greatest(0, bytes - (select bytes from gone))
             where id = 1 and exists (select from gone)",
            &[&id],
        )
        .await?;
    Ok(())
}

/// Where a file's bytes stand.
pub(super) async fn locate(scope: &Scope, path: &FilePath) -> Result<Option<Located>, FileError> {
    let row = scope
        .query_opt(
            "select id, path, bytes, content_type, stored_at from stored_file
             where folded = $1 and path = $2 and state = 'stored'",
            &[&path.folded(), &path.as_str()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Located {
        id: row.get(0)?,
        file: stored_file(&row, 1)?,
    }))
}

/// Files whose paths begin so, in order, after this one.
pub(super) async fn list(scope: &Scope, prefix: &str, after: &str, limit: i64) -> Result<Vec<StoredFile>, FileError> {
    // No path holds this character, the last of all.
    let end = format!("{prefix}\u{10ffff}");
    let rows = scope
        .query(
            "select path, bytes, content_type, stored_at from stored_file
             where state = 'stored' and path >= $1 and path < $2 and path > $3
             order by path limit $4",
            &[&prefix, &end, &after, &limit],
        )
        .await?;
    Ok(rows.iter().map(|row| stored_file(row, 0)).collect::<Result<_, _>>()?)
}

/// How many bytes the tenant has, with those of uploads and of what is being removed.
pub(super) async fn used(scope: &Scope) -> Result<u64, FileError> {
    let row = scope
        .query_opt("select bytes from stored_file_usage where id = 1", &[])
        .await?;
    Ok(row.map(|row| row.get(0)).transpose()?.map_or(0, unsigned))
}

/// Counts anew what the list says; gives what was counted before and now. Under the lock that every change of the count takes.
pub(super) async fn count_anew(scope: &Scope) -> Result<(u64, u64), FileError> {
    let counted: Result<_, Error> = scope
        .transaction(async |tx| {
            tx.execute(
                "insert into stored_file_usage (id) values (1) on conflict do nothing",
                &[],
            )
            .await?;
            let before: i64 = tx
                .query_one("select bytes from stored_file_usage where id = 1 for update", &[])
                .await?
                .get(0)?;
            let after: i64 = tx
                .query_one(
                    "update stored_file_usage
                     set bytes = (select coalesce(sum(bytes), 0)::bigint from stored_file)
                     where id = 1
                     returning bytes",
                    &[],
                )
                .await?
                .get(0)?;
            Ok((unsigned(before), unsigned(after)))
        })
        .await;
    Ok(counted?)
}

/// All rows, by id.
pub(super) async fn all(scope: &Scope) -> Result<Vec<(Uuid, State, u64)>, FileError> {
    let mut rows = scope
        .query_stream("select id, state = 'stored', bytes from stored_file", &[])
        .await?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().await? {
        let state = if row.get(1)? { State::Stored } else { State::Other };
        all.push((row.get(0)?, state, unsigned(row.get(2)?)));
    }
    Ok(all)
}

/// Whether a file is listed as stored still.
pub(super) async fn is_stored(scope: &Scope, id: Uuid) -> Result<bool, FileError> {
    let row = scope
        .query_opt("select id from stored_file where id = $1 and state = 'stored'", &[&id])
        .await?;
    Ok(row.is_some())
}

fn stored_file(row: &crate::Row, first: usize) -> Result<StoredFile, Error> {
    Ok(StoredFile {
        path: row.get(first)?,
        bytes: unsigned(row.get(first + 1)?),
        content_type: row.get(first + 2)?,
        stored_at: row.get(first + 3)?,
    })
}
