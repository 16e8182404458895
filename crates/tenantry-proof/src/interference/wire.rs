//! A connection that shows every byte: what is observed is what the server sends, not what a driver makes of it.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BytesMut};
use postgres_protocol::{
    IsNull,
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Duration, sleep, timeout},
};

use super::site::Place;

/// What waits longer than this is stuck; `lock_timeout` ends waits for locks much earlier.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a connection looks away while there is nothing to do on it.
///
/// The server sends each answer by itself, and to be woken for each costs both sides a switch of context, which on a
/// machine where they share a core is a tenth of all. So nobody is woken: the socket is not the runtime's, it is looked
/// at now and then.
const LOOK_AWAY: Duration = Duration::from_millis(2);

pub(super) struct Connection {
    socket: TcpStream,
    inbox: BytesMut,
    /// What `read` fills before it goes into the inbox.
    buffer: Box<[u8]>,
    pub(super) outbox: BytesMut,
    pub(super) pid: i32,
    secret: i32,
    address: (String, u16),
}

impl Connection {
    pub(super) async fn open(host: &str, port: u16, place: &Place) -> Result<Self> {
        // On this machine, at once.
        let socket = TcpStream::connect((host, port))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut connection = Self {
            socket,
            inbox: BytesMut::with_capacity(1 << 16),
            buffer: vec![0; 1 << 16].into_boxed_slice(),
            outbox: BytesMut::with_capacity(1 << 16),
            pid: 0,
            secret: 0,
            address: (host.to_owned(), port),
        };
        let parameters = [
            ("user", place.app_role.as_str()),
            ("database", place.name()),
            ("client_encoding", "UTF8"),
            ("application_name", "prove"),
        ];
        frontend::startup_message(parameters, &mut connection.outbox)?;
        connection.send().await?;
        connection.authenticate(place.password()).await?;
        loop {
            let message = connection.message().await?;
            match message.first() {
                Some(b'K') => {
                    connection.pid = i32::from_be_bytes(message[5..9].try_into()?);
                    connection.secret = i32::from_be_bytes(message[9..13].try_into()?);
                }
                Some(b'Z') => return Ok(connection),
                Some(b'E') => bail!("refused: {}", String::from_utf8_lossy(&message)),
                _ => {}
            }
        }
    }

    async fn authenticate(&mut self, password: &str) -> Result<()> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let message = self.message().await?;
            if message.first() != Some(&b'R') {
                bail!("refused: {}", String::from_utf8_lossy(&message));
            }
            let kind = i32::from_be_bytes(message[5..9].try_into()?);
            match kind {
                0 => return Ok(()),
                10 => frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.outbox)?,
                11 => {
                    scram.update(&message[9..])?;
                    frontend::sasl_response(scram.message(), &mut self.outbox)?;
                }
                12 => scram.finish(&message[9..])?,
                kind => bail!("the server wants the authentication {kind}"),
            }
            self.send().await?;
        }
    }

    async fn send(&mut self) -> Result<()> {
        while !self.outbox.is_empty() {
            if !self.write()? {
                sleep(LOOK_AWAY).await;
            }
        }
        Ok(())
    }

    async fn message(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(length) = whole(&self.inbox) {
                return Ok(self.inbox.split_to(length).to_vec());
            }
            if !self.read()? {
                sleep(LOOK_AWAY).await;
            }
        }
    }

    /// Whether anything could be written.
    fn write(&mut self) -> io::Result<bool> {
        match self.socket.write(&self.outbox) {
            Ok(written) => {
                self.outbox.advance(written);
                Ok(written > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether anything was there to be read.
    fn read(&mut self) -> io::Result<bool> {
        match self.socket.read(&mut self.buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.inbox.extend_from_slice(&self.buffer[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends what was put, and gives what came, cut after each ReadyForQuery.
    pub(super) async fn exchange(&mut self, answers: usize) -> Result<Vec<Vec<u8>>> {
        let both = async {
            let mut units = Vec::with_capacity(answers);
            let mut start = 0;
            while units.len() < answers || !self.outbox.is_empty() {
                // Both in turn: the server stops reading while nobody reads from it.
                let wrote = !self.outbox.is_empty() && self.write()?;
                let read = self.read()?;
                while let Some(length) = whole(&self.inbox[start..]) {
                    let ready = self.inbox[start] == b'Z';
                    start += length;
                    if ready {
                        units.push(self.inbox[..start].to_vec());
                        self.inbox.advance(start);
                        start = 0;
                    }
                }
                if !wrote && !read {
                    sleep(LOOK_AWAY).await;
                }
            }
            io::Result::Ok(units)
        };
        Ok(timeout(PATIENCE, both).await.context("the server hangs")??)
    }

    /// Asks the server to stop what this connection runs; the future does not borrow it.
    pub(super) fn canceller(&self) -> impl Future<Output = Result<()>> + use<> {
        let (address, pid, secret) = (self.address.clone(), self.pid, self.secret);
        async move {
            let mut socket = tokio::net::TcpStream::connect((address.0.as_str(), address.1)).await?;
            let mut message = BytesMut::new();
            frontend::cancel_request(pid, secret, &mut message);
            socket.write_all(&message).await?;
            // The server closes once it has passed the request on.
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await?;
            Ok(())
        }
    }

    pub(super) fn put_parse(&mut self, name: &str, sql: &str) -> Result<()> {
        Ok(frontend::parse(name, sql, [], &mut self.outbox)?)
    }

    /// Binds texts to the unnamed portal, describes it if asked, and runs it.
    pub(super) fn put_run<'a>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = &'a [u8]>,
        binary: bool,
        describe: bool,
    ) -> Result<()> {
        let serialize = |value: &[u8], buffer: &mut BytesMut| {
            buffer.extend_from_slice(value);
            Ok(IsNull::No)
        };
        let format = i16::from(binary);
        frontend::bind("", name, [format], values, serialize, [0], &mut self.outbox)
            .map_err(|_| anyhow::anyhow!("can't bind"))?;
        if describe {
            frontend::describe(b'P', "", &mut self.outbox)?;
        }
        Ok(frontend::execute("", 0, &mut self.outbox)?)
    }

    pub(super) fn put_sync(&mut self) {
        frontend::sync(&mut self.outbox);
    }

    pub(super) fn put_query(&mut self, sql: &str) -> Result<()> {
        Ok(frontend::query(sql, &mut self.outbox)?)
    }

    /// Ends a copy that the server has begun to read; ignored by one that has not.
    pub(super) fn put_copy_end(&mut self) -> Result<()> {
        Ok(frontend::copy_fail("not meant", &mut self.outbox)?)
    }
}

/// The length of the first message, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..5)?;
    let length = 1 + usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    (bytes.len() >= length).then_some(length)
}
