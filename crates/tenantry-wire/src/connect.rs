//! Opening a connection: start-up and authentication.

use std::{collections::HashMap, sync::Arc};

use bytes::BytesMut;
use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};
use secrecy::ExposeSecret;

use crate::{
    Connection, DbError, Endpoint, Error, Options, TransactionStatus,
    connection::Call,
    inbox::{Frame, Inbox},
    lead::Prepared,
    socket::Socket,
    statement::StatementCache,
};

impl Connection {
    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or verified, or refuses the role. Passwords leave only by SCRAM-SHA-256, which
    /// shows them to nobody; a server that asks for one in the clear or as MD5 is refused.
    pub async fn connect(endpoint: Arc<Endpoint>, options: &Options) -> Result<Self, Error> {
        Self::open(endpoint, options, &[]).await
    }

    /// Opens a connection whose session begins with these settings.
    pub(crate) async fn open(
        endpoint: Arc<Endpoint>,
        options: &Options,
        settings: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let mut connection = Self {
            socket: Socket::open(&endpoint).await?,
            inbox: Inbox::default(),
            outbox: BytesMut::new(),
            call: Call::default(),
            in_call: false,
            status: TransactionStatus::Idle,
            process_id: 0,
            secret_key: 0,
            version: 0,
            prefix: format!("{:032x}", rand::random::<u128>()),
            statement_count: 0,
            statements: StatementCache::new(options.statements_max),
            closing: Vec::new(),
            types: HashMap::new(),
            prepared: Prepared::default(),
            pooled: options.pooled,
            search_path: String::new(),
            endpoint,
        };
        connection.start_up(options, settings).await?;
        Ok(connection)
    }

    async fn start_up(&mut self, options: &Options, settings: &[(&str, &str)]) -> Result<(), Error> {
        let usual = [
            ("user", self.endpoint.user.as_str()),
            ("database", self.endpoint.database.as_str()),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("application_name", options.application_name.as_str()),
        ];
        let parameters = usual.into_iter().chain(settings.iter().copied());
        frontend::startup_message(parameters, &mut self.outbox)?;
        self.send().await?;
        self.authenticate().await?;
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'K' => self.keep_key(frame)?,
                b'E' => return Err(self.refusal(frame)),
                b'Z' => {
                    self.inbox.skip(frame);
                    self.in_call = false;
                    return Ok(());
                }
                _ => self.heed(frame)?,
            }
        }
    }

    /// The server's process and the secret with which its work may be cancelled.
    fn keep_key(&mut self, frame: Frame) -> Result<(), Error> {
        let Some((&[a, b, c, d, e, f, g, h], _)) = self.inbox.body(frame).split_first_chunk() else {
            return Err(Error::Protocol("BackendKeyData is too short"));
        };
        self.process_id = i32::from_be_bytes([a, b, c, d]);
        self.secret_key = i32::from_be_bytes([e, f, g, h]);
        self.inbox.skip(frame);
        Ok(())
    }

    fn refusal(&self, frame: Frame) -> Error {
        Error::Database(Box::new(DbError::parse(self.inbox.body(frame))))
    }

    async fn authenticate(&mut self) -> Result<(), Error> {
        let Some(mechanisms) = self.authentication(10).await? else {
            return Ok(());
        };
        let offered = mechanisms
            .split(|&byte| byte == 0)
            .any(|name| name == SCRAM_SHA_256.as_bytes());
        if !offered {
            return Err(Error::Authentication(
                "the server does not offer SCRAM-SHA-256".to_owned(),
            ));
        }
        let failed = |error: std::io::Error| Error::Authentication(error.to_string());
        let password = self.endpoint.password.expose_secret().as_bytes();
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());

        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), self.cleared_outbox())?;
        self.send().await?;
        let challenge = self
            .authentication(11)
            .await?
            .ok_or(Error::Protocol("no SCRAM challenge"))?;
        scram.update(&challenge).map_err(failed)?;

        frontend::sasl_response(scram.message(), self.cleared_outbox())?;
        self.send().await?;
        // The server proves that it knows the password too.
        let proof = self
            .authentication(12)
            .await?
            .ok_or(Error::Protocol("no SCRAM proof"))?;
        scram.finish(&proof).map_err(failed)?;
        match self.authentication(0).await? {
            None => Ok(()),
            Some(_) => Err(Error::Protocol("no end of the authentication")),
        }
    }

    fn cleared_outbox(&mut self) -> &mut BytesMut {
        self.outbox.clear();
        &mut self.outbox
    }

    /// The next message of the authentication: its data when it is of the expected kind, `None` when the server is
    /// content.
    async fn authentication(&mut self, expected: u32) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'E' => return Err(self.refusal(frame)),
                b'R' => {
                    let Some((kind, data)) = self.inbox.body(frame).split_first_chunk() else {
                        return Err(Error::Protocol("an authentication message is too short"));
                    };
                    let (kind, data) = (u32::from_be_bytes(*kind), data.to_vec());
                    self.inbox.skip(frame);
                    return match kind {
                        0 => Ok(None),
                        kind if kind == expected => Ok(Some(data)),
                        3 => Err(Error::Authentication(
                            "the server wants the password in the clear".to_owned(),
                        )),
                        5 => Err(Error::Authentication("the server wants an MD5 password".to_owned())),
                        _ => Err(Error::Authentication(
                            "the server wants a method other than SCRAM".to_owned(),
                        )),
                    };
                }
                b'N' => self.heed(frame)?,
                _ => return Err(Error::Protocol("a message before the authentication ended")),
            }
        }
    }
}
