//! Test support: a private PostgreSQL per run, a database per test, a fault proxy.
//!
//! The tests of one build folder share a server per version ([`cluster`], [`second_cluster`]; for change streams
//! [`logical_cluster`], [`second_logical_cluster`]), in one process
//! (`cargo test`) or in many (nextest). It is started on first use; when the last process that uses it has ended, in
//! whatever way, a watchdog stops it and removes its folder. A test that kills or restarts the server takes one of its
//! own ([`own_cluster`]).
//!
//! Environment: `TENANTRY_PG_BIN` names the folder of the default server's programs, `TENANTRY_TEST_NO_INSTALL=1` keeps
//! root on Debian from installing PostgreSQL where there is none, `TENANTRY_CACHE` is where npm's PostgreSQL 18 is kept,
//! `TENANTRY_TEST_FOLDERS` names where tests make their folders (else in `/dev/shm` where that has room, see [`test_base`]),
//! `TENANTRY_TEST_HARDENED=1` has the fixtures harden their tenant databases (`cargo xtask test --hardened`).
//!
//! Everything here panics with a sentence instead of returning an error: it is only used in tests.

mod admin;
mod binaries;
mod cluster;
mod counting;
mod database;
mod own;
mod package;
mod pgbouncer;
mod place;
mod proxy;
mod redis;
#[cfg(feature = "s3")]
mod s3;
mod shared;
mod shared_rows;
mod tls;
mod watchdog;

pub use admin::RestrictedAdmin;
pub use binaries::{default_binaries, second_binaries};
pub use cluster::TestCluster;
pub use counting::{Counted, CountingProxy};
pub use database::{TestDatabase, database, database_on};
pub use own::{OwnCluster, OwnClusterOptions, own_cluster};
pub use pgbouncer::{PgBouncer, pgbouncer};
pub use place::test_base;
pub use proxy::FaultProxy;
pub use redis::{Redis, redis};
#[cfg(feature = "s3")]
pub use s3::{S3, s3};
pub use shared::{cluster, logical_cluster, second_cluster, second_logical_cluster};
pub use shared_rows::change_shared_rows;
pub use tls::{Authority, Certified, TlsCluster, tls_cluster};
pub use watchdog::{TestFolder, test_folder};

/// A random installation id (8 hex digits), so that the cluster-wide role names of tests on one server never meet.
pub fn installation_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Whether tenant databases of tests are to be hardened: the same tests once more, on what runs SQL from outside.
pub fn hardened() -> bool {
    std::env::var_os("TENANTRY_TEST_HARDENED").is_some_and(|value| value == "1")
}

/// Whether the homes of tests are to be made from finished definitions where their migrations can be written so: the same tests
/// once more, on what new tenants get.
pub fn finished() -> bool {
    std::env::var_os("TENANTRY_TEST_FINISHED").is_some_and(|value| value == "1")
}

/// A name that no other test has.
pub(crate) fn random_hex() -> String {
    format!("{:032x}", rand::random::<u128>())
}
