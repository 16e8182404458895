//! Handlers by the kind of their job.

use std::{collections::HashMap, pin::Pin, sync::Arc};

use super::{Failure, Job, Run};

type Outcome = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
type Handler = Arc<dyn Fn(Run, &str) -> Outcome + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Handlers(HashMap<&'static str, Handler>);

impl Handlers {
    pub(super) fn add<J, F, O>(&mut self, handler: F)
    where
        J: Job,
        F: Fn(Run, J) -> O + Send + Sync + 'static,
        O: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let handler = move |run: Run, payload: &str| -> Outcome {
            match serde_json::from_str::<J>(payload) {
                Ok(job) => Box::pin(handler(run, job)),
                Err(error) => {
                    // Its text may hold values of the payload: they are the tenant's own, and only its admins are shown it.
                    let failure = Failure::never(format!("the payload is not what this program reads: {error}"));
                    Box::pin(std::future::ready(Err(failure)))
                }
            }
        };
        self.0.insert(J::KIND, Arc::new(handler));
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.0.keys().copied().collect();
        kinds.sort_unstable();
        kinds
    }

    pub(super) fn find(&self, kind: &str) -> Option<Handler> {
        self.0.get(kind).cloned()
    }
}
