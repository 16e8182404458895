//! A TCP proxy that counts what crosses it: round trips, Syncs, statements, bytes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

/// Forwards to a server and counts. Dropping it closes everything.
#[derive(Debug)]
pub struct CountingProxy {
    port: u16,
    counters: Counters,
    acceptor: JoinHandle<()>,
}

/// What crossed the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Counted {
    /// Syncs of the extended protocol.
    pub syncs: usize,
    /// How often the client spoke after the server.
    pub round_trips: usize,
    /// Statements that were parsed.
    pub parses: usize,
    /// Statements that were executed, in the extended protocol.
    pub statements: usize,
    /// Bytes from the client.
    pub bytes: usize,
}

#[derive(Clone, Default, Debug)]
struct Counters {
    syncs: Arc<AtomicUsize>,
    round_trips: Arc<AtomicUsize>,
    parses: Arc<AtomicUsize>,
    statements: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    /// The server spoke last.
    answered: Arc<AtomicBool>,
}

impl CountingProxy {
    /// Starts a proxy on a free port of 127.0.0.1 that forwards to `host:port`.
    pub async fn start(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let counters = Counters::default();
        let target = (host.to_owned(), port);
        let acceptor = tokio::spawn(accept(listener, target, counters.clone()));
        Self {
            port: address.port(),
            counters,
            acceptor,
        }
    }

    /// The port to connect to instead of the server's, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Begins to count anew.
    pub fn reset(&self) {
        let Counters {
            syncs,
            round_trips,
            parses,
            statements,
            bytes,
            answered,
        } = &self.counters;
        for count in [syncs, round_trips, parses, statements, bytes] {
            count.store(0, Ordering::SeqCst);
        }
        answered.store(true, Ordering::SeqCst);
    }

    /// What crossed since the last reset.
    pub fn read(&self) -> Counted {
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        Counted {
            syncs: read(&self.counters.syncs),
            round_trips: read(&self.counters.round_trips),
            parses: read(&self.counters.parses),
            statements: read(&self.counters.statements),
            bytes: read(&self.counters.bytes),
        }
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        // The connections' tasks are in its set and end with it.
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, target: (String, u16), counters: Counters) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect((target.0.as_str(), target.1)).await else {
            continue;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        connections.spawn(relay(client, server, counters.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(client: TcpStream, server: TcpStream, counters: Counters) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        answers(from_server, to_client, &counters.answered),
        requests(from_client, to_server, &counters),
    );
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, answered: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        answered.store(true, Ordering::SeqCst);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counters: &Counters) {
    let mut pending = Vec::new();
    let mut started = false;
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if counters.answered.swap(false, Ordering::SeqCst) {
            counters.round_trips.fetch_add(1, Ordering::SeqCst);
        }
        counters.bytes.fetch_add(length, Ordering::SeqCst);
        pending.extend_from_slice(&buffer[..length]);
        count(&mut pending, &mut started, counters);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Cuts whole messages off and counts them; the start-up message has no tag.
fn count(pending: &mut Vec<u8>, started: &mut bool, counters: &Counters) {
    loop {
        let tag = usize::from(*started);
        let Some(&[a, b, c, d]) = pending.get(tag..tag + 4) else {
            return;
        };
        let end = tag + u32::from_be_bytes([a, b, c, d]) as usize;
        if pending.len() < end {
            return;
        }
        let counter = match (*started, pending[0]) {
            (true, b'S') => Some(&counters.syncs),
            (true, b'P') => Some(&counters.parses),
            (true, b'E') => Some(&counters.statements),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        *started = true;
        pending.drain(..end);
    }
}
