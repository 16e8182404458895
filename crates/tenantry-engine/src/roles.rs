//! The names of an installation's roles on a server. Each holds the installation's id, so that two installations share a
//! server and clean-up can tell its own.

use tenantry_core::{InstallationId, TenantDatabaseId};
use tenantry_sql::Identifier;

const MARK: &str = "tenantry installation ";

/// The roles that an installation has once on each server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roles {
    /// Owns the schemas of the mechanism; nobody logs in as it or is a member of it.
    pub seal: Identifier,
    /// Owns the application's tables and schemas; migrations act as it.
    pub owner: Identifier,
    /// Owns the databases that the installation made: being its own is how a database is known to be ours to drop.
    pub home: Identifier,
    /// Copies tenants from place to place: logs in, bypasses row security, replicates.
    pub mover: Identifier,
}

impl Roles {
    /// The roles of an installation.
    pub fn of(installation: &InstallationId) -> Self {
        let name = |part: &str| {
            Identifier::new(format!("tn_{installation}_{part}")).expect("17 bytes at most, and none of them zero")
        };
        Self {
            seal: name("seal"),
            owner: name("owner"),
            home: name("home"),
            mover: name("mover"),
        }
    }

    /// The role that applications use in one tenant database, and only there.
    pub fn app(installation: &InstallationId, database: TenantDatabaseId) -> Identifier {
        Identifier::new(format!("tn_{installation}_{}_app", database.as_uuid().simple()))
            .expect("48 bytes, and none of them zero")
    }

    /// The mark in the comment of each object that the installation made.
    pub(crate) fn mark(installation: &InstallationId) -> String {
        format!("{MARK}{installation}")
    }

    /// The installation that a comment names, if it is a mark.
    pub(crate) fn installation_of_mark(comment: &str) -> Option<&str> {
        comment.strip_prefix(MARK)
    }
}
