//! Stopping what a connection runs, from outside of it.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Connection, Endpoint, Error,
    socket::{Shears, Socket},
};

/// Asks the server to stop what a connection runs.
///
/// Use it only for a connection that is then closed: the request may arrive late, and would stop whatever runs then.
#[derive(Clone, Debug)]
pub struct CancelToken {
    endpoint: Arc<Endpoint>,
    process_id: i32,
    secret_key: i32,
}

impl CancelToken {
    /// For a backend that told another driver its process and secret when the driver logged in.
    pub fn new(endpoint: Arc<Endpoint>, process_id: i32, secret_key: i32) -> Self {
        Self {
            endpoint,
            process_id,
            secret_key,
        }
    }

    /// Sends the request and waits until the server has passed it on.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached. It never says whether there was something to stop.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the server may have got the request, or may get it still.
    pub async fn cancel(&self) -> Result<(), Error> {
        let mut socket = Socket::open(&self.endpoint).await?;
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut request);
        socket.write_all(&request).await?;
        socket.flush().await?;
        // The server closes the socket after it has signalled the process.
        let _ = socket.read(&mut [0]).await?;
        Ok(())
    }
}

/// Ends a connection that somebody else uses.
#[derive(Debug)]
pub struct Leash {
    token: CancelToken,
    shears: Shears,
}

impl Leash {
    /// Stops what the connection runs, and closes its socket: whoever uses it gets an error.
    ///
    /// # Cancel safety
    ///
    /// The socket stays open when dropped.
    pub async fn cut(&self) {
        // A backend that computes does not look at its socket; that it can't be asked to stop is no reason to let it go on.
        let _ = self.token.cancel().await;
        self.shears.cut();
    }

    /// Closes the socket at once, and lets the server find out.
    pub fn cut_now(&self) {
        self.shears.cut();
    }
}

impl Connection {
    /// What ends this connection from outside.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptor left.
    pub fn leash(&self) -> Result<Leash, Error> {
        Ok(Leash {
            token: self.cancel_token(),
            shears: self.socket.shears()?,
        })
    }

    /// Says good-bye, and waits until the server has ended its side: from then on it counts this connection no more.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the socket is closed, and the server ends its side a little later.
    pub async fn end(mut self) {
        if self.is_usable() {
            self.outbox.clear();
            frontend::terminate(&mut self.outbox);
            let _ = self.socket.write_all(&self.outbox).await;
        }
        let _ = self.socket.shutdown().await;
        let mut rest = [0; 1024];
        while self.socket.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    }
}
