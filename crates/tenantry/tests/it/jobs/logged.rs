//! What the log says while a job runs: whose it is, on every line.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tenantry::jobs::{Enqueue, Failure, JobState, Run};
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    dispatcher::DefaultGuard,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::{Add, Odd, add, by_jobs, jobs_left, work, worker};
use crate::world::World;

type Fields = HashMap<String, String>;

/// Keeps each line with the fields of the spans that it was logged in. For one thread.
#[derive(Clone, Default)]
struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    last: AtomicU64,
    spans: Mutex<HashMap<u64, Fields>>,
    entered: Mutex<Vec<u64>>,
    lines: Mutex<Vec<Fields>>,
}

struct Keep<'a>(&'a mut Fields);

impl Visit for Keep<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Log {
    /// Hears what this thread says. Where tracing knows one listener only, it asks the thread that comes to a line first whether anybody
    /// listens, which may be another test's; so there is a second one, that nobody speaks to.
    fn listen(&self) -> (Dispatch, DefaultGuard) {
        let second = Dispatch::new(Self::default());
        (second, tracing::dispatcher::set_default(&Dispatch::new(self.clone())))
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::new();
        span.record(&mut Keep(&mut fields));
        self.0.spans.lock().insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if let Some(fields) = self.0.spans.lock().get_mut(&span.into_u64()) {
            values.record(&mut Keep(fields));
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Fields::new();
        for id in &*self.0.entered.lock() {
            line.extend(self.0.spans.lock()[id].clone());
        }
        event.record(&mut Keep(&mut line));
        self.0.lines.lock().push(line);
    }

    fn enter(&self, span: &Id) {
        self.0.entered.lock().push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut entered = self.0.entered.lock();
        if let Some(place) = entered.iter().rposition(|id| *id == span.into_u64()) {
            entered.remove(place);
        }
    }
}

impl Log {
    /// The lines that say this.
    fn saying(&self, message: &str) -> Vec<Fields> {
        let lines = self.0.lines.lock();
        let said = lines
            .iter()
            .filter(|line| line.get("message").is_some_and(|said| said == message));
        said.cloned().collect()
    }
}

#[tokio::test]
async fn each_line_of_a_handler_says_whose_job_it_is() {
    let log = Log::default();
    // Of this thread only, on which the whole test runs.
    let _listening = log.listen();
    let world = World::new().await;
    let logs = |run: Run, job: Add| async move {
        tracing::info!("the handler is at work");
        add(run, job).await
    };
    let mut ids = HashMap::new();
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        ids.insert(n, scope.enqueue(&Add { id: 100 }).await.unwrap());
    }
    work(worker(&world.tenantry).handle(logs), async || {
        let mut done = 0;
        for n in [0, 2, 4] {
            done += by_jobs(&world.scope(n).await).await;
        }
        done == 3
    })
    .await;
    let lines = log.saying("the handler is at work");
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (n, isolation) in [(0, "shared"), (2, "schema"), (4, "database")] {
        let tenant = world.tenants[n].to_string();
        let line = lines.iter().find(|line| line["tenant.id"] == tenant).unwrap();
        assert_eq!(line["job.id"], ids[&n].to_string());
        assert_eq!(line["job.kind"], "add");
        assert_eq!(line["isolation"], isolation);
        assert!(line["placement"].ends_with("@1"), "{line:?}");
        assert!(!line.contains_key("account.id"), "{line:?}");
        assert!(
            !line.values().any(|value| value.contains("100}")),
            "no payload: {line:?}"
        );
    }
}

#[tokio::test]
async fn a_failure_says_which_tenants_job_it_was() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let scope = world.scope(2).await;
    let once = Enqueue::new().attempts_max(1);
    let job = scope
        .enqueue_with(
            &Odd {
                how: "never".to_owned(),
            },
            once,
        )
        .await
        .unwrap();
    let fails = |_: Run, _: Odd| async { Err::<(), _>(Failure::retry("it can't be done")) };
    work(worker(&world.tenantry).handle(fails), async || {
        jobs_left(&scope, &[JobState::Dead]).await == 1
    })
    .await;
    let lines = log.saying("a job failed");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!(line["tenant.id"], world.tenants[2].to_string());
    assert_eq!(
        (line["job.id"].clone(), line["job.kind"].as_str()),
        (job.to_string(), "odd")
    );
    assert_eq!((line["job.attempt"].as_str(), line["dead"].as_str()), ("1", "true"));
    assert_eq!(line["isolation"], "schema");
}
