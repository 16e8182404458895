//! `tenantry tenant export`: one tenant into one file.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use tenantry_ops::{ExportOptions, Exported, LeftOut, Ops, TenantRef};

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output, fields, table, time},
    progress::Progress,
};

/// The tenant to export.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The tenant's slug or id
    tenant: String,
    /// The file to write, which must not exist; `-` for stdout
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Write the rows as CSV too, for people
    #[arg(long)]
    csv: bool,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    file: Option<PathBuf>,
    bytes: u64,
    digest: String,
    signer: String,
    taken_at: DateTime<Utc>,
    rows: u64,
    tables: Vec<WrittenTable>,
    left_out: LeftOut,
}

#[derive(Serialize)]
struct WrittenTable {
    table: String,
    rows: u64,
    bytes: u64,
    checksum: String,
}

impl Answer for Written {
    fn text(&self) -> String {
        let mut shown = Vec::new();
        if let Some(file) = &self.file {
            shown.push(("file", file.display().to_string()));
        }
        shown.push(("bytes", self.bytes.to_string()));
        shown.push(("as of", time(self.taken_at)));
        shown.push(("signed by", self.signer.clone()));
        if self.left_out.jobs + self.left_out.schedules > 0 {
            let left = format!("{} jobs, {} schedules", self.left_out.jobs, self.left_out.schedules);
            shown.push(("left out", left));
        }
        match self.left_out.history {
            Some(0) => {}
            Some(entries) => shown.push(("left out", format!("{entries} entries of the rows' history"))),
            None => shown.push((
                "left out",
                "the rows' history, which this administrator may not count".to_owned(),
            )),
        }
        for list in &self.left_out.lists_of_files {
            shown.push(("left out", format!("the bytes of the files that {list} names")));
        }
        let rows = self
            .tables
            .iter()
            .map(|table| [table.table.clone(), table.rows.to_string(), table.checksum.clone()]);
        format!("{}\n\n{}", fields(shown), table(["table", "rows", "checksum"], rows))
    }
}

pub(super) async fn run(ops: &Ops, export: &Export, output: Output) -> Result<(), Failure> {
    let progress = Progress::start(output);
    let written = match export.to.as_os_str() == "-" {
        true => write(ops, export, std::io::stdout(), &progress)
            .await
            .map(|(_, exported)| exported),
        false => into_file(ops, export, &progress).await,
    };
    progress.end();
    let exported = written?;
    let file = (export.to.as_os_str() != "-").then(|| export.to.clone());
    let shown = Written {
        bytes: exported.bytes,
        digest: exported.digest,
        signer: exported.signer.to_string(),
        taken_at: exported.manifest.taken_at,
        rows: exported.manifest.rows(),
        left_out: exported.manifest.left_out,
        tables: exported
            .manifest
            .tables
            .into_iter()
            .map(|table| WrittenTable {
                table: table.head.name,
                rows: table.rows,
                bytes: table.bytes,
                checksum: table.checksum,
            })
            .collect(),
        file,
    };
    // On stdout stands the archive.
    if shown.file.is_none() {
        return Ok(());
    }
    Ok(output.answer(&shown)?)
}

async fn write<W: Write + Send + 'static>(
    ops: &Ops,
    export: &Export,
    to: W,
    progress: &Progress,
) -> Result<(W, Exported), Failure> {
    let tenant = TenantRef::parse(&export.tenant);
    let options = ExportOptions { csv: export.csv };
    let mut tell = |done: &tenantry_ops::PackedTable, number: usize, of: usize| {
        progress.step(format!(
            "{number} of {of} tables: {} ({} rows)",
            done.head.name, done.rows
        ));
    };
    Ok(ops.export_tenant(&authority(), &tenant, to, options, &mut tell).await?)
}

/// Nothing half written ever has the file's name: it is written beside, and takes the name when all of it is on the disk.
async fn into_file(ops: &Ops, export: &Export, progress: &Progress) -> Result<Exported, Failure> {
    let to = &export.to;
    if to.exists() {
        return Err(Failure::usage(format!(
            "{} is there already: choose another name",
            to.display()
        )));
    }
    let name = to.file_name().ok_or_else(|| Failure::usage("--to names no file"))?;
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let beside = folder.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let file = private(&beside).with_context(|| format!("{} can't be written", beside.display()))?;
    let outcome = write(ops, export, BufWriter::new(file), progress).await;
    let kept = outcome.and_then(|(writer, exported)| {
        let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&beside, to).with_context(|| format!("{} can't be written", to.display()))?;
        File::open(folder)?.sync_all()?;
        Ok(exported)
    });
    if kept.is_err() {
        // Where that fails too, its name says that it is half a file.
        let _ = std::fs::remove_file(&beside);
    }
    kept
}

/// A file that only its owner reads: it holds a tenant's data as they are.
fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
