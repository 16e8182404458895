//! Accepting connections, with a bound on how long a client may hold one without asking for anything.
//!
//! `axum::serve` has no such bound: a client that sends half a head, or none, would hold its connection for ever.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower::Service;

use crate::life::Life;

/// How long to wait when the system has no more sockets to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stopped` is done, and then as long as requests that have begun go on.
///
/// # Cancel safety
///
/// When dropped, every connection is closed at once.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    head_timeout: Duration,
    life: Life,
    stopped: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    // The time runs from the end of the answer before, so that it bounds idle connections too.
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stopped);
    loop {
        let (stream, peer) = tokio::select! {
            // Nothing is lost: a connection stays in the system's queue until it is accepted.
            accepted = accept(&listener) => accepted,
            // One that has ended needs nothing more.
            Some(_) = connections.join_next() => continue,
            () = &mut stopped => break,
        };
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().call(request)
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        let held = life.hold_connection();
        connections.spawn(async move {
            let _held = held;
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client was gone before it was accepted.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}
