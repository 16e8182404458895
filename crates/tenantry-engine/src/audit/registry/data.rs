//! Rows, placements and schemas of tenants.

use super::super::check::{Check, Severity};

/// The checks of this family.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "MT100",
        name: "orphan_tenant_rows",
        severity: Severity::Error,
        title: "Rows of a tenant that is not there",
        why: "They belong to a deleted or never made tenant, and to whoever gets that id.",
        mend: "delete from T where tenant_id = …",
        notes: "Looked at with --data only.",
    },
    Check {
        id: "MT101",
        name: "cross_tenant_parent",
        severity: Severity::Error,
        title: "Rows that refer to another tenant's row",
        why: "The tenants are mixed already.",
        mend: "mend the rows, then make the foreign key hold the tenant",
        notes: "Looked at with --data only.",
    },
    Check {
        id: "MT102",
        name: "placement_mismatch",
        severity: Severity::Error,
        title: "The catalog and the tenant database disagree",
        why: "A tenant is looked for where it is not, or left where nobody looks.",
        mend: "see the finding",
        notes: "In databases of ours.",
    },
    Check {
        id: "MT103",
        name: "schema_drift",
        severity: Severity::Warn,
        title: "A tenant's schema differs from the others",
        why: "Migrations and moves that work for the others fail there.",
        mend: "tenantry migrate status",
        notes: "Among schemas of tenants, in databases of ours and with --tenant-schemas.",
    },
    Check {
        id: "MT104",
        name: "tenant_role_other_schema",
        severity: Severity::Error,
        title: "A tenant's role may use another tenant's schema",
        why: "It reads what no policy guards.",
        mend: "revoke usage on schema S from R",
        notes: "With --tenant-schemas and several application roles.",
    },
];
