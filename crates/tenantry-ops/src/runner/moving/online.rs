//! The copy while the tenant works: a snapshot, the stream of what has changed since, and the last of it behind the closed fence.
//!
//! The stream's position at the new home is written before the first row, and thrown away before another copy begins: where it is,
//! whoever takes the operation over goes on behind it, with the tables and parts of tables that are left where the copy was not whole;
//! otherwise it copies anew with a slot of its own.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenantry_catalog::operation_cleanup::{self, Object, ObjectKind};
use tenantry_engine::{
    structure,
    transfer::{
        self, Progress, Rest,
        stream::{self, Applied, Applier, Direction, Plan, Snapshot, StreamError, StreamName, Until},
    },
};
use tokio_postgres::Client;

use super::{Failure, Hands, Home, Moving};
use crate::{
    failpoint,
    runner::{failure::may_pass, migrate::noting},
};

/// How long the slot may wait for transactions that write anywhere on the source's server. The tenant works meanwhile.
const SLOT: Duration = Duration::from_secs(60);
/// The new home is near when it has what was written a moment ago after this time, ...
const NEAR: Duration = Duration::from_millis(200);
/// ... so many times in a row.
const NEAR_TIMES: u32 = 3;
/// How long the tenant waits for its last changes before it is let in again.
const LAST: Duration = Duration::from_secs(10);

impl Moving<'_> {
    /// The stream of this direction, its publication and its slot.
    pub(super) fn stream(&self) -> StreamName {
        self.stream_of(self.direction)
    }

    pub(super) fn stream_of(&self, direction: Direction) -> StreamName {
        let installation = self.source.site.installation();
        StreamName::new(installation, self.journal.operation.id, direction)
    }

    /// Copies the rows as of one moment, unless an earlier try has, and starts what brings the changes since. `None` where its
    /// changes are not followed.
    pub(super) async fn follow(&self, hands: &Hands) -> Result<Option<Applier>, Failure> {
        // What was begun is gone on with: its slot must not keep the source's log for nothing.
        if self.stream_objects(Direction::There).await?.is_empty()
            && let Some(why) = self.held_because().await?
        {
            self.tell(json!({ "held_because": why })).await?;
            return Ok(None);
        }
        stream::prepare_target(hands.target(), self.target.site.installation()).await?;
        let structure = self.structure(hands).await?;
        let was = |key: &str| self.told(key).is_some_and(|told| told == structure);
        match (
            self.is_kept(hands).await?,
            was("followed_structure"),
            was("copied_structure"),
        ) {
            (true, true, _) => {}
            (true, false, true) => self.copy_the_rest(hands, structure).await?,
            _ => self.copy_anew(hands, structure).await?,
        }
        self.start_applier(hands).await.map(Some)
    }

    /// Which migrations the source has had: a publication does not hear of tables that come later.
    pub(super) async fn structure(&self, hands: &Hands) -> Result<String, Failure> {
        let ledger = structure::read_ledger(hands.source(), &self.source.target()?).await?;
        let text = format!("{:?}/{:?}", ledger.versions, ledger.overlay);
        Ok(hex::encode(&Sha256::digest(text)[..8]))
    }

    /// Goes on where the target is.
    pub(super) async fn start_applier(&self, hands: &Hands) -> Result<Applier, Failure> {
        let source = self.source.endpoint()?;
        let target = self.target.connect_as_mover().await?;
        let plan = Plan {
            name: self.stream(),
            tenant: self.input.from.tenant,
            source_schema: self.input.from.schema.clone(),
            target_schema: self.input.to.schema.clone(),
        };
        match Applier::start(source, target, plan).await {
            Ok(applier) => Ok(applier),
            Err(error) => Err(self.broken(hands, error).await),
        }
    }

    /// Why the tenant's changes are not followed.
    async fn held_because(&self) -> Result<Option<String>, Failure> {
        if self.input.within_a_database() {
            return Ok(Some(crate::moves::WITHIN.to_owned()));
        }
        let located = self.source.located().await?;
        self.ops.held_because(&located).await
    }

    /// Whether what was copied is there as of a position from which the slot tells everything.
    async fn is_kept(&self, hands: &Hands) -> Result<bool, Failure> {
        let name = self.stream();
        if stream::read_position(hands.target(), &name).await?.is_none() {
            return Ok(false);
        }
        let slots = stream::list_slots(hands.source(), self.source.site.installation()).await?;
        Ok(slots
            .iter()
            .any(|slot| slot.stream == name && slot.database == self.input.from.database_name))
    }

    /// Copies every table, with a slot that tells what is changed meanwhile.
    async fn copy_anew(&self, hands: &Hands, structure: String) -> Result<(), Failure> {
        let (source, target, name) = (hands.source(), hands.target(), self.stream());
        let tenant = self.input.from.tenant;
        self.tell(
            json!({ "followed_structure": null, "copied_structure": null, "tables_kept": null, "rows_kept": null }),
        )
        .await?;
        for kind in [ObjectKind::Publication, ObjectKind::Slot] {
            self.journal
                .will_make(&self.stream_object(Direction::There, kind))
                .await?;
        }
        stream::forget_position(target, &name).await?;
        stream::drop_slot(source, &name).await?;
        stream::drop_publication(source, &name).await?;
        stream::make_publication(source, &name, &self.input.from.schema, tenant).await?;
        let snapshot = stream::make_slot(self.source.endpoint()?, source, &name, SLOT).await?;
        failpoint::pass("move.slot_made").await?;
        // Before the first row: from here on what is there is so as of this position, or of a later one.
        stream::begin_position(target, &name, snapshot.position, true).await?;
        self.tell(json!({ "copied_structure": structure })).await?;
        self.copy_from(hands, &snapshot, structure, 0).await
    }

    /// Goes on with a copy that was broken off. A later moment is taken, what is there is brought up to it, tables whole or up to their last
    /// keys, and the rest is copied as of it: so all of it is of one moment, and no row can be in the way of another.
    async fn copy_the_rest(&self, hands: &Hands, structure: String) -> Result<(), Failure> {
        let (target, name) = (hands.target(), self.stream());
        let kept = stream::read_kept(target, &name).await?;
        let snapshot = stream::snapshot_beside(self.source.endpoint()?, &name, SLOT).await?;
        let mut applier = self.start_applier(hands).await?;
        applier.only(&kept);
        self.run(
            hands,
            &mut applier,
            &Until::Position(snapshot.position),
            self.ops.fleet().move_catch_up,
        )
        .await?;
        applier.stop().await;
        // Also where nothing was changed in it, which moves no position.
        stream::begin_position(target, &name, snapshot.position, true).await?;
        self.tell(json!({ "tables_kept": kept.whole.len(), "rows_kept": kept.rows() }))
            .await?;
        self.copy_from(hands, &snapshot, structure, kept.rows()).await
    }

    /// Copies what is not there as of a moment; so many rows are.
    async fn copy_from(
        &self,
        hands: &Hands,
        snapshot: &Snapshot,
        structure: String,
        rows_kept: u64,
    ) -> Result<(), Failure> {
        let name = self.stream();
        let tenant = self.input.from.tenant;
        let began = Instant::now();
        let seen = Mutex::new(None);
        let estimate = self.estimate();
        let mut tell = |progress: Progress<'_>| {
            let mut shown = estimate.shown(progress);
            // Those of before say nothing of how fast this copy is.
            let came = progress.rows.saturating_sub(rows_kept);
            let left = seconds_left(began.elapsed(), came, progress.rows, &shown["rows_about"]);
            shown["seconds_left"] = json!(left);
            *seen.lock() = Some(shown);
        };
        let rest = Rest {
            snapshot: snapshot.name(),
            stream: &name,
            piece_rows: self.ops.fleet().move_piece_rows,
        };
        let ends = (self.source.end(hands.source()), self.target.end(hands.target()));
        let work = transfer::copy_rest(ends.0, ends.1, tenant, rest, &mut tell);
        let news = || seen.lock().as_ref().map(|news| self.with_news(news));
        let copied = noting(self.journal, work, news).await??;
        let rows: u64 = copied.iter().map(|one| one.rows).sum();
        self.tell(json!({
            "followed_structure": structure, "copied_ms": began.elapsed().as_millis() as u64,
            "tables_done": copied.len(), "tables": copied.len(), "rows": rows, "seconds_left": null,
            "copied_at": snapshot.position.to_string(),
        }))
        .await
    }

    /// Applies what the tenant writes until the new home is near. The tenant works.
    pub(super) async fn catch_up(&self, hands: &Hands, applier: &mut Applier) -> Result<(), Failure> {
        let (began, patience) = (Instant::now(), self.ops.fleet().move_catch_up);
        let mut near = 0;
        while near < NEAR_TIMES {
            let left = patience.saturating_sub(began.elapsed());
            let asked = Instant::now();
            let applied = self.apply(hands, applier, left).await?;
            near = match asked.elapsed() <= NEAR {
                true => near + 1,
                false => 0,
            };
            let news = json!({ "followed_transactions": applied.transactions, "followed_rows": applied.rows });
            self.tell(news).await?;
        }
        Ok(())
    }

    /// Applies everything that the tenant has written; its old home is closed. That it lasts is waited for before the switch.
    pub(super) async fn bring_last(&self, hands: &Hands, applier: &mut Applier) -> Result<(), Failure> {
        applier.lightly();
        let applied = self.apply(hands, applier, LAST).await?;
        self.tell(json!({ "switched_at": applied.told.to_string() })).await
    }

    /// Applies what the tenant has written until now, while it works.
    pub(super) async fn apply_now(&self, hands: &Hands, applier: &mut Applier) -> Result<Applied, Failure> {
        self.apply(hands, applier, self.ops.fleet().move_catch_up).await
    }

    /// Applies everything that was committed at the source until now.
    async fn apply(&self, hands: &Hands, applier: &mut Applier, patience: Duration) -> Result<Applied, Failure> {
        let marker = stream::emit_marker(hands.source(), &self.stream()).await?;
        self.run(hands, applier, &Until::Marker(marker), patience).await
    }

    async fn run(
        &self,
        hands: &Hands,
        applier: &mut Applier,
        until: &Until,
        patience: Duration,
    ) -> Result<Applied, Failure> {
        match tokio::time::timeout(patience, applier.run(until)).await {
            Ok(Ok(applied)) => Ok(applied),
            Ok(Err(error)) => Err(self.broken(hands, error).await),
            Err(_) => Err(Failure::retry(
                "too_far_behind",
                format!(
                    "the new home did not catch up with what the tenant writes within {} s: move it when it writes less",
                    patience.as_secs()
                ),
            )),
        }
    }

    /// What follows from a stream's end. Where it can't go on from its position, that goes: the next try copies anew.
    pub(super) async fn broken(&self, hands: &Hands, error: StreamError) -> Failure {
        if begins_anew(&error)
            && let Err(error) = stream::forget_position(hands.target(), &self.stream()).await
        {
            tracing::warn!(
                operation.id = %self.journal.operation.id, %error,
                "the position of a stream that broke could not be thrown away: the next try does"
            );
        }
        error.into()
    }

    /// Makes what will bring the new home's changes to the old one, where a soak is wanted. That may wait for transactions, so it is done
    /// while the tenant works; where the stream begins is noted when both homes are closed.
    pub(super) async fn make_way_back(&self, hands: &Hands) -> Result<(), Failure> {
        if self.input.soak_s.is_none() {
            return Ok(());
        }
        let (old, new, name) = (hands.source(), hands.target(), self.stream_of(Direction::Back));
        stream::prepare_target(old, self.source.site.installation()).await?;
        for kind in [ObjectKind::Publication, ObjectKind::Slot] {
            self.journal
                .will_make(&self.stream_object(Direction::Back, kind))
                .await?;
        }
        // An earlier try's may be of other tables.
        stream::drop_slot(new, &name).await?;
        stream::drop_publication(new, &name).await?;
        stream::make_publication(new, &name, &self.input.to.schema, self.input.to.tenant).await?;
        drop(stream::make_slot(self.target.endpoint()?, new, &name, SLOT).await?);
        Ok(())
    }

    /// The new home holds all rows, and nobody writes there yet: from here on its changes are the tenant's own.
    pub(super) async fn begin_way_back(&self, hands: &Hands) -> Result<(), Failure> {
        if self.input.soak_s.is_none() {
            return Ok(());
        }
        let name = self.stream_of(Direction::Back);
        let marker = stream::emit_marker(hands.target(), &name).await?;
        stream::begin_position(hands.source(), &name, marker.position(), true).await?;
        self.tell(json!({ "way_back_at": marker.position().to_string() })).await
    }

    /// Where a stream's changes come from, and where they go.
    fn ends_of(&self, direction: Direction) -> (&Home<'_>, &Home<'_>) {
        match direction == self.direction {
            true => (&self.source, &self.target),
            false => (&self.target, &self.source),
        }
    }

    fn stream_object(&self, direction: Direction, kind: ObjectKind) -> Object {
        let placement = &self.ends_of(direction).0.placement;
        Object {
            kind,
            server: placement.server,
            database_name: placement.database_name.clone(),
            name: self.stream_of(direction).text(),
        }
    }

    /// What may have been made of a stream.
    async fn stream_objects(&self, direction: Direction) -> Result<Vec<Object>, Failure> {
        let client = self.ops.catalog().client().await?;
        let mut objects = operation_cleanup::list_open(&client, self.journal.operation.id).await?;
        let name = self.stream_of(direction).text();
        objects
            .retain(|object| matches!(object.kind, ObjectKind::Slot | ObjectKind::Publication) && object.name == name);
        Ok(objects)
    }

    /// Ends a stream, if the records name one: also its position goes, so that nobody goes on with it.
    pub(super) async fn end_stream(&self, direction: Direction) -> Result<(), Failure> {
        if !self.stream_objects(direction).await?.is_empty() {
            let client = self.ends_of(direction).1.connect().await?;
            stream::forget_position(&client, &self.stream_of(direction)).await?;
        }
        self.drop_stream(direction).await
    }

    /// Drops a stream's slot and publication, if the records name them: the server keeps its log for the slot.
    pub(super) async fn drop_stream(&self, direction: Direction) -> Result<(), Failure> {
        let objects = self.stream_objects(direction).await?;
        if objects.is_empty() {
            return Ok(());
        }
        let origin = self.ends_of(direction).0.connect().await?;
        for object in objects {
            drop_object(&origin, &self.stream_of(direction), object.kind).await?;
            let client = self.ops.catalog().client().await?;
            operation_cleanup::settle(&client, self.journal.operation.id, &object).await?;
        }
        Ok(())
    }
}

/// What is left at the speed of a copy that brought so many rows, where that can be told.
fn seconds_left(took: Duration, came: u64, rows: u64, rows_about: &Value) -> Option<u64> {
    let left = rows_about.as_u64()?.saturating_sub(rows);
    let per_row = (came > 0).then(|| took.as_secs_f64() / came as f64)?;
    Some((per_row * left as f64).ceil() as u64)
}

/// As administrator of the database whose changes the stream tells.
async fn drop_object(origin: &Client, name: &StreamName, kind: ObjectKind) -> Result<(), Failure> {
    let dropped = match kind {
        ObjectKind::Slot => stream::drop_slot(origin, name).await,
        _ => stream::drop_publication(origin, name).await,
    };
    match dropped {
        Ok(_) => Ok(()),
        // It stays.
        Err(error @ StreamError::NotOurs { .. }) => {
            tracing::warn!(message = error.to_string(), "left alone");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether no other applier could go on from the position that the target has.
fn begins_anew(error: &StreamError) -> bool {
    match error {
        StreamError::SlotLost { .. }
        | StreamError::Structure { .. }
        | StreamError::Truncated { .. }
        | StreamError::Diverged { .. }
        | StreamError::Foreign { .. } => true,
        StreamError::Row { source, .. } => source.source.code().is_some_and(|code| !may_pass(code)),
        _ => false,
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Sql(error) => error.into(),
            StreamError::Source { .. } => Self::retry(crate::runner::UNREACHABLE, error.to_string()),
            StreamError::Impatient { .. } => Self::retry("server_busy", error.to_string()),
            StreamError::NotOurs { .. } => Self::permanent("not_ours", error.to_string()),
            StreamError::NoKey { .. } | StreamError::Name(_) => Self::permanent("server_refused", error.to_string()),
            // Another try goes on from the position, or copies anew.
            other => Self::retry("stream_ended", other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_from_before_do_not_make_a_copy_seem_faster_than_it_is() {
        let left = |came, rows| seconds_left(Duration::from_secs(10), came, rows, &json!(3000));
        assert_eq!(left(1000, 1000), Some(20));
        // A thousand more were there.
        assert_eq!(left(1000, 2000), Some(10));
        assert_eq!(left(0, 1000), None);
        assert_eq!(seconds_left(Duration::from_secs(10), 1, 1, &Value::Null), None);
    }
}
