//! What the transactions of other drivers need to enqueue.

use super::{
    Enqueue, Job, JobId,
    enqueue::{Row, has_room, may_enqueue},
};
use crate::{Error, ErrorKind, Scope};

/// The statement. Each parameter has a type that every driver has, whatever the function takes.
pub(crate) const ENQUEUE: &str = "select tenantry.enqueue(
    $1::pg_catalog.text::pg_catalog.uuid, $2::pg_catalog.text, $3::pg_catalog.text,
    pg_catalog.make_interval(secs => $4::pg_catalog.float8), $5::pg_catalog.int2, $6::pg_catalog.int2,
    $7::pg_catalog.text, $8::pg_catalog.text::pg_catalog.uuid)::pg_catalog.text as answer";

/// The statement's parameters, in their order.
pub(crate) struct Values {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) payload: String,
    pub(crate) delay_s: f64,
    pub(crate) priority: i16,
    pub(crate) attempts_max: i16,
    pub(crate) unique_key: Option<String>,
    pub(crate) api_key: Option<String>,
}

impl Values {
    /// Those of a job, if whoever acts may enqueue it.
    pub(crate) async fn of<J: Job>(scope: &Scope, job: &J, how: Enqueue) -> Result<Self, Error> {
        let context = scope.context();
        may_enqueue(context.role)?;
        has_room(&*scope.pools().grant(scope.caller()).await?)?;
        let Row { id, payload, delay_s } = Row::of(job, &how)?;
        Ok(Self {
            id: id.to_string(),
            kind: J::KIND,
            payload,
            delay_s,
            priority: how.priority,
            attempts_max: how.attempts_max,
            unique_key: how.unique_key,
            api_key: context.api_key().map(|key| key.to_string()),
        })
    }
}

/// Which job it is: the new one, or an earlier one with the same unique key.
pub(crate) fn id_of(answer: Option<&str>) -> Result<JobId, Error> {
    let id = answer.and_then(|answer| answer.parse().ok());
    id.ok_or_else(|| Error::new(ErrorKind::Column, "the database did not say which job was enqueued"))
}
