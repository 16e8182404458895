//! Stopping what a connection runs, from outside of it.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Endpoint, Error, socket::Socket};

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
    pub(crate) fn new(endpoint: Arc<Endpoint>, process_id: i32, secret_key: i32) -> Self {
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
