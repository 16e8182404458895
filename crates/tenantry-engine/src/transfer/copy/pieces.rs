//! A copy of a stream's in pieces, each committed with a note of how far it goes: whoever takes it over goes on behind that.
//!
//! A piece is read by its two ends, in whatever way the source finds best, not in the order of the key: that spares a copy to visit the rows of
//! a large table one by one where they are stored otherwise.

use tenantry_core::TenantId;

use super::{Copied, End, Pair, Rest, TransferError, copy_rows, empty, of};
use crate::{
    sql_error::SqlError,
    transfer::{
        key::{LastKey, Ordered, OrderedKey, ordered},
        stream::{Begun, note_begun, note_copied},
    },
};

/// A piece has at least this part of the rows that are there: where rows are stored in another order than the key's, each piece may read
/// the whole table, so that a large one must not be cut into many. What is copied again after a crash stays a fifth of it.
const PART: u64 = 4;

/// The tables of a copy, and how far those are that were begun.
pub(super) struct Pieces<'a> {
    rest: Rest<'a>,
    ordered: Ordered,
    begun: Vec<Begun>,
}

impl<'a> Pieces<'a> {
    pub(super) async fn read(source: End<'_>, rest: Rest<'a>, begun: Vec<Begun>) -> Result<Self, SqlError> {
        Ok(Self {
            rest,
            ordered: ordered(source.client, source.schema).await?,
            begun,
        })
    }

    /// Copies what is left of a table. Tells how many of its rows and bytes are there, those from before with them.
    pub(super) async fn copy(
        &self,
        source: End<'_>,
        target: End<'_>,
        pair: &Pair,
        tenant: TenantId,
        so_far: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Copied, TransferError> {
        let key = OrderedKey::of(&pair.source, &self.ordered);
        let (mut copied, mut last) = self.begun(pair, key.as_ref());
        loop {
            so_far(copied.rows, copied.bytes);
            let end = match &key {
                Some(key) => {
                    let rows = self.rest.piece_rows.max(copied.rows / PART);
                    key.behind(source.client, &pair.source, tenant, last.as_ref(), rows)
                        .await?
                }
                None => None,
            };
            let piece = match &key {
                Some(key) => key.between(tenant, last.as_ref(), end.as_ref()),
                None => of(tenant),
            };
            target.begin_writing().await?;
            if last.is_none() {
                empty(target, &pair.target, tenant).await?;
            }
            let mut more = |rows: u64, bytes: u64| so_far(copied.rows + rows, copied.bytes + bytes);
            let came = copy_rows(source, target, pair, &piece, &mut more).await?;
            copied.rows += came.rows;
            copied.bytes += came.bytes;
            let Some(end) = end else {
                note_copied(target.client, self.rest.stream, &copied).await?;
                target.commit().await?;
                return Ok(copied);
            };
            note_begun(target.client, self.rest.stream, &copied, &end).await?;
            target.commit().await?;
            last = Some(end);
        }
    }

    /// How far a table is. One that was noted by another key than it has now is copied from its beginning.
    fn begun(&self, pair: &Pair, key: Option<&OrderedKey>) -> (Copied, Option<LastKey>) {
        let name = &pair.source.name;
        let begun = self.begun.iter().find(|begun| begun.copied.table == *name);
        match begun.filter(|begun| key.is_some_and(|key| key.is_of(&begun.last))) {
            Some(begun) => (begun.copied.clone(), Some(begun.last.clone())),
            None => {
                let nothing = Copied {
                    table: name.clone(),
                    rows: 0,
                    bytes: 0,
                };
                (nothing, None)
            }
        }
    }
}
