//! Keys, the audit log, and who could operate the fleet.

use chrono::Utc;
use tenantry_ops::Ops;

use super::Finding;
use crate::connect::authority;

pub(super) async fn look(ops: &Ops) -> Vec<Finding> {
    vec![signing_keys(ops).await, operator_keys(ops).await, audit(ops).await]
}

async fn signing_keys(ops: &Ops) -> Finding {
    const CHECK: &str = "signing keys";
    match ops.jwks().await {
        Err(error) => Finding::failed(CHECK, error),
        Ok(set) => match set["keys"].as_array().map_or(0, Vec::len) {
            0 => Finding::warning(
                CHECK,
                "none yet: nobody can log in",
                "start `tenantry serve`, which makes them",
            ),
            keys => Finding::well(CHECK, format!("{keys} published")),
        },
    }
}

async fn operator_keys(ops: &Ops) -> Finding {
    const CHECK: &str = "operator keys";
    let keys = match ops.list_operator_keys(&authority()).await {
        Ok(keys) => keys,
        Err(error) => return Finding::failed(CHECK, error),
    };
    let now = Utc::now();
    let valid = keys
        .iter()
        .filter(|key| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now))
        .count();
    match valid {
        0 => Finding::warning(
            CHECK,
            "none: nobody can operate over HTTP",
            "make one with `tenantry token create NAME`",
        ),
        valid => Finding::well(CHECK, format!("{valid} valid")),
    }
}

async fn audit(ops: &Ops) -> Finding {
    const CHECK: &str = "audit log";
    match ops.first_broken_audit_entry(&authority()).await {
        Ok(None) => Finding::well(CHECK, "its chain is whole"),
        Ok(Some(entry)) => Finding::wrong(
            CHECK,
            format!("entry {entry} does not fit the one before: the log was changed by hand"),
            "compare with a backup of the catalog; find out who had access to it",
        ),
        Err(error) => Finding::failed(CHECK, error),
    }
}
