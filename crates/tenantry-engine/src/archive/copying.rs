//! A snapshot into another tenant's home, without an archive in between.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use tenantry_core::InstallationId;
use tokio_postgres::Client;

use super::{ArchiveError, Load, Mask, NewIds, Place, Snapshot, TableHead, export::reading};

/// Copies all rows of a snapshot into another tenant's home, some of their values masked, with new ids where there are `ids`, and verifies
/// each table by count and checksum before it commits. `progress` is told of each table that is done: its number, its name and its rows.
///
/// # Errors
///
/// Any [`ArchiveError`]; the home is then as it was.
///
/// # Cancel safety
///
/// Dropped before its end, both connections have to be dropped; nothing is kept.
pub async fn copy(
    snapshot: &Snapshot<'_>,
    client: &Client,
    installation: &InstallationId,
    place: &Place,
    mask: &Mask,
    ids: Option<&NewIds>,
    progress: &mut (dyn FnMut(usize, &str, u64) + Send),
) -> Result<(), ArchiveError> {
    let load = Load::begin(client, installation, place).await?;
    match copy_all(snapshot, &load, mask, ids, progress).await {
        Ok(()) => load.commit(&snapshot.ahead).await,
        Err(error) => {
            // Where this fails too the connection is gone, and the transaction with it.
            let _ = load.roll_back().await;
            Err(error)
        }
    }
}

async fn copy_all(
    snapshot: &Snapshot<'_>,
    load: &Load<'_>,
    mask: &Mask,
    ids: Option<&NewIds>,
    progress: &mut (dyn FnMut(usize, &str, u64) + Send),
) -> Result<(), ArchiveError> {
    let heads: Vec<&TableHead> = snapshot.tables().collect();
    load.require_fit(heads.iter().copied())?;
    for (number, head) in heads.iter().enumerate() {
        let columns: Vec<&str> = head.columns.iter().map(|column| column.name.as_str()).collect();
        let (masked, renewed) = (mask.table(head), ids.map(|ids| ids.table(head)));
        let mut filling = load.fill(head).await?;
        let mut rows = pin!(snapshot.rows(&head.name, &columns, "").await?);
        while let Some(chunk) = rows.try_next().await.map_err(reading)? {
            let mut between = Vec::new();
            let change = |line: &[u8], out: &mut Vec<u8>| {
                let Some(renewed) = &renewed else {
                    return Ok(masked.apply(line, out));
                };
                between.clear();
                // A row that only the rules changed is written once more.
                if !masked.apply(line, &mut between) {
                    return renewed.apply(line, out);
                }
                if !renewed.apply(&between, out)? {
                    out.extend_from_slice(&between);
                }
                Ok(true)
            };
            filling.send(&chunk, change).await?;
        }
        let sent = load.filled(head, filling).await?;
        load.verify(head, &sent).await?;
        progress(number, &head.name, sent.rows);
    }
    load.advance(&heads, ids).await
}
