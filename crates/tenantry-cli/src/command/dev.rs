//! `tenantry dev`: everything on a private PostgreSQL, for a first look and for building an application.

mod catalog;
mod demo;
mod folder;
mod greeting;
pub(crate) mod private;
mod state;
mod world;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use tenantry_catalog::MasterKey;
use tenantry_postgres::Cluster;

use self::{
    folder::Folder,
    greeting::Greeting,
    world::{Users, World},
};
pub(crate) use catalog::PrivateCatalog;
pub(crate) use state::{Running, RunningTenant};

use crate::{config::Config, failure::Failure, output::Output, progress::Progress, shutdown};

/// How to run.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The port on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Start over: everything in .tenantry is removed first
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    postgres: private::PostgresOptions,
}

/// What programs read while `dev` runs, below `.tenantry`.
const RUNNING: &str = "dev.json";

/// What a shell reads to point an application of one's own at this catalog.
const ENVIRONMENT: &str = "dev.env";

/// How often to look whether PostgreSQL still runs.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// The key of the catalog's secrets.
const MASTER_KEY: &str = "master.key";

/// Runs until ctrl-C, and stops all that it started, also when it fails half-way.
pub(super) async fn run(arguments: Arguments, config: Config, output: Output) -> Result<(), Failure> {
    let progress = Progress::start(output);
    let folder = Folder::take(&std::env::current_dir().context("the current folder is gone")?)?;
    let binaries = private::binaries(&arguments.postgres, output, &progress).await?;
    // Before anything is started, so that an impatient ctrl-C leaves nothing behind, and not earlier: at the question
    // whether to install PostgreSQL it ends the process by itself.
    let mut stop = shutdown::Signals::listen()?;
    if arguments.fresh {
        progress.step("removing what was there");
        private::remove(&folder, &binaries, &progress).await?;
        folder.clear()?;
    }
    let mut cluster = private::start(&folder, binaries, &progress).await?;
    let users = Users::default();
    let built = tokio::select! {
        // Tenants that are half made are journalled: the next start goes on with them.
        () = stop.received() => None,
        built = World::build(&arguments, &config, &folder, &cluster, &users, &progress) => Some(built),
    };
    let ended = match built {
        Some(Ok(world)) => {
            let announced = announce(&world, &config, &folder, output, &progress);
            if announced.is_ok() {
                watch(&mut stop, &mut cluster).await;
            }
            progress.step("letting requests end");
            let stopped = world.stop(stop.received()).await;
            announced.map_err(Failure::from).and(stopped)
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    // Before what they are connected to.
    users.end().await;
    progress.step("stopping PostgreSQL");
    let removed = folder.remove(RUNNING).and_then(|()| folder.remove(ENVIRONMENT));
    cluster.stop().await?;
    progress.end();
    removed?;
    ended
}

/// Waits for the signal to stop. A PostgreSQL that ends before is told of and not restarted: whoever stopped it may want
/// to see what the server answers then.
async fn watch(stop: &mut shutdown::Signals, cluster: &mut Cluster) {
    let mut told = false;
    loop {
        // Dropping either arm loses nothing: signals are kept, and the look is made again.
        tokio::select! {
            () = stop.received() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if !told && !cluster.is_running() {
            told = true;
            tracing::error!(
                log = %cluster.log_file().display(),
                "PostgreSQL has ended; its log says why. Stop `dev` and start it again to go on"
            );
        }
    }
}

/// Tells programs by files and people by the greeting that it runs.
fn announce(
    world: &World,
    config: &Config,
    folder: &Folder,
    output: Output,
    progress: &Progress,
) -> anyhow::Result<()> {
    let running = world.running();
    folder.write_secret(ENVIRONMENT, &environment(running, folder))?;
    folder.write_json(RUNNING, running)?;
    progress.end();
    let greeting = Greeting {
        running,
        file: folder.join(RUNNING).display().to_string(),
        crm: config.migrations.is_none(),
    };
    // Whoever started us may not read what we print; the server runs all the same.
    let _ = output.answer(&greeting);
    Ok(())
}

/// Lines for a shell: `. .tenantry/dev.env`.
fn environment(running: &Running, folder: &Folder) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let key = folder.join(MASTER_KEY);
    let catalog = quoted(&running.catalog_url);
    let key = quoted(&key.to_string_lossy());
    format!("export TENANTRY_CATALOG_URL={catalog}\nexport TENANTRY_MASTER_KEY_FILE={key}\n")
}

/// The key of the catalog's secrets, made at the first start.
fn master_key(folder: &Folder) -> anyhow::Result<MasterKey> {
    let path = folder.join(MASTER_KEY);
    if path.exists() {
        return Ok(MasterKey::from_file(&path)?);
    }
    let key = MasterKey::generate();
    folder.write_secret(MASTER_KEY, &key.to_hex())?;
    Ok(key)
}

/// What another command needs to know of a `dev` that runs below a folder.
pub(crate) struct RunningDev {
    pub(crate) catalog_url: String,
    pub(crate) master_key_file: PathBuf,
}

/// The `dev` that runs in `.tenantry` below this folder, if one does.
pub(crate) fn running_in(below: &Path) -> anyhow::Result<Option<RunningDev>> {
    let folder = below.join(folder::NAME);
    let text = match std::fs::read_to_string(folder.join(RUNNING)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("can't read {}", folder.join(RUNNING).display())),
    };
    let running: Running = serde_json::from_str(&text).context(".tenantry/dev.json is damaged: start `dev` again")?;
    Ok(Some(RunningDev {
        catalog_url: running.catalog_url,
        master_key_file: folder.join(MASTER_KEY),
    }))
}
