//! A session that holds on to an old placement: it never asks where its tenant lives, signs what it is asked for with the epoch that it
//! knew at the beginning, and comes back as often as it is thrown out. As a process does whose catalog is out of reach.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use secrecy::ExposeSecret as _;
use tenantry_catalog::placement::Located;
use tenantry_core::{
    Role,
    seal::{Signed, Token},
};
use tokio_postgres::{Client, NoTls};

use super::{
    history::{Act, Entry, Event, History, Outcome, Posting, Session},
    schema::{self, APPEND, READ},
};

/// The session at work.
pub(crate) struct Held {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    work: tokio::task::JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Held {
    /// Starts it, with transactions of this isolation level.
    pub(crate) fn start(home: Located, history: History, session: Session, level: &'static str) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let work = At {
            home,
            history,
            session,
            level,
            seq: 0,
            written: written.clone(),
        };
        let work = tokio::spawn(work.run(stop.clone()));
        Self { stop, written, work }
    }

    /// How many writes were acknowledged.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Lets it end what is under way.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Err(error) = (&mut self.work).await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

struct At {
    home: Located,
    history: History,
    session: Session,
    level: &'static str,
    seq: i32,
    written: Arc<AtomicU64>,
}

impl At {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        let mut bound = None;
        while !stop.load(Ordering::SeqCst) {
            if bound.is_none() {
                bound = self.enter().await.ok();
            }
            if let Some(client) = &bound {
                self.transaction(client).await;
                if client.is_closed() {
                    bound = None;
                }
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// A connection that is bound at the old placement, if the database allows it.
    async fn enter(&self) -> Result<Client> {
        let home = &self.home;
        let mut config: tokio_postgres::Config = home.admin_url.expose_secret().parse()?;
        config
            .user(&home.database.app_role)
            .password(home.secrets.app_password.expose_secret())
            .dbname(&home.database.name)
            .connect_timeout(Duration::from_secs(2));
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
        let token = Token {
            tenant: home.placement.tenant,
            counter: 1,
            fresh: true,
            raw: false,
            role: Role::Owner,
            now_us: i64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_micros())?,
            backend_pid: pid,
            account: None,
            epoch: home.placement.epoch,
        };
        let key = home.secrets.keys.first().context("the database has a key")?;
        let signed = key.sign(&token);
        let seal = signed.seal();
        let Signed { message, mac } = signed;
        client
            .execute("select tenantry.enter($1, $2)", &[&message.as_slice(), &mac.as_slice()])
            .await?;
        let schema = &home.placement.schema;
        client
            .batch_execute(&format!(
                "set tenantry.expect = '{seal}'; set search_path = {schema}, tenantry_ext, pg_temp"
            ))
            .await?;
        Ok(client)
    }

    /// Reads everything and appends an entry.
    async fn transaction(&mut self, client: &Client) {
        let begun = self.history.tick();
        if let Err(error) = client
            .batch_execute(&format!("begin isolation level {}", self.level))
            .await
        {
            return self.refused(&error);
        }
        self.seq += 1;
        let entry = Entry {
            session: self.session,
            seq: self.seq,
        };
        let acts = vec![Act::Enter(entry, Posting::default())];
        match self.both(client, begun, entry).await {
            Ok(()) => {
                self.written.fetch_add(1, Ordering::SeqCst);
                let level = self.level.to_owned();
                self.history.count(|tally| *tally.levels.entry(level).or_default() += 1);
                self.note(begun, acts, Outcome::Acknowledged);
            }
            Err(error) => {
                self.refused(&error);
                let outcome = match error.code().map(|code| code.code()) {
                    Some(code) if !matches!(&code[..2], "57" | "08" | "58") => Outcome::Refused,
                    _ => Outcome::Unknown,
                };
                self.note(begun, acts, outcome);
                // Where the connection is gone, there is nothing to undo.
                let _ = client.batch_execute("rollback").await;
            }
        }
    }

    async fn both(&self, client: &Client, begun: u64, entry: Entry) -> Result<(), tokio_postgres::Error> {
        let row = client.query_one(READ, &[]).await?;
        let texts = |column: usize| row.get::<_, Vec<String>>(column);
        let seen = schema::look(&texts(0), &texts(1), &texts(2));
        self.history.note(Event {
            session: self.session,
            begun,
            ended: self.history.tick(),
            acts: Vec::new(),
            outcome: Outcome::Acknowledged,
            seen,
        });
        client
            .query_one(APPEND, &[&entry.session.0, &entry.seq, &"held on"])
            .await?;
        client.batch_execute("commit").await
    }

    fn refused(&self, error: &tokio_postgres::Error) {
        let kind = match error.code() {
            Some(code) => format!("held: {}", code.code()),
            None => "held: the connection broke".to_owned(),
        };
        self.history.count(|tally| *tally.kinds.entry(kind).or_default() += 1);
    }

    fn note(&self, begun: u64, acts: Vec<Act>, outcome: Outcome) {
        self.history.note(Event {
            session: self.session,
            begun,
            ended: self.history.tick(),
            acts,
            outcome,
            seen: None,
        });
    }
}
