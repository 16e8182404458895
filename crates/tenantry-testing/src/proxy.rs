//! A TCP proxy that does what networks do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Forwards to a server, until a test switches something off. Dropping it closes everything.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    switches: watch::Sender<Switches>,
    counts: Arc<Mutex<Counts>>,
    acceptor: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Switches {
    /// Connections are closed; new ones are closed at once.
    cut: bool,
    /// Connections stay open and nothing passes.
    stalled: bool,
    /// Every piece waits that long.
    delay: Duration,
    /// Connections made before this number are closed.
    generation: u64,
    /// The answers of a connection end after so many bytes in all.
    answer_bytes_max: Option<u64>,
    /// The requests of a connection end after so many bytes in all.
    request_bytes_max: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    request_bytes: u64,
    answer_bytes: u64,
}

#[derive(Clone, Copy)]
enum Direction {
    Request,
    Answer,
}

impl FaultProxy {
    /// Starts a proxy on a free port of 127.0.0.1 that forwards to `host:port`.
    pub async fn start(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (switches, seen) = watch::channel(Switches::default());
        let counts = Arc::new(Mutex::new(Counts::default()));
        let target = (host.to_owned(), port);
        let acceptor = tokio::spawn(accept(listener, target, seen, Arc::clone(&counts)));
        Self {
            address,
            switches,
            counts,
            acceptor,
        }
    }

    /// The port to connect to instead of the server's, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes all connections and every new one, until [`FaultProxy::heal`].
    pub fn cut(&self) {
        self.switches.send_modify(|switches| switches.cut = true);
    }

    /// Closes the connections there are; new ones work.
    pub fn cut_once(&self) {
        self.switches.send_modify(|switches| switches.generation += 1);
    }

    /// Lets nothing pass in either direction while connections stay open, until [`FaultProxy::heal`].
    pub fn stall(&self) {
        self.switches.send_modify(|switches| switches.stalled = true);
    }

    /// Makes every piece wait, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.switches.send_modify(|switches| switches.delay = delay);
    }

    /// Closes a connection once so many bytes of answers have passed it (in all, also before this call).
    pub fn cut_after_answer_bytes(&self, bytes: u64) {
        self.switches
            .send_modify(|switches| switches.answer_bytes_max = Some(bytes));
    }

    /// Closes a connection once so many bytes of requests have passed it (in all, also before this call).
    pub fn cut_after_request_bytes(&self, bytes: u64) {
        self.switches
            .send_modify(|switches| switches.request_bytes_max = Some(bytes));
    }

    /// Forwards everything again. Connections that were closed stay so.
    pub fn heal(&self) {
        self.switches.send_modify(|switches| {
            *switches = Switches {
                generation: switches.generation + u64::from(switches.cut),
                ..Switches::default()
            }
        });
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        lock(&self.counts).accepted
    }

    /// How many bytes of requests passed so far, over all connections.
    pub fn request_bytes(&self) -> u64 {
        lock(&self.counts).request_bytes
    }

    /// How many bytes of answers passed so far, over all connections.
    pub fn answer_bytes(&self) -> u64 {
        lock(&self.counts).answer_bytes
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The connections' tasks are in its set and end with it.
        self.acceptor.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: (String, u16),
    switches: watch::Receiver<Switches>,
    counts: Arc<Mutex<Counts>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        lock(&counts).accepted += 1;
        connections.spawn(serve(client, target.clone(), switches.clone(), Arc::clone(&counts)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    client: TcpStream,
    target: (String, u16),
    switches: watch::Receiver<Switches>,
    counts: Arc<Mutex<Counts>>,
) {
    let born = switches.borrow().generation;
    let closed = |switches: &Switches| switches.cut || switches.generation != born;
    let pumps = async {
        wait_for_passage(&mut switches.clone()).await;
        let Ok(server) = TcpStream::connect((target.0.as_str(), target.1)).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            pump(from_client, to_server, Direction::Request, switches.clone(), &counts),
            pump(from_server, to_client, Direction::Answer, switches.clone(), &counts),
        );
    };
    // Dropping the pumps closes both sockets, which is what a cut is.
    let mut observed = switches.clone();
    tokio::select! {
        () = pumps => {}
        _ = observed.wait_for(closed) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mut switches: watch::Receiver<Switches>,
    counts: &Mutex<Counts>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0;
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        wait_for_passage(&mut switches).await;
        let now = *switches.borrow();
        if !now.delay.is_zero() {
            tokio::time::sleep(now.delay).await;
        }
        let limit = match direction {
            Direction::Request => now.request_bytes_max,
            Direction::Answer => now.answer_bytes_max,
        };
        let left = limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit.saturating_sub(passed)).unwrap_or(usize::MAX)
        });
        let piece = &buffer[..read.min(left)];
        if to.write_all(piece).await.is_err() {
            break;
        }
        passed += piece.len() as u64;
        count(counts, direction, piece.len() as u64);
        if piece.len() < read {
            break;
        }
    }
    let _ = to.shutdown().await;
}

async fn wait_for_passage(switches: &mut watch::Receiver<Switches>) {
    // An error says that the proxy is gone; its tasks are then being ended.
    let _ = switches.wait_for(|switches| !switches.stalled).await;
}

fn count(counts: &Mutex<Counts>, direction: Direction, bytes: u64) {
    let mut counts = lock(counts);
    match direction {
        Direction::Request => counts.request_bytes += bytes,
        Direction::Answer => counts.answer_bytes += bytes,
    }
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
