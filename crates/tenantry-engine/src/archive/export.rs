//! A snapshot into an archive.

use std::{io::Write, pin::pin};

use futures_util::TryStreamExt as _;
use tenantry_core::InstallationId;

use super::{
    ArchiveError, FORMAT, Manifest, Packed, PackedTable, Packer, Snapshot, TableHead, Tally, TenantHead,
    copy_text::Lines, csv, pack::PART_BYTES,
};
use crate::sql_error::SqlError;

/// What an archive holds beside the rows that a program reads.
#[derive(Clone, Copy, Default, Debug)]
pub struct ExportOptions {
    /// The rows as CSV too.
    pub csv: bool,
}

/// Writes all rows of a snapshot into an archive, a part at a time, and gives back what it was written to. `progress` is told of each
/// table that is done, with how many are done and how many there are.
///
/// # Errors
///
/// Where a statement or a write fails: what was written by then is no archive, and no program takes it for one.
///
/// # Cancel safety
///
/// Dropped before its end, what was written is no archive. The snapshot's connection has to be dropped.
pub async fn export<W: Write + Send + 'static>(
    snapshot: &Snapshot<'_>,
    installation: &InstallationId,
    tenant: TenantHead,
    options: ExportOptions,
    packer: Packer<W>,
    progress: &mut (dyn FnMut(&PackedTable, usize, usize) + Send),
) -> Result<(W, Packed, Manifest), ArchiveError> {
    let heads: Vec<&TableHead> = snapshot.tables().collect();
    let mut tables = Vec::with_capacity(heads.len());
    for (number, head) in heads.iter().enumerate() {
        let folder = folder(number, &head.name);
        let tally = match table(snapshot, head, &folder, options, &packer).await {
            Ok(tally) => tally,
            // It says itself why it ended.
            Err(ArchiveError::Ended) => return Err(packer.why().await.err().unwrap_or(ArchiveError::Ended)),
            Err(error) => return Err(error),
        };
        tables.push(PackedTable::new((*head).clone(), folder, &tally));
        if let Some(done) = tables.last() {
            progress(done, tables.len(), heads.len());
        }
    }
    let manifest = Manifest {
        format: FORMAT,
        program: concat!("tenantry ", env!("CARGO_PKG_VERSION")).to_owned(),
        installation: installation.to_string(),
        tenant,
        taken_at: snapshot.taken_at,
        server_version: snapshot.server_version,
        migrations: snapshot.migrations.clone(),
        own_migrations: snapshot.own_migrations.clone(),
        ahead: snapshot.ahead.clone(),
        tables,
        csv: options.csv,
        left_out: snapshot.left_out.clone(),
    };
    let (to, packed) = packer.finish(&manifest).await?;
    Ok((to, packed, manifest))
}

/// A table's folder: its name as far as it is harmless on every file system, behind a number that makes it unique.
fn folder(number: usize, table: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = table.chars().take(40).map(harmless).collect();
    format!("{:03}_{name}", number + 1)
}

async fn table<W: Write + Send + 'static>(
    snapshot: &Snapshot<'_>,
    head: &TableHead,
    folder: &str,
    options: ExportOptions,
    packer: &Packer<W>,
) -> Result<Tally, ArchiveError> {
    let columns: Vec<&str> = head.columns.iter().map(|column| column.name.as_str()).collect();
    let mut stream = pin!(snapshot.rows(&head.name, &columns, "").await?);
    let (mut lines, mut tally) = (Lines::default(), Tally::default());
    let mut rows = Part::new(format!("data/{folder}"), "copy");
    let mut sheet = Part::new(format!("csv/{folder}"), "csv");
    if options.csv {
        sheet.data = csv::header(&head.columns);
    }
    while let Some(chunk) = stream.try_next().await.map_err(reading)? {
        lines.feed(&chunk, |line| {
            tally.add(line);
            rows.data.extend_from_slice(line);
            if options.csv {
                csv::row(line, &mut sheet.data);
            }
            Ok::<_, ArchiveError>(())
        })?;
        rows.send_when_full(packer).await?;
        sheet.send_when_full(packer).await?;
    }
    if !lines.is_whole() {
        return Err(ArchiveError::malformed("the server sent half a row"));
    }
    rows.send(packer).await?;
    sheet.send(packer).await?;
    Ok(tally)
}

pub(super) fn reading(source: tokio_postgres::Error) -> ArchiveError {
    ArchiveError::Sql(SqlError {
        doing: "read the tenant's rows",
        source,
    })
}

/// A part of a table that is being gathered.
struct Part {
    folder: String,
    extension: &'static str,
    number: u32,
    data: Vec<u8>,
}

impl Part {
    fn new(folder: String, extension: &'static str) -> Self {
        Self {
            folder,
            extension,
            number: 1,
            data: Vec::new(),
        }
    }

    async fn send_when_full<W: Write + Send + 'static>(&mut self, packer: &Packer<W>) -> Result<(), ArchiveError> {
        if self.data.len() < PART_BYTES {
            return Ok(());
        }
        self.send(packer).await
    }

    async fn send<W: Write + Send + 'static>(&mut self, packer: &Packer<W>) -> Result<(), ArchiveError> {
        if self.data.is_empty() {
            return Ok(());
        }
        let path = format!("{}/{:06}.{}", self.folder, self.number, self.extension);
        self.number += 1;
        // A little more than a part, since the last row went over.
        let next = Vec::with_capacity(PART_BYTES + PART_BYTES / 8);
        packer.file(path, std::mem::replace(&mut self.data, next)).await
    }
}
