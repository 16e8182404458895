//! With which rows a tenant begins, as its operation remembers it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenantry_catalog::operation::Operation;
use tenantry_core::TenantId;
use tenantry_engine::archive::{Masks, Signer};
use uuid::Uuid;

use super::RowIds;
use crate::runner::Failure;

/// With which rows a tenant begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Birth {
    /// From where.
    pub(crate) source: Source,
    /// The newest of the migrations that these rows have, where that is not the newest of all: the tables are made so far, and
    /// migrated on when the rows are there.
    pub(crate) version: Option<i64>,
    /// The id that the tenant gets; a new one where there is none.
    pub(crate) id: Option<TenantId>,
    /// Which ids its rows get.
    #[serde(default)]
    pub(crate) ids: RowIds,
}

/// From where rows come.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// From an archive, on the machine where the import was asked for.
    Archive {
        /// Where it stands.
        path: PathBuf,
        /// What it is known by.
        digest: String,
        /// Who is trusted to have signed it.
        #[serde(with = "signers")]
        signers: Vec<Signer>,
    },
    /// From a backup in the store.
    Backup {
        /// Which.
        backup: Uuid,
    },
    /// From another tenant.
    Tenant {
        /// Which.
        tenant: TenantId,
        /// What is not copied as it is.
        masks: Masks,
    },
}

impl Birth {
    /// Whether the tenant of this operation begins with rows.
    pub(crate) fn is_of(operation: &Operation) -> bool {
        operation.input.get("source").is_some()
    }

    /// What the operation remembers.
    pub(crate) fn of(operation: &Operation) -> Result<Option<Self>, Failure> {
        if !Self::is_of(operation) {
            return Ok(None);
        }
        let birth = serde_json::from_value(operation.input.clone());
        birth.map(Some).map_err(|error| {
            let message = format!("what the operation was asked to load is not understood: {error}");
            Failure::permanent("input_unknown", message)
        })
    }

    /// What the operation shall remember.
    pub(crate) fn input(&self) -> Value {
        serde_json::to_value(self).expect("names, numbers and texts are JSON")
    }

    /// What the audit log calls it.
    pub(crate) fn action(&self) -> &'static str {
        match self.source {
            Source::Archive { .. } => "tenant.import",
            Source::Backup { .. } => "tenant.restore",
            Source::Tenant { .. } => "tenant.clone",
        }
    }

    /// What the audit log says of where the rows come from.
    pub(crate) fn origin(&self) -> Value {
        let mut origin = match &self.source {
            Source::Archive { digest, .. } => json!({ "archive": digest }),
            Source::Backup { backup } => json!({ "backup": backup }),
            Source::Tenant { tenant, masks } => json!({ "tenant": tenant, "masked": !masks.0.is_empty() }),
        };
        if self.ids != RowIds::Kept {
            origin["new_ids"] = json!(true);
        }
        origin
    }
}

mod signers {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};
    use tenantry_engine::archive::Signer;

    pub(super) fn serialize<S: Serializer>(signers: &[Signer], serializer: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = signers.iter().map(ToString::to_string).collect();
        texts.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Signer>, D::Error> {
        let texts: Vec<String> = Vec::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| text.parse().map_err(D::Error::custom))
            .collect()
    }
}
