//! The private PostgreSQL of `dev`, in `.tenantry/postgres`.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{BufRead, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use tenantry_postgres::{
    AccountError, Binaries, Cluster, ClusterOptions, FindOptions, ObtainOptions, Progress as Step, StartError,
};

use super::folder::Folder;
use crate::{output::Output, progress::Progress};

/// Where the data go when PostgreSQL's user can't enter the current folder.
const ELSEWHERE: &str = "/var/lib/tenantry";

/// The cluster's name below `.tenantry`.
const NAME: &str = "postgres";

/// Where PostgreSQL comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct PostgresOptions {
    /// The folder with PostgreSQL's programs [default: the newest that is found]
    #[arg(long, value_name = "FOLDER")]
    pg_bin: Option<PathBuf>,
    /// Install PostgreSQL without asking where there is none
    #[arg(long)]
    yes: bool,
}

/// Finds PostgreSQL's programs; asks before it installs anything.
pub(crate) async fn binaries(
    options: &PostgresOptions,
    output: Output,
    progress: &Progress,
) -> anyhow::Result<Binaries> {
    let PostgresOptions { pg_bin: bin_dir, yes } = options.clone();
    let progress = progress.clone();
    let obtain = move || {
        let find = FindOptions {
            bin_dir,
            ..FindOptions::default()
        };
        // The spinner would draw over the question.
        let ask = |question: &str| progress.beside(|| ask(question));
        let ask: Option<&dyn Fn(&str) -> bool> = if output.is_watched() { Some(&ask) } else { None };
        Binaries::obtain(&ObtainOptions { find, yes, ask })
    };
    Ok(tokio::task::spawn_blocking(obtain).await??)
}

fn ask(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Starts the cluster, making it first if it is new.
pub(super) async fn start(folder: &Folder, binaries: Binaries, progress: &Progress) -> anyhow::Result<Cluster> {
    let place = folder.join(NAME);
    // A link whose target was cleared away would only be in the way.
    if place.is_symlink() && !place.exists() {
        fs::remove_file(&place).with_context(|| format!("can't remove {}", place.display()))?;
    }
    match Cluster::start(options(&place, binaries.clone(), progress)).await {
        Err(StartError::Account(AccountError::ClosedFolder {
            user, folder: closed, ..
        })) => {
            let elsewhere = link_elsewhere(folder, &place)?;
            progress.note(format!(
                "{user} may not enter {}: PostgreSQL's data are in {}",
                closed.display(),
                elsewhere.display()
            ));
            Ok(Cluster::start(options(&place, binaries, progress)).await?)
        }
        started => Ok(started?),
    }
}

fn options(place: &Path, binaries: Binaries, progress: &Progress) -> ClusterOptions {
    let progress = progress.clone();
    let mut options = ClusterOptions::new(place, binaries);
    options.progress = Some(Arc::new(move |step| match step {
        Step::StoppingOrphan { pid } => {
            progress.note(format!(
                "stopping the PostgreSQL that a killed `dev` left behind (process {pid})"
            ));
        }
        Step::Initialising => progress.step("making a PostgreSQL cluster"),
        Step::Starting => progress.step("starting PostgreSQL"),
        _ => {}
    }));
    options
}

/// Root works in folders that PostgreSQL's user may not enter (`/root`, what `mktemp -d` makes). The folder's mode is the
/// user's business, so the data go where that user can get, and a link stands in their place.
fn link_elsewhere(folder: &Folder, place: &Path) -> anyhow::Result<PathBuf> {
    let base = Path::new(ELSEWHERE);
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(base)
        .with_context(|| format!("can't make {ELSEWHERE}"))?;
    fs::set_permissions(base, Permissions::from_mode(0o711))?;
    let elsewhere = base.join(format!("dev-{}", uuid::Uuid::now_v7().simple()));
    DirBuilder::new()
        .mode(0o711)
        .create(&elsewhere)
        .with_context(|| format!("can't make {}", elsewhere.display()))?;
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o711))?;
    if place.exists() {
        // Made by us a moment ago, before the way to it was checked, or left from before the folder was closed.
        fs::remove_dir(place).with_context(|| {
            format!(
                "{} holds data that PostgreSQL's user can't reach: open the folder to it",
                place.display()
            )
        })?;
    }
    symlink(&elsewhere, place)
        .with_context(|| format!("can't link {} in {}", place.display(), folder.path().display()))?;
    Ok(elsewhere)
}

/// Removes the cluster's folder, wherever it stands, for `--fresh`. A server that a killed `dev` left is stopped first.
pub(super) async fn remove(folder: &Folder, binaries: &Binaries, progress: &Progress) -> anyhow::Result<()> {
    let place = folder.join(NAME);
    if !place.exists() && !place.is_symlink() {
        return Ok(());
    }
    stop_orphan(&place, binaries, progress).await?;
    let target = place.canonicalize().unwrap_or_else(|_| place.clone());
    if place.is_symlink() {
        fs::remove_file(&place)?;
    }
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("can't remove {}", target.display()))?;
    }
    Ok(())
}

/// Ends what still runs on the data folder, so that nothing writes into a folder that is being removed.
async fn stop_orphan(place: &Path, binaries: &Binaries, progress: &Progress) -> anyhow::Result<()> {
    let data = place.join("data");
    if tenantry_postgres::servers_below(&data).is_empty() {
        return Ok(());
    }
    // The start ends the orphan before anything else; that the data may be damaged is no matter here.
    if let Ok(cluster) = Cluster::start(options(place, binaries.clone(), progress)).await {
        cluster.stop().await?;
    }
    anyhow::ensure!(
        tenantry_postgres::servers_below(&data).is_empty(),
        "a PostgreSQL still runs in {}: stop it first",
        data.display()
    );
    Ok(())
}
