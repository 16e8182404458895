//! Starting and stopping: the same for `serve`, `dev` and the tests.

use std::{fmt, future::Future, net::SocketAddr, pin::pin, time::Duration};

use tenantry_ops::Ops;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{Application, Config, Services, accept, layer::Cut, life::Life, metrics, router};

/// How long the answers to requests that were cut off may take to be sent.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// A server that runs.
///
/// Dropping it stops it at once; [`stop`](Self::stop) lets requests that have begun end.
pub struct Server {
    address: SocketAddr,
    delay: Duration,
    grace: Duration,
    stop: Option<oneshot::Sender<()>>,
    /// Requests are cut off when this is used or dropped.
    cut: watch::Sender<()>,
    task: JoinHandle<()>,
    /// Takes operations; they go on in tasks of their own.
    runner: Ending,
    ops: Ops,
    life: Life,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is in use or not this machine's.
    #[error("cannot listen on {address}: choose another address or port, or stop what listens there")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// What was left when a server stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Requests that held on until the time was over. The log has a line for each, with its id and its tenant.
    pub requests_cut: usize,
    /// Connections that were still in use: of those requests, or of clients that did not take their answer.
    pub connections_cut: usize,
    /// Whether operations were under way: the next runner goes on with them, so nothing is lost.
    pub operations_left: bool,
}

impl Drained {
    /// Whether every request ended in time.
    pub fn is_clean(&self) -> bool {
        self.requests_cut == 0 && self.connections_cut == 0
    }
}

/// A task that ends when this value is dropped.
#[derive(Debug)]
struct Ending(JoinHandle<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a server: the control plane, and the application below `/app`.
///
/// # Errors
///
/// When the address can't be listened on.
pub async fn start(config: Config, services: Services, application: Application) -> Result<Server, StartError> {
    let listen_error = |source| StartError::Listen {
        address: config.listen,
        source,
    };
    let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let upkeep = Ending(metrics::install());
    let ops = services.ops.clone();
    // Of every process, so that what one leaves behind when it is killed is finished by another.
    let runner = Ending(tokio::spawn({
        let ops = ops.clone();
        async move {
            tokio::join!(
                ops.run_operations(),
                ops.keep_spares(),
                ops.keep_measuring(),
                ops.keep_counting_jobs(),
                ops.keep_backups()
            );
        }
    }));
    let (cut, is_cut) = watch::channel(());
    let life = Life::default();
    let router = router::router(&config, services, application, Cut(is_cut), &life);
    let (stop, stopped) = oneshot::channel();
    let accepting = life.clone();
    let task = tokio::spawn(async move {
        // A sender that was dropped means the same as one that was used.
        let stopped = async move { drop(stopped.await) };
        accept::serve(listener, router, config.head_timeout, accepting, stopped).await;
        drop(upkeep);
    });
    tracing::info!(%address, "listening");
    Ok(Server {
        address,
        delay: config.drain_delay,
        grace: config.shutdown_grace,
        stop: Some(stop),
        cut,
        task,
        runner,
        ops,
        life,
    })
}

/// Runs a server until `shutdown` is done, then stops it.
///
/// # Errors
///
/// As [`start`].
pub async fn run(
    config: Config,
    services: Services,
    application: Application,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, StartError> {
    let server = start(config, services, application).await?;
    shutdown.await;
    Ok(server.stop().await)
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing new, waits for what has begun as long as the configuration allows, and cuts off the rest.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the server stops at once.
    pub async fn stop(self) -> Drained {
        self.stop_by(std::future::pending()).await
    }

    /// The same, and cuts off what still runs once `hurry` is done.
    ///
    /// In this order: it is not ready any more and takes no more operations; after the configured delay it accepts no more
    /// connections, and those that are there end with the answer they wait for; what has not ended in time is answered that the
    /// server stops.
    ///
    /// # Cancel safety
    ///
    /// As [`stop`](Self::stop).
    pub async fn stop_by(mut self, hurry: impl Future<Output = ()>) -> Drained {
        let mut hurry = pin!(hurry);
        self.life.drain();
        // Those that were taken go on in tasks of their own.
        self.runner.0.abort();
        let mut hurried = tokio::select! {
            () = sleep(self.delay) => false,
            () = &mut hurry => true,
        };
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let until = Instant::now() + self.grace;
        let ended = !hurried
            && tokio::select! {
                ended = timeout_at(until, &mut self.task) => ended.is_ok(),
                () = &mut hurry => {
                    hurried = true;
                    false
                }
            };
        if !ended {
            self.cut.send_replace(());
            let _ = timeout(CUT_GRACE, &mut self.task).await;
        }
        let idle = self.ops.until_idle();
        let operations_left = match hurried {
            true => timeout(Duration::ZERO, idle).await.is_err(),
            false => tokio::select! {
                idle = timeout_at(until, idle) => idle.is_err(),
                () = &mut hurry => true,
            },
        };
        let drained = Drained {
            requests_cut: self.life.cut(),
            connections_cut: self.life.connections(),
            operations_left,
        };
        drained.report(self.grace);
        drained
    }
}

impl Drained {
    fn report(&self, grace: Duration) {
        let Self {
            requests_cut,
            connections_cut,
            operations_left,
        } = *self;
        if !self.is_clean() {
            let grace_s = grace.as_secs();
            tracing::warn!(
                grace_s,
                requests_cut,
                connections_cut,
                "requests that did not end in time were cut off"
            );
        }
        if operations_left {
            tracing::info!("operations that are under way are left to the next process");
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
