//! A proxy that counts what crosses it: round trips, Syncs, bytes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) syncs: Arc<AtomicUsize>,
    pub(crate) round_trips: Arc<AtomicUsize>,
    pub(crate) parses: Arc<AtomicUsize>,
    /// From the client.
    pub(crate) bytes: Arc<AtomicUsize>,
    /// The server spoke last.
    answered: Arc<AtomicBool>,
}

impl Counts {
    pub(crate) fn reset(&self) {
        for count in [&self.syncs, &self.round_trips, &self.parses, &self.bytes] {
            count.store(0, Ordering::SeqCst);
        }
        self.answered.store(true, Ordering::SeqCst);
    }

    /// Syncs, round trips and Parses since the last reset.
    pub(crate) fn read(&self) -> (usize, usize, usize) {
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (read(&self.syncs), read(&self.round_trips), read(&self.parses))
    }
}

/// Starts a proxy before a server; gives its port.
pub(crate) async fn start(server: (String, u16)) -> (u16, Counts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = Counts::default();
    let kept = counts.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect((server.0.as_str(), server.1)).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            tokio::spawn(relay(client, server, kept.clone()));
        }
    });
    (port, counts)
}

async fn relay(client: TcpStream, server: TcpStream, counts: Counts) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answered = counts.answered.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            answered.store(true, Ordering::SeqCst);
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
    let mut pending = Vec::new();
    let mut started = false;
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
        if counts.answered.swap(false, Ordering::SeqCst) {
            counts.round_trips.fetch_add(1, Ordering::SeqCst);
        }
        counts.bytes.fetch_add(length, Ordering::SeqCst);
        pending.extend_from_slice(&buffer[..length]);
        count(&mut pending, &mut started, &counts);
        if to_server.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Cuts whole messages off and counts them; the start-up message has no tag.
fn count(pending: &mut Vec<u8>, started: &mut bool, counts: &Counts) {
    loop {
        let tag = usize::from(*started);
        let Some(length) = pending.get(tag..tag + 4) else {
            return;
        };
        let end = tag + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if pending.len() < end {
            return;
        }
        match (*started, pending[0]) {
            (true, b'S') => drop(counts.syncs.fetch_add(1, Ordering::SeqCst)),
            (true, b'P') => drop(counts.parses.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        *started = true;
        pending.drain(..end);
    }
}
