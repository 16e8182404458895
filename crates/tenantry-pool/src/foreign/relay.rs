//! What stands between another driver and its server: a relay, which we can end whatever the driver is doing.
//!
//! A driver keeps its socket to itself, and whoever holds its connection may let it lie: then nobody could end it when this process's
//! share of the server's connections is lost, or its transaction has lasted for too long. Nor does a driver say when the
//! server has ended its side. So drivers are led to a socket of this process, and the one to the server is ours: encrypted and
//! verified as for our own client, closed when we say so, and waited for until the server has closed it too.

use std::{io, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tenantry_wire::{Address, CancelToken, Endpoint, Error, Tls, open_socket};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::silence::Silence;
use crate::{
    place::{Leaving, Place},
    seat::Sever,
    server::Seated,
};

/// Part of the name of the socket, as drivers make it up.
const PORT: u16 = 5432;
/// A backend that is idle ends within this; one that is at work does not look, and has to be asked to stop.
const IDLE_ENDS_IN: Duration = Duration::from_millis(20);
/// A server says how its work may be stopped within this many bytes, or not at all.
const GREETING_MAX: usize = 16 * 1024;
/// What is passed on at a time.
const PIECE: usize = 8 * 1024;

/// The relay of one connection. Dropping it ends it.
pub(super) struct Relay {
    sever: Sever,
    silence: Silence,
    leaving: Option<Leaving>,
    task: Option<JoinHandle<()>>,
}

/// How long a server is waited for.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// While a statement runs.
    pub(super) statement: Duration,
    /// When it is to hear that it shall stop, and as long again for the end of its side.
    pub(super) parting: Duration,
}

impl Relay {
    /// Opens a socket to the server, and gives the endpoint at which a driver finds it, once. `held` is dropped when the server has
    /// ended its side of the connection.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or verified.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the socket is closed and `held` dropped: nothing was said on it yet.
    pub(super) async fn start(
        endpoint: &Arc<Endpoint>,
        sever: Sever,
        limits: Limits,
        held: (Seated, Place),
    ) -> Result<(Self, Endpoint), Error> {
        let server = open_socket(endpoint).await?;
        let door = Door::open().map_err(Error::Io)?;
        let inside = Endpoint {
            address: Address::Unix {
                directory: door.directory.clone(),
                port: PORT,
            },
            tls: Tls::Off,
            ..Endpoint::clone(endpoint)
        };
        let silence = Silence::new(limits.statement);
        let leaving = held.1.leaving();
        let (outside, told, listening) = (endpoint.clone(), sever.clone(), silence.clone());
        let task = tokio::spawn(async move {
            let (mut server, key) = relay(door, server, &told, &listening).await;
            held.1.closes();
            let token = key.map(|BackendKey { process_id, secret }| CancelToken::new(outside, process_id, secret));
            let _ = timeout(2 * limits.parting, part(&mut server, token, limits.parting)).await;
            // The socket first: who gets the place opens the next one.
            drop((server, held));
        });
        let relay = Self {
            sever,
            silence,
            leaving,
            task: Some(task),
        };
        Ok((relay, inside))
    }

    /// Whether the server has ended its side.
    pub(super) fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What is told of a server that has fallen silent.
    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// What tells that the connection is being closed, before the relay notices by itself.
    pub(super) fn leaving(&self) -> Option<&Leaving> {
        self.leaving.as_ref()
    }

    /// Ends it now, whatever it has still to pass on.
    pub(super) fn end(&self) {
        self.sever.now();
    }

    /// Waits until the server has ended its side, for as long as that is waited for; the driver has let go of the connection before.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the relay is ended all the same.
    pub(super) async fn ended(mut self) {
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.sever.now();
    }
}

/// Passes on what driver and server say, until one of them has gone, or the server has fallen silent, or the relay is ended. Gives the
/// server's socket back, and with what its work may be stopped.
async fn relay<S: AsyncRead + AsyncWrite>(
    door: Door,
    server: S,
    sever: &Sever,
    silence: &Silence,
) -> (Server<S>, Option<BackendKey>) {
    let (mut heard, mut said) = split(server);
    let key = Mutex::new(None);
    let relaying = async {
        let Ok(driver) = door.accept().await else { return };
        let (mut from_driver, mut to_driver) = driver.into_split();
        let asking = async {
            let _ = ask(&mut from_driver, &mut said, silence).await;
        };
        let answering = async {
            let _ = answer(&mut heard, &mut to_driver, silence, &key).await;
        };
        // When one end has gone, the other has nobody left to talk to.
        tokio::select! {
            () = asking => {}
            () = answering => {}
            () = silence.lasts() => {
                tracing::warn!("a server fell silent in the middle of a statement: its connection is closed");
            }
        }
    };
    // What is not passed on any more is lost with the connection, as is meant.
    tokio::select! {
        () = sever.told() => {}
        () = relaying => {}
    }
    // The driver's socket is closed by now: whoever waits on it has an error.
    (Server { heard, said }, key.into_inner())
}

/// Both sides of the socket to the server.
struct Server<S> {
    heard: ReadHalf<S>,
    said: WriteHalf<S>,
}

/// Passes on what the driver asks.
async fn ask(
    driver: &mut (impl AsyncRead + Unpin),
    server: &mut (impl AsyncWrite + Unpin),
    silence: &Silence,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = driver.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        // Before it goes out: a server that takes nothing more is as silent as one that says nothing.
        silence.asked();
        server.write_all(&buffer[..count]).await?;
        server.flush().await?;
        silence.went_out();
    }
}

/// Passes on what the server says, and remembers how its work may be stopped.
async fn answer(
    server: &mut (impl AsyncRead + Unpin),
    driver: &mut (impl AsyncWrite + Unpin),
    silence: &Silence,
    key: &Mutex<Option<BackendKey>>,
) -> io::Result<()> {
    let mut greeting = Some(Vec::new());
    let mut buffer = vec![0; PIECE];
    loop {
        let count = server.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let said = &buffer[..count];
        silence.heard(said);
        driver.write_all(said).await?;
        silence.passed_on();
        if let Some(so_far) = &mut greeting {
            so_far.extend_from_slice(said);
            let found = BackendKey::in_greeting(so_far);
            if found.is_some() || so_far.len() >= GREETING_MAX {
                *key.lock() = found;
                greeting = None;
            }
        }
    }
}

/// Takes leave of the server, and waits until it has ended its side. What still runs is stopped first, or it would run on, with its
/// locks, until it looks at its socket.
async fn part<S: AsyncRead + AsyncWrite>(server: &mut Server<S>, token: Option<CancelToken>, limit: Duration) {
    let Server { heard, said } = server;
    // Where the socket is encrypted, a server that takes nothing in takes no good-bye either: it is waited for beside all else.
    let saying = async {
        let _ = said.shutdown().await;
        std::future::pending::<()>().await;
    };
    let mut parting = pin!(async {
        // Read meanwhile: a backend that is writing hears nothing.
        tokio::select! {
            () = saying => {}
            () = until_closed(heard) => {}
        }
    });
    if timeout(IDLE_ENDS_IN, parting.as_mut()).await.is_ok() {
        return;
    }
    let stopping = async {
        let Some(token) = token else {
            return std::future::pending::<()>().await;
        };
        // More than once: what was said last may not have begun when the first one comes, which stops nothing then.
        let mut pause = IDLE_ENDS_IN;
        loop {
            // A server that can't be reached notices by itself that the socket is gone.
            let _ = timeout(limit, token.cancel()).await;
            sleep(pause).await;
            pause = (2 * pause).min(limit);
        }
    };
    tokio::select! {
        () = stopping => {}
        () = parting => {}
    }
}

async fn until_closed(server: &mut (impl AsyncRead + Unpin)) {
    let mut rest = [0; 1024];
    while server.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}

/// With what the server may be asked to stop a backend's work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BackendKey {
    process_id: i32,
    secret: i32,
}

impl BackendKey {
    /// Looks for it in what a server says first.
    fn in_greeting(mut greeting: &[u8]) -> Option<Self> {
        loop {
            let (&[tag, a, b, c, d], rest) = greeting.split_first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?.checked_sub(4)?;
            let body = rest.get(..length)?;
            if tag == b'K' {
                let &[a, b, c, d, e, f, g, h] = body.first_chunk()?;
                return Some(Self {
                    process_id: i32::from_be_bytes([a, b, c, d]),
                    secret: i32::from_be_bytes([e, f, g, h]),
                });
            }
            greeting = &rest[length..];
        }
    }
}

/// A socket that only this process knows how to find, and that lets one driver in.
struct Door {
    listener: UnixListener,
    directory: PathBuf,
}

impl Door {
    fn open() -> io::Result<Self> {
        let directory = Self::make_directory(&Uuid::now_v7().simple().to_string())?;
        let listener = UnixListener::bind(directory.join(format!(".s.PGSQL.{PORT}")))?;
        Ok(Self { listener, directory })
    }

    /// No folder, but a name in the kernel: it needs no file system that can be written to, and leaves nothing behind.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn make_directory(id: &str) -> io::Result<PathBuf> {
        Ok(PathBuf::from(format!("\0tenantry-{id}")))
    }

    /// A folder that nobody else may enter. The name is short, because that of a socket may not be long.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn make_directory(id: &str) -> io::Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt as _;
        let directory = std::env::temp_dir().join(id);
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(directory)
    }

    /// Lets the driver in. Names in the kernel can be read by others on the machine: who is of another process is sent away.
    async fn accept(self) -> io::Result<UnixStream> {
        let own = i32::try_from(std::process::id()).ok();
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred()?.pid() {
                other if other == own => return Ok(stream),
                // Where that is not told, the folder is what keeps others out.
                None if !cfg!(any(target_os = "linux", target_os = "android")) => return Ok(stream),
                _ => tracing::warn!("somebody else tried to use a connection to a tenant database"),
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::{io::ReadBuf, net::TcpListener};

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![tag];
        frame.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        frame.extend(body);
        frame
    }

    #[test]
    fn a_backends_key_is_found_wherever_it_is_cut() {
        let mut greeting = frame(b'R', &[0, 0, 0, 0]);
        greeting.extend(frame(b'S', b"server_version\x0018\0"));
        greeting.extend(frame(b'K', &[0, 0, 1, 2, 255, 255, 255, 254]));
        let whole = greeting.len();
        greeting.extend(frame(b'Z', b"I"));
        let key = BackendKey {
            process_id: 258,
            secret: -2,
        };
        for end in 0..=greeting.len() {
            let expected = (end >= whole).then_some(key);
            assert_eq!(BackendKey::in_greeting(&greeting[..end]), expected, "{end}");
        }
        assert_eq!(BackendKey::in_greeting(&[b'R', 0, 0, 0, 0, 0]), None, "no length");
    }

    #[tokio::test]
    async fn a_door_lets_this_process_in_and_closes_behind_it() {
        let door = Door::open().expect("a name");
        let path = door.directory.join(format!(".s.PGSQL.{PORT}"));
        let (inside, outside) = tokio::join!(door.accept(), UnixStream::connect(&path));
        assert!(inside.is_ok() && outside.is_ok());
        assert!(UnixStream::connect(&path).await.is_err(), "it is closed");
    }

    /// The socket to a server that neither takes anything in nor says anything.
    struct Deaf;

    impl AsyncRead for Deaf {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_no_good_bye_in_is_asked_to_stop_all_the_same() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let endpoint = Endpoint {
            address: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port,
            },
            database: "app".to_owned(),
            user: "app".to_owned(),
            password: "secret".to_owned().into(),
            tls: Tls::Off,
        };
        let token = CancelToken::new(Arc::new(endpoint), 1, 2);
        let (heard, said) = split(Deaf);
        let mut server = Server { heard, said };
        tokio::select! {
            () = part(&mut server, Some(token), Duration::from_secs(5)) => panic!("it has not ended its side"),
            asked = timeout(Duration::from_secs(5), listener.accept()) => {
                assert!(asked.is_ok_and(|asked| asked.is_ok()), "nobody asked it");
            }
        }
    }
}
