//! Work on tenant databases: bootstrap, seal, fence, isolate, provision, migrate, adopt.

pub mod adopt;
pub mod isolate;
pub mod migrate;
