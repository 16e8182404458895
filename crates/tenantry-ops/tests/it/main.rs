//! The use cases and operations on a real PostgreSQL.
#![expect(
    clippy::unwrap_used,
    reason = "in a test it is an assertion, also in what tests share"
)]

mod archive;
mod at_hand;
mod backups;
#[cfg(feature = "s3")]
mod backups_bucket;
mod balance;
mod beside;
mod certificate;
mod child;
mod create;
mod erasure;
mod faults;
mod fleet;
mod hand_out;
mod identity;
mod jobs;
mod kill;
mod lifecycle;
mod load;
mod migrate;
mod migrate_diff;
mod migrate_killed;
mod migrate_overlay;
mod migrate_plan;
mod migrate_rollout;
mod migrate_steered;
mod migrate_verify;
mod moving;
mod names;
mod new_ids;
mod replicas;
mod restores;
mod runners;
mod servers;
mod spares;
mod upgrade;
mod usage;
