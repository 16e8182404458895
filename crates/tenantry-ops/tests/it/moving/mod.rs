//! Tenants that move: every direction, killed anywhere, and what is in the way.

mod directions;
mod held;
mod killed;
mod online;
mod refused;
mod soak;
mod steered;
mod support;

pub(crate) use support::{act, soak, take_back};
