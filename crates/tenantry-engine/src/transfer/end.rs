//! One end of a transfer.

use tenantry_core::{InstallationId, TenantId};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::Client;

use super::tables::TENANT;
use crate::{
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// Values as text that mean the same on every server, whatever its settings; and nothing that row security would leave out.
pub(super) const FORMATS: &str = "set local datestyle = 'iso, ymd'; set local intervalstyle = 'postgres'; set local timezone = 'UTC';
 set local extra_float_digits = 1; set local bytea_output = 'hex'; set local lc_monetary = 'C'; set local xmlbinary = 'base64';
 set local row_security = off; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0;";

/// A home that rows are read from or written to.
///
/// The connection is an administrator's who may act as the mover ([`may_transfer`]), in no transaction and used by nobody else
/// meanwhile. Where something fails, drop it: a transaction may be open on it.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// To the home's database.
    pub client: &'a Client,
    /// The schema with the application's tables.
    pub schema: &'a Identifier,
    /// The installation's role that moves tenants.
    pub mover: &'a Identifier,
}

impl End<'_> {
    /// Begins a transaction that reads, all of it as of one moment: of a snapshot that another session exported, or of now.
    pub(super) async fn begin_reading(&self, snapshot: Option<&str>) -> Result<(), SqlError> {
        let snapshot = match snapshot {
            None => String::new(),
            Some(name) => format!(
                "set transaction snapshot {};",
                Literal::new(name).expect("a snapshot's name holds no zero byte")
            ),
        };
        let begin = format!(
            "begin isolation level repeatable read read only; {snapshot} set local role {}; {FORMATS} {}",
            self.mover,
            self.look_in()
        );
        self.client
            .batch_execute(&begin)
            .await
            .doing("begin to read the tenant's rows")
    }

    /// Begins a transaction that writes. No trigger runs in it, and no foreign key is checked: the rows were checked where they
    /// come from.
    pub(super) async fn begin_writing(&self) -> Result<(), SqlError> {
        let begin = format!(
            "begin; set local lock_timeout = '10s'; set local role {}; set local session_replication_role = replica; {FORMATS} {}",
            self.mover,
            self.look_in()
        );
        self.client
            .batch_execute(&begin)
            .await
            .doing("begin to write the tenant's rows")
    }

    /// Names of types and objects are the home's own.
    pub(super) fn look_in(&self) -> String {
        format!("set local search_path = {}, tenantry_ext", self.schema)
    }

    pub(super) async fn commit(&self) -> Result<(), SqlError> {
        self.client
            .batch_execute("commit")
            .await
            .doing("commit the tenant's rows")
    }

    /// Where this fails the connection is gone, and the transaction with it.
    pub(super) async fn roll_back(&self) {
        let _ = self.client.batch_execute("rollback").await;
    }
}

/// The tenant's rows, as a condition.
pub(super) fn of(tenant: TenantId) -> String {
    format!("{TENANT} = '{}'", tenant.as_uuid())
}

/// Whether the connected administrator may transfer tenants in this database: act as the mover, do so without triggers, and read
/// what Tenantry keeps of a tenant beside its tables. A superuser may.
///
/// # Errors
///
/// Where the system catalogs can't be read.
pub async fn may_transfer(client: &Client, installation: &InstallationId) -> Result<bool, SqlError> {
    let mover = Roles::of(installation).mover;
    let row = client
        .query_one(
            "select coalesce((select r.rolbypassrls and pg_catalog.pg_has_role(r.oid, 'member')
                            and pg_catalog.has_parameter_privilege(r.oid, 'session_replication_role', 'set')
                       from pg_catalog.pg_roles r where r.rolname = $1), false)
                and pg_catalog.current_setting('is_superuser') = 'on'",
            &[&mover.as_str()],
        )
        .await
        .doing("read the mover's rights")?;
    Ok(row.get(0))
}
