//! Tenants that move: every direction, killed anywhere, and what is in the way.

mod differs;
mod directions;
mod estimate;
mod held;
mod jobs;
mod killed;
mod left_behind;
mod obstacles;
mod online;
mod outage;
mod refused;
mod resumed;
mod rollout;
mod slow;
mod soak;
mod steered;
mod support;

pub(crate) use online::PIECE_ROWS;
pub(crate) use support::{act, soak, take_back};
