//! Starting and stopping: the same for `serve`, `dev` and the tests.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{Application, Config, Services, accept, layer::Cut, metrics, router};

/// How long the answers to requests that were cut off may take to be sent.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// A server that runs.
///
/// Dropping it stops it at once; [`stop`](Self::stop) lets requests that have begun end.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    grace: Duration,
    stop: Option<oneshot::Sender<()>>,
    /// Requests are cut off when this is used or dropped.
    cut: watch::Sender<()>,
    task: JoinHandle<()>,
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
    let upkeep = metrics::install();
    // Of every process, so that what one leaves behind when it is killed is finished by another.
    let (ops, spares) = (services.ops.clone(), services.ops.clone());
    let runner = tokio::spawn(async move {
        tokio::join!(ops.run_operations(), spares.keep_spares());
    });
    let (cut, is_cut) = watch::channel(());
    let router = router::router(&config, services, application, Cut(is_cut));
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        // A sender that was dropped means the same as one that was used.
        let stopped = async move { drop(stopped.await) };
        accept::serve(listener, router, config.head_timeout, stopped).await;
        upkeep.abort();
        runner.abort();
    });
    tracing::info!(%address, "listening");
    Ok(Server {
        address,
        grace: config.shutdown_grace,
        stop: Some(stop),
        cut,
        task,
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
) -> Result<(), StartError> {
    let server = start(config, services, application).await?;
    shutdown.await;
    server.stop().await;
    Ok(())
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing new, waits for what has begun as long as the configuration allows, and cuts off the rest.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if tokio::time::timeout(self.grace, &mut self.task).await.is_err() {
            tracing::warn!(
                grace_s = self.grace.as_secs(),
                "requests that did not end in time are cut off"
            );
            self.cut.send_replace(());
            let _ = tokio::time::timeout(CUT_GRACE, &mut self.task).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
