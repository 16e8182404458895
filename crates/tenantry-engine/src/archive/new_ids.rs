//! New values for ids, told from the old ones by a rule: no list of them is held, and the same rows loaded again get the same ones.
//!
//! A uuid becomes a digest of itself and a secret of this import. A number is moved by as much for all of its group, past every number
//! that the rows have and past those that the sequence where they go has given.

use std::{collections::BTreeMap, io::Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tenantry_core::InstallationId;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    ArchiveError, IdError, IdPlan, Place, Snapshot, TableHead, Unpacker, copy_text,
    id_spans::{Span, drawn, given, number, spans, widen},
    ids::IdKind,
};

/// What is wanted of new ids.
#[derive(Clone, Copy)]
pub struct IdWish<'a> {
    /// What new uuids are told by, beside the old ones. Who knows both knows the new ones.
    pub secret: [u8; 32],
    /// Uuid columns, as `table.column`, that hold ids of rows without a foreign key.
    pub also: &'a [String],
    /// As they were when these rows were loaded before; of no use where they never were.
    pub known: &'a IdOffsets,
}

/// By how much numbers are moved, by the first column of each group. Remembered by who may have to load the same rows again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdOffsets(BTreeMap<String, i64>);

/// The rule by which the rows of one load get new ids.
pub struct NewIds {
    plan: IdPlan,
    secret: [u8; 32],
    /// Of each group, by its number; none where it has no numbers.
    moved: Vec<Option<Moved>>,
}

/// How the numbers of a group are moved.
#[derive(Clone, Copy)]
struct Moved {
    by: i64,
    /// The largest of the new ones.
    reaches: i64,
}

/// How the rows of one table get new ids.
pub(super) struct RenewedTable<'a> {
    table: &'a str,
    /// By the number of the column.
    changes: Vec<(usize, Change)>,
    secret: &'a [u8; 32],
}

#[derive(Clone, Copy)]
enum Change {
    Uuid,
    By(i64),
}

impl std::fmt::Debug for NewIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewIds")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl NewIds {
    /// For the rows of an archive, which are read once for the numbers among their ids. `client` is the administrator's where they go,
    /// in no transaction.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Ids`], or where the archive or the home can't be read.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by it; dropped before its end, its connection has to be dropped.
    pub async fn of_archive(
        client: &Client,
        installation: &InstallationId,
        place: &Place,
        archive: &Unpacker,
        wish: IdWish<'_>,
    ) -> Result<Self, ArchiveError> {
        let heads: Vec<&TableHead> = archive.manifest().tables.iter().map(|table| &table.head).collect();
        let plan = IdPlan::new(heads.iter().copied(), wish.also)?;
        let given = given(client, installation, place, &plan, wish.also).await?;
        let spans = spans(archive, &plan).await?;
        Self::settle(plan, wish, &heads, &spans, &given)
    }

    /// The same for the rows of a snapshot.
    ///
    /// # Errors
    ///
    /// As [`NewIds::of_archive`].
    ///
    /// # Cancel safety
    ///
    /// The same; the snapshot's connection has to be dropped as well.
    pub async fn of_snapshot(
        client: &Client,
        installation: &InstallationId,
        place: &Place,
        snapshot: &Snapshot<'_>,
        wish: IdWish<'_>,
    ) -> Result<Self, ArchiveError> {
        let heads: Vec<&TableHead> = snapshot.tables().collect();
        let plan = IdPlan::new(heads.iter().copied(), wish.also)?;
        let given = given(client, installation, place, &plan, wish.also).await?;
        let mut spans = vec![None; plan.groups.len()];
        for (group, span) in plan.groups.iter().zip(&mut spans) {
            if group.kind == IdKind::Uuid {
                continue;
            }
            for (table, column) in &group.columns {
                if let Some((least, most)) = snapshot.span(table, column).await? {
                    widen(span, least, most);
                }
            }
        }
        Self::settle(plan, wish, &heads, &spans, &given)
    }

    /// Which columns it changes.
    pub fn plan(&self) -> &IdPlan {
        &self.plan
    }

    /// What has to be known to make the same ids of the same rows again.
    pub fn offsets(&self) -> IdOffsets {
        let moved = self.plan.groups.iter().zip(&self.moved);
        IdOffsets(
            moved
                .filter_map(|(group, moved)| Some((group.name(), (*moved)?.by)))
                .collect(),
        )
    }

    /// The rule for the rows of a table.
    pub(super) fn table<'a>(&'a self, head: &'a TableHead) -> RenewedTable<'a> {
        let change = |(number, group): (usize, usize)| match (self.plan.groups[group].kind, self.moved[group]) {
            (IdKind::Uuid, _) => Some((number, Change::Uuid)),
            (IdKind::Integer { .. }, moved) => Some((number, Change::By(moved?.by))),
        };
        RenewedTable {
            table: &head.name,
            changes: self.plan.of_table(head).into_iter().filter_map(change).collect(),
            secret: &self.secret,
        }
    }

    /// How far the new numbers of a column reach; `None` where it has none.
    pub(super) fn reached(&self, table: &str, column: &str) -> Option<i64> {
        let group = self.plan.group_of(table, column)?;
        Some(self.moved[group]?.reaches)
    }

    /// `given` is how far the sequences of each group have come where the rows go.
    fn settle(
        plan: IdPlan,
        wish: IdWish<'_>,
        heads: &[&TableHead],
        spans: &[Option<Span>],
        given: &[Option<i64>],
    ) -> Result<Self, ArchiveError> {
        let mut moved = Vec::with_capacity(plan.groups.len());
        for ((group, span), given) in plan.groups.iter().zip(spans).zip(given) {
            let (IdKind::Integer { most: room }, Some(span)) = (group.kind, span) else {
                moved.push(None);
                continue;
            };
            // Numbers of rows that are gone are not given again either.
            let drawn = group
                .columns
                .iter()
                .filter_map(|(table, column)| drawn(heads, table, column))
                .max();
            let past = i128::from(span.most).max(drawn.map_or(0, i128::from)).max(0);
            // The least comes right behind these, and no number is left out: in shared tables all tenants draw from what there is.
            let least = i128::from(span.least);
            let apart = past - least + 1;
            let beyond = past.max(given.map_or(0, i128::from)) - least + 1;
            let known = wish.known.0.get(&group.name()).copied().map(i128::from);
            let by = known.filter(|known| *known >= apart).unwrap_or(beyond);
            let reaches = i128::from(span.most) + by;
            match (i64::try_from(by), i64::try_from(reaches)) {
                (Ok(by), Ok(reaches)) if reaches <= room => moved.push(Some(Moved { by, reaches })),
                _ => {
                    let (column, wanted) = (group.name(), reaches);
                    return Err(IdError::Exhausted {
                        column,
                        wanted,
                        most: room,
                    }
                    .into());
                }
            }
        }
        Ok(Self {
            plan,
            secret: wish.secret,
            moved,
        })
    }
}

impl RenewedTable<'_> {
    /// Writes the row with its new ids; `false` where it has none.
    pub(super) fn apply(&self, line: &[u8], out: &mut Vec<u8>) -> Result<bool, ArchiveError> {
        if self.changes.is_empty() {
            return Ok(false);
        }
        for (number, field) in copy_text::fields(line).enumerate() {
            if number > 0 {
                out.push(b'\t');
            }
            let change = self.changes.iter().find(|(changed, _)| *changed == number);
            match change {
                Some((_, change)) if field != b"\\N" => {
                    let written = self.write(*change, field, out);
                    written.ok_or_else(|| ArchiveError::malformed(format!("an id of {} is none", self.table)))?;
                }
                _ => out.extend_from_slice(field),
            }
        }
        out.push(b'\n');
        Ok(true)
    }

    /// As PostgreSQL writes it, so that what is read back is the same.
    fn write(&self, change: Change, field: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match change {
            Change::Uuid => {
                let new = renewed(self.secret, Uuid::try_parse_ascii(field).ok()?);
                let mut text = [0; 36];
                out.extend_from_slice(new.hyphenated().encode_lower(&mut text).as_bytes());
            }
            Change::By(by) => {
                let new = number(field)?.checked_add(by)?;
                write!(out, "{new}").ok()?;
            }
        }
        Some(())
    }
}

/// Another uuid of the same kind: version and variant stay, and of version 7 the time, so that rows keep their order.
fn renewed(secret: &[u8; 32], old: Uuid) -> Uuid {
    /// What stays of version and variant.
    const KIND: [(usize, u8); 2] = [(6, 0xf0), (8, 0xc0)];
    /// How many bytes of version 7 are the time.
    const TIME: usize = 6;
    let old_bytes = old.as_bytes();
    let digest = Sha256::new().chain_update(secret).chain_update(old_bytes).finalize();
    let mut new = [0; 16];
    new.copy_from_slice(&digest[..16]);
    for (at, kind) in KIND {
        new[at] = (old_bytes[at] & kind) | (new[at] & !kind);
    }
    if old.get_version_num() == 7 {
        new[..TIME].copy_from_slice(&old_bytes[..TIME]);
    }
    Uuid::from_bytes(new)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Column, SequenceValue},
        *,
    };

    const OLD: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn a_uuid_keeps_its_kind_and_its_time_and_nothing_else() {
        let old: Uuid = OLD.parse().unwrap();
        let new = renewed(&[1; 32], old);
        assert_ne!(new, old);
        assert_eq!(new, renewed(&[1; 32], old));
        assert_ne!(new, renewed(&[2; 32], old));
        assert_eq!(new.as_bytes()[..6], old.as_bytes()[..6], "the time of version 7");
        assert_ne!(new.as_bytes()[9..], old.as_bytes()[9..]);
        for text in [
            OLD,
            "7b1f6a0e-3c4d-4b1a-9a55-0c7d5b0f1e2a",
            "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        ] {
            let old: Uuid = text.parse().unwrap();
            let new = renewed(&[1; 32], old);
            let kind = |id: Uuid| (id.get_version_num(), id.get_variant());
            assert_eq!(kind(new), kind(old), "{text}");
        }
    }

    fn numbers() -> TableHead {
        let column = |name: &str, kind: &str| Column {
            name: name.to_owned(),
            r#type: kind.to_owned(),
            required: true,
        };
        TableHead {
            name: "n".to_owned(),
            columns: vec![column("id", "smallint"), column("note", "text"), column("key", "uuid")],
            key: vec!["id".to_owned()],
            sequences: vec![SequenceValue {
                column: "id".to_owned(),
                value: Some(90),
            }],
            references: Some(Vec::new()),
        }
    }

    fn settled(span: Option<(i64, i64)>, given: Option<i64>, known: &IdOffsets) -> Result<NewIds, ArchiveError> {
        let head = numbers();
        let wish = IdWish {
            secret: [1; 32],
            also: &["n.key".to_owned()],
            known,
        };
        let plan = IdPlan::new([&head], wish.also).unwrap();
        let span = span.map(|(least, most)| Span { least, most });
        NewIds::settle(plan, wish, &[&head], &[span, None], &[given, None])
    }

    #[test]
    fn numbers_are_moved_past_all_that_were_given_on_either_side() {
        let none = IdOffsets::default();
        let by = |span, given| settled(Some(span), given, &none).unwrap().moved[0].unwrap();
        // 90 were drawn where they come from.
        assert_eq!((by((1, 50), None).by, by((1, 50), None).reaches), (90, 140));
        assert_eq!(by((1, 50), Some(1000)).by, 1000);
        assert_eq!(by((-10, 50), None).by, 101, "the least comes behind the largest, too");
        let late = by((900, 1000), Some(2000));
        assert_eq!((late.by, late.reaches), (1101, 2101), "no number is left out");
        assert!(settled(None, Some(5), &none).unwrap().moved[0].is_none());
        let refused = settled(Some((1, 20_000)), Some(20_000), &none).unwrap_err().to_string();
        assert!(
            refused.contains("n.id would have to hold 40000") && refused.contains("32767"),
            "{refused}"
        );
    }

    #[test]
    fn rows_that_are_loaded_again_get_the_same_numbers_though_the_sequence_has_gone_on() {
        let first = settled(Some((1, 50)), Some(1000), &IdOffsets::default()).unwrap();
        let text = serde_json::to_string(&first.offsets()).unwrap();
        assert_eq!(text, r#"{"n.id":1000}"#);
        let known: IdOffsets = serde_json::from_str(&text).unwrap();
        let again = settled(Some((1, 50)), Some(1050), &known).unwrap();
        assert_eq!(again.offsets(), first.offsets());
        // One that does not part the new ones from the old ones any more is of no use.
        let grown = settled(Some((1, 5000)), Some(1050), &known).unwrap();
        assert_eq!(grown.moved[0].unwrap().by, 5000);
    }

    #[test]
    fn a_row_is_written_as_postgresql_writes_it() {
        let ids = settled(Some((1, 50)), None, &IdOffsets::default()).unwrap();
        let (head, mut out) = (numbers(), Vec::new());
        let line = format!("7\ta\\tb\t{OLD}\n");
        assert!(ids.table(&head).apply(line.as_bytes(), &mut out).unwrap());
        let new = renewed(&[1; 32], OLD.parse().unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), format!("97\ta\\tb\t{new}\n"));
        let mut out = Vec::new();
        assert!(ids.table(&head).apply(b"8\t\\N\t\\N\n", &mut out).unwrap());
        assert_eq!(out, b"98\t\\N\t\\N\n");
        assert!(ids.table(&head).apply(b"x\t\\N\t\\N\n", &mut Vec::new()).is_err());
    }
}
