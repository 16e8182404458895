//! Delivers events to a handler, one after the other, for as long as this process has the consumer's lease.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tenantry_catalog::{
    Catalog, CatalogError,
    audit_log::Record,
    event::{self, Begin, Parked},
};
use tenantry_core::TenantId;
use uuid::Uuid;

use super::{Event, EventKind};
use crate::{Error, ErrorKind};

/// How many events are read at a time.
const AT_ONCE: u8 = 64;
/// The pause after the first failure; it doubles with each one more.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long a handler may take: what asks other programs gives up earlier, and all tenants' events wait meanwhile.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Characters of a handler's error that are kept.
const ERROR_MAX: usize = 2000;

/// Who is told of events; [`run`](Self::run) tells.
#[must_use = "a consumer is told nothing before `run`"]
pub struct Consumer {
    catalog: Catalog,
    name: String,
    kinds: Vec<EventKind>,
    begin: Begin,
    lease: Duration,
    poll: Duration,
    pause: Duration,
    time_limit: Duration,
}

/// What was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct ConsumerReport {
    /// Events that a handler took.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// A tenant whose events wait, because one of them could not be handled.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ParkedEvents {
    /// Whose; `None` for events of no tenant.
    pub tenant: Option<TenantId>,
    /// From which event on.
    pub from: i64,
    /// How often that one was tried.
    pub attempts: i32,
    /// What the handler said.
    pub error: String,
}

/// How a part of a round ended.
enum Ended {
    /// There is nothing more to tell, or no time.
    Done,
    /// There may be more.
    More,
    /// Another process delivers by now.
    Lost,
}

impl Consumer {
    pub(super) fn new(catalog: Catalog, name: &str) -> Self {
        Self {
            catalog,
            name: name.to_owned(),
            kinds: EventKind::ALL.to_vec(),
            begin: Begin::Now,
            lease: Duration::from_secs(15),
            poll: Duration::from_millis(500),
            pause: PAUSE,
            time_limit: TIME_LIMIT,
        }
    }

    /// Only events of these kinds. What a consumer of this name was not told of before stays untold.
    pub fn only(mut self, kinds: &[EventKind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// When the name is new, begin with the first event there is, instead of with what happens from now on.
    pub fn from_the_first(mut self) -> Self {
        self.begin = Begin::First;
        self
    }

    /// How often the catalog is asked whether something happened.
    pub fn poll(mut self, every: Duration) -> Self {
        self.poll = every.max(Duration::from_millis(1));
        self
    }

    /// How long the others leave a process alone that is not heard of; beats come three times as often. At least a second.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_secs(1));
        self
    }

    /// The pause after a failure of the handler; it doubles with each one more, up to five minutes.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// How long the handler may take for an event, a minute where nothing else is said; then it is dropped and has failed. All tenants'
    /// events wait while it works.
    ///
    /// One that blocks its thread, instead of waiting, can't be stopped by this.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Whose events wait, and why.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when the catalog can't be reached.
    pub async fn parked(&self) -> Result<Vec<ParkedEvents>, Error> {
        let client = self.catalog.client().await.map_err(unavailable)?;
        let parked = event::parked(&client, &self.name).await.map_err(unavailable)?;
        Ok(parked
            .into_iter()
            .map(|parked| ParkedEvents {
                tenant: parked.tenant,
                from: parked.position,
                attempts: parked.attempts,
                error: parked.error,
            })
            .collect())
    }

    /// Delivers until `stop` is ready; the event in hand may end. When the catalog can't be reached, it is tried again. A handler that
    /// panics, or takes longer than [`time_limit`](Self::time_limit), has failed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when the consumer's name can't be noted at the beginning.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the handler in progress is dropped too, and its event is delivered again, by whoever takes over when the lease ends.
    pub async fn run<H, F, E>(self, handler: H, stop: impl Future<Output = ()>) -> Result<ConsumerReport, Error>
    where
        H: Fn(Event) -> F,
        F: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        let client = self.catalog.client().await.map_err(unavailable)?;
        event::register(&client, &self.name, self.begin)
            .await
            .map_err(unavailable)?;
        drop(client);
        let mut delivery = Delivery {
            lease: Uuid::now_v7(),
            actions: self.kinds.iter().map(|kind| kind.action()).collect(),
            consumer: &self,
            handler,
            stopping: Arc::default(),
            report: ConsumerReport::default(),
        };
        let mut stop = pin!(stop);
        while !delivery.rounds_until(&mut stop).await {
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(self.poll) => {}
            }
        }
        // The others need not wait for the end of the lease; where this fails they do.
        if let Ok(client) = self.catalog.client().await {
            let _ = event::release(&client, &self.name, delivery.lease).await;
        }
        Ok(delivery.report)
    }
}

/// A process that delivers.
struct Delivery<'a, H> {
    consumer: &'a Consumer,
    /// This process's.
    lease: Uuid,
    actions: Vec<&'static str>,
    handler: H,
    /// No other event is begun.
    stopping: Arc<AtomicBool>,
    report: ConsumerReport,
}

impl<H, F, E> Delivery<'_, H>
where
    H: Fn(Event) -> F,
    F: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    /// Tells what there is to tell; whether it shall stop.
    async fn rounds_until(&mut self, stop: &mut Pin<&mut impl Future<Output = ()>>) -> bool {
        let stopping = Arc::clone(&self.stopping);
        let name = &self.consumer.name;
        let mut round = pin!(self.round());
        loop {
            tokio::select! {
                () = &mut *stop, if !stopping.load(Ordering::Relaxed) => stopping.store(true, Ordering::Relaxed),
                ended = &mut round => {
                    if let Err(error) = ended {
                        tracing::warn!(consumer = name, %error, "events can't be delivered at the moment");
                    }
                    return stopping.load(Ordering::Relaxed);
                }
            }
        }
    }

    async fn round(&mut self) -> Result<(), CatalogError> {
        while let Some(position) = self.renew().await? {
            if matches!(self.tell_parked(position).await?, Ended::Lost) {
                return Ok(());
            }
            if !matches!(self.tell_new(position).await?, Ended::More) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The consumer's position, where this process delivers.
    async fn renew(&self) -> Result<Option<i64>, CatalogError> {
        let Consumer {
            catalog, name, lease, ..
        } = self.consumer;
        event::lease(&catalog.client().await?, name, self.lease, *lease).await
    }

    /// Some of what is new.
    async fn tell_new(&mut self, mut position: i64) -> Result<Ended, CatalogError> {
        let Consumer {
            catalog, name, pause, ..
        } = self.consumer;
        let client = catalog.client().await?;
        let news = event::news(&client, position, &self.actions, AT_ONCE.into()).await?;
        let parked = event::parked(&client, name).await?;
        drop(client);
        let mut waiting: Vec<Option<TenantId>> = parked.into_iter().map(|parked| parked.tenant).collect();
        let ended = if news.entries.len() < usize::from(AT_ONCE) {
            Ended::Done
        } else {
            Ended::More
        };
        for entry in news.entries {
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(Ended::Done);
            }
            position = entry.id;
            let told = match waiting.contains(&entry.tenant) {
                // Not before the one that waits.
                true => Ok(()),
                false => self.tell(entry.clone()).await,
            };
            let client = catalog.client().await?;
            let holds = match told {
                Ok(()) => event::advance(&client, name, self.lease, position).await?,
                Err(Untold::Failed(error)) => {
                    waiting.push(entry.tenant);
                    event::park(&client, name, self.lease, &entry, &error, *pause).await?
                }
                Err(Untold::Lost) => false,
            };
            if !holds {
                return Ok(Ended::Lost);
            }
        }
        if news.up_to > position {
            event::advance(&catalog.client().await?, name, self.lease, news.up_to).await?;
        }
        Ok(ended)
    }

    /// What waits and whose time has come.
    async fn tell_parked(&mut self, up_to: i64) -> Result<Ended, CatalogError> {
        let Consumer { catalog, name, .. } = self.consumer;
        let parked = event::parked(&catalog.client().await?, name).await?;
        for parked in parked.into_iter().filter(|parked| parked.is_due) {
            let client = catalog.client().await?;
            let entries = event::of_tenant(&client, &parked, up_to, &self.actions, AT_ONCE.into()).await?;
            drop(client);
            let mut all = entries.len() < usize::from(AT_ONCE);
            for entry in entries {
                if self.stopping.load(Ordering::Relaxed) {
                    return Ok(Ended::Done);
                }
                let told = self.tell(entry.clone()).await;
                let client = catalog.client().await?;
                let holds = match &told {
                    Ok(()) => event::advance_parked(&client, name, self.lease, parked.tenant, entry.id).await?,
                    Err(Untold::Failed(error)) => {
                        let pause = self.longer(&parked, &entry);
                        event::park(&client, name, self.lease, &entry, error, pause).await?
                    }
                    Err(Untold::Lost) => false,
                };
                if !holds {
                    return Ok(Ended::Lost);
                }
                if told.is_err() {
                    all = false;
                    break;
                }
            }
            let client = catalog.client().await?;
            if all && !event::unpark(&client, name, self.lease, parked.tenant).await? {
                return Ok(Ended::Lost);
            }
        }
        Ok(Ended::Done)
    }

    /// Doubles with each attempt at the same event.
    fn longer(&self, parked: &Parked, entry: &Record) -> Duration {
        let again = if entry.id == parked.position {
            parked.attempts
        } else {
            0
        };
        let doublings = u32::try_from(again).unwrap_or(0).min(16);
        self.consumer.pause.saturating_mul(1 << doublings).min(PAUSE_MAX)
    }

    /// Hands an event to the handler, and counts what became of it.
    async fn tell(&mut self, entry: Record) -> Result<(), Untold> {
        let Some(event) = Event::of(entry) else { return Ok(()) };
        let (id, kind) = (event.id, event.kind);
        let told = self.handle(event).await;
        match &told {
            Ok(()) => self.report.delivered += 1,
            Err(Untold::Failed(error)) => {
                self.report.failed += 1;
                tracing::warn!(
                    consumer = self.consumer.name,
                    event = id,
                    ?kind,
                    error,
                    "an event could not be handled"
                );
            }
            Err(Untold::Lost) => {}
        }
        told
    }

    /// Lets the handler have the event for so long as it may take, while the lease goes on. One that panics or does not end has failed as
    /// one that says so: else this event would stop every process that takes over, and with it all tenants.
    async fn handle(&self, event: Event) -> Result<(), Untold> {
        let handler = &self.handler;
        // Within the future, so that a panic of the call itself is caught too.
        let handled = AssertUnwindSafe(async move { handler(event).await }).catch_unwind();
        let limit = self.consumer.time_limit;
        let mut handled = pin!(tokio::time::timeout(limit, handled));
        let mut beats = tokio::time::interval(self.consumer.lease / 3);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let outcome = loop {
            tokio::select! {
                outcome = &mut handled => break outcome,
                _ = beats.tick() => match self.renew().await {
                    Ok(Some(_)) => {}
                    // Somebody else may deliver it at this very moment.
                    Ok(None) => return Err(Untold::Lost),
                    Err(error) => tracing::warn!(%error, "a consumer's lease is not renewed"),
                }
            }
        };
        match outcome {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(Untold::Failed(kept(&error))),
            Ok(Err(_)) => Err(Untold::Failed("the handler panicked".to_owned())),
            Err(_) => Err(Untold::Failed(format!(
                "the handler took longer than {limit:?} and was stopped"
            ))),
        }
    }
}

/// A handler's words as the catalog can keep them: PostgreSQL's text has no character zero, and an error that can't be noted would be met
/// again at once, by every tenant's events.
fn kept(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    text.chars().filter(|c| *c != '\0').take(ERROR_MAX).collect()
}

/// Why an event was not delivered.
enum Untold {
    /// The handler's words.
    Failed(String),
    /// Another process delivers by now.
    Lost,
}

fn unavailable(error: CatalogError) -> Error {
    Error::new(ErrorKind::Unavailable, "the catalog can't be reached").with_source(error)
}
