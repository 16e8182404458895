//! What `dev` tells and what it remembers: `dev.json` while it runs, `state.json` between two runs.

use serde::{Deserialize, Serialize};
use tenantry_core::{Isolation, TenantId};

use super::folder::Folder;

/// What `.tenantry/dev.json` holds while `dev` runs. Programs rely on these names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Where the server answers, `http://127.0.0.1:8080`.
    pub(crate) http: String,
    /// The process of `tenantry dev`.
    pub(crate) pid: u32,
    /// An operator's key for the control plane.
    pub(crate) operator_key: String,
    /// The superuser's connection to the private PostgreSQL.
    pub(crate) admin_url: String,
    /// The connection to the catalog.
    pub(crate) catalog_url: String,
    /// The application role's own connection to the shared tenant database.
    pub(crate) app_url: String,
    /// The demo tenants.
    pub(crate) tenants: Vec<RunningTenant>,
}

/// A demo tenant in `dev.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunningTenant {
    /// Its id.
    pub(crate) id: TenantId,
    /// Its label.
    pub(crate) slug: String,
    /// How its rows are kept apart.
    pub(crate) isolation: Isolation,
    /// Its owner's log-in.
    pub(crate) email: String,
    /// Its owner's password.
    pub(crate) password: String,
    /// The application role's own connection to the database where it lives.
    pub(crate) app_url: String,
    /// The schema with its tables.
    pub(crate) schema: String,
}

/// What is remembered between two runs: secrets are random and can't be read back from the catalog, which has hashes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// The password of the catalog's role.
    pub(super) catalog_password: Option<String>,
    /// The operator's key.
    pub(super) operator_key: Option<String>,
    /// The demo tenants' log-ins, in the order of [`super::demo::DEMOS`].
    pub(super) logins: Vec<Login>,
}

/// A demo tenant's log-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Login {
    /// The tenant.
    pub(super) slug: String,
    /// Its owner's password.
    pub(super) password: String,
    /// Whether the tenant was made: what the user removes does not come back.
    pub(super) made: bool,
    /// Whether the demo data were inserted: what the user deletes does not come back.
    pub(super) filled: bool,
}

const FILE: &str = "state.json";

impl State {
    pub(super) fn read(folder: &Folder) -> anyhow::Result<Self> {
        Ok(folder.read_json(FILE)?.unwrap_or_default())
    }

    pub(super) fn login(&self, slug: &str) -> Option<&Login> {
        self.logins.iter().find(|login| login.slug == slug)
    }

    pub(super) fn change_login(&mut self, slug: &str, change: impl FnOnce(&mut Login)) {
        if let Some(login) = self.logins.iter_mut().find(|login| login.slug == slug) {
            change(login);
        }
    }

    pub(super) fn write(&self, folder: &Folder) -> anyhow::Result<()> {
        folder.write_json(FILE, self)
    }
}

impl Login {
    pub(super) fn new(slug: &str, password: String) -> Self {
        Self {
            slug: slug.to_owned(),
            password,
            made: false,
            filled: false,
        }
    }
}
