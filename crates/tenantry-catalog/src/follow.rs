//! One task per process that follows the catalog's changes: woken by notifications, and looking by itself in case that
//! one was missed.

use std::{
    collections::HashSet,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tenantry_core::Change;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, broadcast},
    task::JoinHandle,
};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, config::SslMode};

use crate::{CatalogError, change::CHANNEL, tls};

/// How often the log is read without a notification. Suspensions must bite within a second even then.
const POLL: Duration = Duration::from_millis(500);
/// A look that takes longer is on a connection that hangs: a new one is made.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that held for so long did not fail for what made an earlier one fail.
const HELD: Duration = Duration::from_secs(10);
/// How many changes a slow reader may lag behind before it is told to drop everything.
const BACKLOG: usize = 4096;

/// What a cache has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChangeEvent {
    /// Drop what is cached about this.
    Changed(Change),
    /// Changes may have been missed: drop everything.
    Lost,
    /// Everything that had been committed a moment ago was told. Comes at least twice a second while the catalog can be
    /// reached; a cache that has not heard it for seconds does not know what it missed.
    UpToDate {
        /// The last [`Look`] that had been asked for before.
        look: Look,
    },
}

/// Names one request to look for changes, in the order of the requests; see [`crate::Catalog::look_for_changes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Look(u64);

/// Wakes the task that follows.
#[derive(Debug, Default)]
struct Looks {
    asked: AtomicU64,
    wake: Notify,
}

impl Looks {
    fn last(&self) -> Look {
        Look(self.asked.load(Ordering::Acquire))
    }
}

/// Receives the catalog's changes. Ends when the last [`crate::Catalog`] of the process is gone.
#[derive(Debug)]
pub struct ChangeFollower {
    receiver: broadcast::Receiver<ChangeEvent>,
    // Shared by every follower: the task lives as long as one of them does.
    task: Arc<Task>,
    looks: Arc<Looks>,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ChangeFollower {
    /// The next change.
    ///
    /// # Cancel safety
    /// No change is lost by dropping the future.
    pub async fn next(&mut self) -> ChangeEvent {
        match self.receiver.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => ChangeEvent::Lost,
            // Only when the task has panicked, or the catalog was closed: better to wait than to spin.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    pub(crate) fn resubscribe(&self) -> Self {
        Self {
            receiver: self.receiver.resubscribe(),
            task: Arc::clone(&self.task),
            looks: Arc::clone(&self.looks),
        }
    }

    /// Ends the task that all followers share: no more changes come.
    pub(crate) fn stop(&self) {
        self.task.0.abort();
    }

    pub(crate) fn look(&self) -> Look {
        let look = Look(self.looks.asked.fetch_add(1, Ordering::AcqRel) + 1);
        self.looks.wake.notify_one();
        look
    }
}

pub(crate) fn start(config: Config) -> ChangeFollower {
    let (sender, receiver) = broadcast::channel(BACKLOG);
    let looks = Arc::new(Looks::default());
    let task = Arc::new(Task(tokio::spawn(follow(config, sender, Arc::clone(&looks)))));
    ChangeFollower { receiver, task, looks }
}

async fn follow(config: Config, sender: broadcast::Sender<ChangeEvent>, looks: Arc<Looks>) {
    let mut failures = 0;
    loop {
        let since = Instant::now();
        if let Err(error) = follow_connection(&config, &sender, &looks).await {
            failures = if since.elapsed() >= HELD { 1 } else { failures + 1 };
            let error = chain(&error);
            // One connection that ends is no trouble while the next one is made, and may be the program's own end.
            if failures == 1 {
                tracing::info!(
                    error,
                    "the catalog's changes are not followed at the moment; connecting again"
                );
            } else {
                tracing::warn!(error, "the catalog's changes can't be followed; trying again");
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn follow_connection(
    config: &Config,
    sender: &broadcast::Sender<ChangeEvent>,
    looks: &Looks,
) -> Result<(), CatalogError> {
    let connection = dedicated(config).await?;
    connection.client.batch_execute(&format!("listen {CHANNEL}")).await?;
    let look = looks.last();
    let mut log = in_time(Log::begin(&connection.client)).await?;
    // Between the last connection and this one anything may have happened.
    let _ = sender.send(ChangeEvent::Lost);
    let _ = sender.send(ChangeEvent::UpToDate { look });
    loop {
        // Dropping any arm loses nothing: the log is read after each.
        tokio::select! {
            () = connection.notified.notified() => {}
            () = looks.wake.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
        let look = looks.last();
        for event in in_time(log.read(&connection.client)).await? {
            // No receiver is no fault: one may subscribe later.
            let _ = sender.send(event);
        }
        let _ = sender.send(ChangeEvent::UpToDate { look });
    }
}

async fn in_time<T>(reading: impl Future<Output = Result<T, CatalogError>>) -> Result<T, CatalogError> {
    let read = tokio::time::timeout(READ_TIMEOUT, reading).await;
    read.map_err(|elapsed| CatalogError::Unavailable(Box::new(elapsed)))?
}

/// The place in the change log: everything of transactions before `xmin` has been seen, and of the rest what `seen` holds.
struct Log {
    xmin: i64,
    seen: HashSet<i64>,
}

impl Log {
    async fn begin(client: &Client) -> Result<Self, CatalogError> {
        let mut log = Self {
            xmin: 0,
            seen: HashSet::new(),
        };
        log.xmin = client
            .query_one("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint", &[])
            .await?
            .get(0);
        log.read(client).await?;
        Ok(log)
    }

    async fn read(&mut self, client: &Client) -> Result<Vec<ChangeEvent>, CatalogError> {
        let rows = client
            .query_typed(
                "select c.id, c.payload, s.xmin
                 from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xmin) as s
                 left join change as c on c.xid >= $1
                 order by c.id",
                &[(&self.xmin, postgres_types::Type::INT8)],
            )
            .await?;
        let mut events = Vec::new();
        let mut seen = HashSet::new();
        for row in &rows {
            self.xmin = row.get(2);
            let Some(id) = row.get::<_, Option<i64>>(0) else {
                continue;
            };
            seen.insert(id);
            if !self.seen.contains(&id) {
                events.push(
                    row.get::<_, &str>(1)
                        .parse()
                        .map_or(ChangeEvent::Lost, ChangeEvent::Changed),
                );
            }
        }
        self.seen = seen;
        Ok(events)
    }
}

/// Rings when something was announced on a channel, or when its connection has ended.
#[derive(Debug)]
pub struct Listener(Dedicated);

impl Listener {
    pub(crate) async fn connect(config: &Config, channel: &'static str) -> Result<Self, CatalogError> {
        let connection = dedicated(config).await?;
        connection.client.batch_execute(&format!("listen {channel}")).await?;
        Ok(Self(connection))
    }

    /// Waits for the next ring. A ring that came while nobody waited is kept, so look after each.
    ///
    /// # Cancel safety
    /// No ring is lost by dropping the future.
    pub async fn rung(&self) {
        self.0.notified.notified().await;
    }

    /// Whether the connection has ended: make a new listener.
    pub fn is_closed(&self) -> bool {
        self.0.client.is_closed()
    }
}

/// A connection of one's own, driven by a task that ends with it.
#[derive(Debug)]
pub(crate) struct Dedicated {
    pub(crate) client: Client,
    /// Rings for each notification, and when the connection ends.
    pub(crate) notified: Arc<Notify>,
}

pub(crate) async fn dedicated(config: &Config) -> Result<Dedicated, CatalogError> {
    let unavailable = |error: tokio_postgres::Error| CatalogError::Unavailable(Box::new(error));
    let notified = Arc::new(Notify::new());
    let client = if config.get_ssl_mode() == SslMode::Require {
        let (client, connection) = config.connect(tls::connector()?).await.map_err(unavailable)?;
        drive(connection, Arc::clone(&notified));
        client
    } else {
        let (client, connection) = config.connect(NoTls).await.map_err(unavailable)?;
        drive(connection, Arc::clone(&notified));
        client
    };
    Ok(Dedicated { client, notified })
}

fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, notified: Arc<Notify>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(_) = message {
                notified.notify_one();
            }
        }
        notified.notify_one();
    });
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
