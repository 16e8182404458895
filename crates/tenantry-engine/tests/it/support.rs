//! A tenant database with its roles, a scratch database, and short acts on them.

use std::time::Duration;

use tenantry_core::TenantId;
use tenantry_engine::{
    isolate::{DeriveError, Derived, derive},
    migrate::{Applied, ApplyError, Files, Patience, Refusal, Target, TenantContext, apply},
};
use tenantry_sql::Identifier;
use tenantry_testing::{TestDatabase, database, installation_id};
use tokio_postgres::Client;
use uuid::Uuid;

/// A tenant database whose context is a plain setting: what is tested here is the shape of the tables, not the seal.
const CONTEXT: &str = "
create schema tenantry;
create schema tenantry_private;
create schema tenantry_ext;
create function tenantry.tenant_id() returns uuid language sql stable parallel safe
  begin atomic select nullif(current_setting('test.tenant', true), '')::uuid; end;
create function tenantry.account_id() returns uuid language sql stable begin atomic select null::uuid; end;
create function tenantry.has_role(text) returns boolean language sql stable begin atomic select true; end;
create function tenantry.may_write() returns boolean language sql stable parallel safe
  begin atomic select coalesce(current_setting('test.viewer', true), '') = ''; end;
grant usage on schema tenantry, tenantry_ext to public;
revoke create on schema public from public;
";

pub(crate) struct World {
    /// Dropped with the test.
    database: TestDatabase,
    pub(crate) admin: Client,
    owner: Identifier,
    application: Identifier,
    mover: Identifier,
}

pub(crate) struct Setting;

impl TenantContext for Setting {
    fn enter(&self, tenant: TenantId, _backend_pid: i32) -> String {
        format!("set local test.tenant = '{}'", tenant.as_uuid())
    }
}

pub(crate) fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn files(files: &[(&str, &str)]) -> Files {
    Files::from_embedded(files.iter().copied()).expect("names and headers are right")
}

/// Derives in a scratch database of its own.
pub(crate) async fn derived(files: &Files) -> Result<Derived, DeriveError> {
    let scratch = database().await;
    let client = scratch.connect().await;
    let owner = format!("tn_{}_owner", installation_id());
    client
        .batch_execute(&format!("create role {owner}"))
        .await
        .expect("makes the owner");
    let derived = derive(&client, &owner, files).await;
    client
        .batch_execute(&format!("drop owned by {owner} cascade; drop role {owner}"))
        .await
        .expect("drops the owner");
    derived
}

pub(crate) async fn steps(sql: &str) -> Derived {
    match derived(&files(&[("0001_test.sql", sql)])).await {
        Ok(derived) => derived,
        Err(error) => panic!("{error:?}\n{error}"),
    }
}

/// What is refused in one file.
pub(crate) async fn refused(sql: &str) -> Vec<Refusal> {
    match derived(&files(&[("0001_test.sql", sql)])).await {
        Err(DeriveError::Refused(refusals)) => refusals,
        other => panic!("not refused: {other:?}"),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = database().await;
        let admin = database.connect().await;
        let id = installation_id();
        let role = |what: &str| Identifier::new(format!("tn_{id}_{what}")).expect("is a name");
        let (owner, application, mover) = (role("owner"), role("app"), role("mover"));
        admin.batch_execute(CONTEXT).await.expect("makes the context");
        admin
            .batch_execute(&format!(
                "create role {owner}; create role {application} login password 'x'; create role {mover} bypassrls;
                 create schema app authorization {owner}; grant usage on schema app to {application}, {mover}"
            ))
            .await
            .expect("makes the roles");
        Self {
            database,
            admin,
            owner,
            application,
            mover,
        }
    }

    pub(crate) fn target(&self, schema: &str) -> Target {
        Target {
            schema: Identifier::new(schema).expect("is a name"),
            owner: self.owner.clone(),
            application: self.application.clone(),
            mover: self.mover.clone(),
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        self.database.connect().await
    }

    pub(crate) async fn apply_on(&self, client: &Client, derived: &Derived) -> Result<Applied, ApplyError> {
        let patience = Patience {
            lock_timeout: Duration::from_millis(200),
            lock_attempts: 100,
            ..Patience::default()
        };
        apply(client, &self.target("app"), derived, &[], &Setting, &patience).await
    }

    pub(crate) async fn make_schema(&self, schema: &str) {
        self.run(&format!(
            "create schema {schema} authorization {}; grant usage on schema {schema} to {}, {}",
            self.owner, self.application, self.mover
        ))
        .await;
    }

    pub(crate) async fn apply(&self, derived: &Derived) -> Result<Applied, ApplyError> {
        self.apply_for(derived, &[]).await
    }

    pub(crate) async fn apply_for(&self, derived: &Derived, tenants: &[TenantId]) -> Result<Applied, ApplyError> {
        self.apply_to("app", derived, tenants).await
    }

    pub(crate) async fn apply_to(
        &self,
        schema: &str,
        derived: &Derived,
        tenants: &[TenantId],
    ) -> Result<Applied, ApplyError> {
        let target = self.target(schema);
        apply(&self.admin, &target, derived, tenants, &Setting, &Patience::default()).await
    }

    /// Derives and applies to the shared schema.
    pub(crate) async fn migrate(&self, sql: &[(&str, &str)]) -> Derived {
        let derived = match derived(&files(sql)).await {
            Ok(derived) => derived,
            Err(error) => panic!("{error}"),
        };
        if let Err(error) = self.apply(&derived).await {
            panic!("{error}\n{derived:#?}");
        }
        derived
    }

    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.admin.batch_execute(sql).await {
            panic!("{:?}\n{sql}", error.as_db_error());
        }
    }

    /// Runs SQL as the application in a tenant's context; the SQLSTATE where it fails.
    pub(crate) async fn as_tenant(&self, tenant: TenantId, sql: &str) -> Result<(), String> {
        self.as_tenant_in("app", tenant, sql).await
    }

    pub(crate) async fn as_tenant_in(&self, schema: &str, tenant: TenantId, sql: &str) -> Result<(), String> {
        let text = format!(
            "set search_path = {schema}, tenantry_ext; set test.tenant = '{}'; set role {}; {sql}",
            tenant.as_uuid(),
            self.application
        );
        let outcome = self.admin.batch_execute(&text).await;
        self.run("reset all; reset role").await;
        outcome.map_err(|error| match error.as_db_error() {
            Some(error) => format!("{} {}", error.code().code(), error.message()),
            None => error.to_string(),
        })
    }

    /// One value as the application in a tenant's context.
    pub(crate) async fn ask(&self, tenant: TenantId, sql: &str) -> String {
        self.ask_in("app", tenant, sql).await
    }

    pub(crate) async fn ask_in(&self, schema: &str, tenant: TenantId, sql: &str) -> String {
        self.value_in(schema, tenant, &format!("select ({sql})::text")).await
    }

    /// The text that a whole statement gives, as the application in a tenant's context.
    pub(crate) async fn value_in(&self, schema: &str, tenant: TenantId, statement: &str) -> String {
        self.run(&format!(
            "set search_path = {schema}, tenantry_ext; set test.tenant = '{}'; set role {}",
            tenant.as_uuid(),
            self.application
        ))
        .await;
        let answer = self.admin.query_one(statement, &[]).await;
        self.run("reset all; reset role").await;
        answer
            .unwrap_or_else(|error| panic!("{error:?}\n{statement}"))
            .get::<_, Option<String>>(0)
            .unwrap_or_default()
    }

    /// One value as administrator, over all tenants.
    pub(crate) async fn all(&self, sql: &str) -> String {
        let row = self.admin.query_one(&format!("select ({sql})::text"), &[]).await;
        row.unwrap_or_else(|error| panic!("{error:?}\n{sql}"))
            .get::<_, Option<String>>(0)
            .unwrap_or_default()
    }

    /// The definition of a constraint in the shared schema.
    pub(crate) async fn constraint(&self, name: &str) -> String {
        self.all(&format!(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = '{name}' and connamespace = 'app'::regnamespace"
        ))
        .await
    }

    /// The definition of an index in the shared schema.
    pub(crate) async fn index(&self, name: &str) -> String {
        self.all(&format!(
            "select indexdef from pg_indexes where schemaname = 'app' and indexname = '{name}'"
        ))
        .await
    }
}
