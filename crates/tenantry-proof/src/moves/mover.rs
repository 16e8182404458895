//! The process that moves: this program again, so that it can be killed, stopped and woken.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tenantry_core::Isolation;
use tenantry_ops::{MoveRequest, Steer, TenantRef};

use super::{
    matrix::{Course, Run},
    site::{operator, ops_at},
};

/// Longer than any run, with a clock that jumps an hour ahead.
const SOAK: Duration = Duration::from_secs(12 * 3600);

/// Moves a tenant, as `tenantry tenant move` does.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The catalog's address
    #[arg(long)]
    catalog: String,
    /// The tenant's slug
    #[arg(long)]
    tenant: String,
    /// How its rows are kept apart then
    #[arg(long)]
    to: Isolation,
    /// The server to take it to
    #[arg(long)]
    server: String,
    /// Copy while the tenant works, however small it is
    #[arg(long)]
    online: bool,
    /// Keep the old home in step, and take the tenant back to it at once
    #[arg(long)]
    back: bool,
}

/// What the process does.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let ops = ops_at(&options.catalog, options.online).await?;
    let request = MoveRequest {
        to: options.to,
        server: Some(options.server.clone()),
        force: false,
        wait: false,
        soak: options.back.then_some(SOAK),
    };
    let tenant = TenantRef::Slug(options.tenant.clone());
    let begun = ops.move_tenant(&operator(), &tenant, &request, None).await?;
    ops.finish_move(&operator(), begun.id, &|_| ()).await?;
    if options.back {
        // It soaks, and has been brought in step once.
        ops.steer_move(&operator(), begun.id, Steer::Rollback).await?;
        ops.finish_move(&operator(), begun.id, &|_| ()).await?;
    }
    Ok(())
}

/// The process, as the driver sees it. It is killed at the latest when this value goes.
pub(super) struct Mover {
    child: Child,
    place: String,
    /// What it said on standard error, a line each.
    said: mpsc::Receiver<String>,
}

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mover {
    /// Starts it; it stops at the run's place until the gate's file is there.
    pub(super) fn start(catalog: &str, slug: &str, run: &Run, gate: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["mover", "--catalog", catalog, "--tenant", slug])
            .args(["--to", run.to.isolation.as_str(), "--server", run.to.server.name()])
            .env("TENANTRY_FAILPOINT", format!("{}=gate", run.place))
            .env("TENANTRY_FAILPOINT_GATE", gate)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if run.online {
            command.arg("--online");
        }
        if run.course == Course::Back {
            command.arg("--back");
        }
        let mut child = command.spawn().context("start the process that moves")?;
        let lines = BufReader::new(child.stderr.take().context("its standard error is piped")?).lines();
        let (sender, said) = mpsc::channel();
        // Ends with the process; read to its end, so that it never waits for us.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody has to listen.
                let _ = sender.send(line);
            }
        });
        Ok(Self {
            child,
            place: run.place.clone(),
            said,
        })
    }

    /// Waits until it is at its place.
    pub(super) async fn arrives(&mut self, patience: Duration) -> Result<()> {
        let sign = format!("failpoint {}", self.place);
        let began = tokio::time::Instant::now();
        let mut told = Vec::new();
        while began.elapsed() < patience {
            match self.said.try_recv() {
                Ok(line) if line == sign => return Ok(()),
                Ok(line) => told.push(line),
                Err(mpsc::TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(mpsc::TryRecvError::Disconnected) => break,
            }
        }
        bail!("the mover never came to {}: {}", self.place, told.join("; "))
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the mover")?;
        self.child.wait().context("wait for the mover's end")?;
        Ok(())
    }

    /// Puts it to sleep, whatever it is doing, or wakes it up.
    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([name, &id]).status()?;
        anyhow::ensure!(status.success(), "the mover can't be sent {name}");
        Ok(())
    }
}
