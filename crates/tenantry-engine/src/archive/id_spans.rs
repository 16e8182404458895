//! How far the numbers reach that are ids: among the rows, and where they go.

use tenantry_core::InstallationId;
use tokio_postgres::Client;

use super::{
    ArchiveError, IdError, IdPlan, Place, TableHead, Unpacker,
    copy_text::{self, Lines},
    ids::IdKind,
    snapshot::{roll_back, search_path},
    tables,
};
use crate::{
    home::{Acting, acting},
    roles::Roles,
    sql_error::Doing as _,
};

/// The numbers of a group.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) least: i64,
    pub(super) most: i64,
}

pub(super) fn number(field: &[u8]) -> Option<i64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

pub(super) fn widen(span: &mut Option<Span>, least: i64, most: i64) {
    let wide = span.get_or_insert(Span { least, most });
    wide.least = wide.least.min(least);
    wide.most = wide.most.max(most);
}

/// How far the sequence had come that fills this column where the rows come from.
pub(super) fn drawn(heads: &[&TableHead], table: &str, column: &str) -> Option<i64> {
    let head = heads.iter().find(|head| head.name == table)?;
    head.sequences.iter().find(|sequence| sequence.column == column)?.value
}

/// The numbers of each group among an archive's rows.
pub(super) async fn spans(archive: &Unpacker, plan: &IdPlan) -> Result<Vec<Option<Span>>, ArchiveError> {
    let mut spans = vec![None; plan.groups.len()];
    if plan.groups.iter().all(|group| group.kind == IdKind::Uuid) {
        return Ok(spans);
    }
    let is_number = |(_, group): &(usize, usize)| plan.groups[*group].kind != IdKind::Uuid;
    let mut tables = Vec::new();
    for table in &archive.manifest().tables {
        let numbers: Vec<(usize, usize)> = plan.of_table(&table.head).into_iter().filter(is_number).collect();
        tables.push((Lines::default(), numbers));
    }
    let mut reading = archive.chunks()?;
    while let Some(chunk) = reading.chunks.recv().await {
        let (lines, numbers) = &mut tables[chunk.table];
        if numbers.is_empty() {
            continue;
        }
        lines.feed(&chunk.rows, |line| {
            for (at, field) in copy_text::fields(line).enumerate() {
                let Some((_, group)) = numbers.iter().find(|(number, _)| *number == at) else {
                    continue;
                };
                if field != b"\\N" {
                    let id = number(field).ok_or_else(|| ArchiveError::malformed("an id is no number"))?;
                    widen(&mut spans[*group], id, id);
                }
            }
            Ok::<_, ArchiveError>(())
        })?;
    }
    reading.end().await?;
    Ok(spans)
}

/// How far the sequences of each group have come where the rows go, which has to have the same keys.
pub(super) async fn given(
    client: &Client,
    installation: &InstallationId,
    place: &Place,
    plan: &IdPlan,
    also: &[String],
) -> Result<Vec<Option<i64>>, ArchiveError> {
    let Roles { mover, owner, .. } = Roles::of(installation);
    let role = match acting(client, installation).await? {
        Acting::Mover => mover,
        Acting::Owner => owner,
    };
    let path = search_path(&place.schema)?;
    client
        .batch_execute(&format!("begin read only; {path}"))
        .await
        .doing("begin to look at sequences")?;
    let asked = async {
        let there = tables::list(client, &place.schema).await?;
        if IdPlan::new(there.iter().map(|table| &table.head), also)?.groups != plan.groups {
            return Err(IdError::OtherKeys.into());
        }
        client
            .batch_execute(&format!("set local role {role}"))
            .await
            .doing("act for the tenant")?;
        let mut given: Vec<Option<i64>> = vec![None; plan.groups.len()];
        for table in &there {
            for sequence in &table.sequences {
                let Some(group) = plan.group_of(&table.head.name, &sequence.column) else {
                    continue;
                };
                let row = client
                    .query_one(
                        "select pg_catalog.pg_sequence_last_value($1::pg_catalog.oid::pg_catalog.regclass)",
                        &[&sequence.oid],
                    )
                    .await
                    .doing("look where a sequence stands")?;
                given[group] = given[group].max(row.get(0));
            }
        }
        Ok::<_, ArchiveError>(given)
    };
    let outcome = asked.await;
    // Where this fails too the connection is gone, and the transaction with it.
    let _ = roll_back(client).await;
    outcome
}
