//! A tenant database with its roles, a scratch database, and short acts on them.

use std::time::Duration;

use tenantry_core::{InstallationId, TenantDatabaseId, TenantId};
use tenantry_engine::{
    Roles,
    admin::ServerAdmin,
    bootstrap::{self, DatabaseRequest},
    isolate::{DeriveError, Derived, derive},
    migrate::{Applied, ApplyError, ByAdministrator, Files, Patience, Refusal, Target, apply},
    structure::{self, Finish},
};
use tenantry_sql::Identifier;
use tenantry_testing::{TestDatabase, database, installation_id};
use tokio_postgres::Client;
use uuid::Uuid;

pub(crate) struct World {
    /// Dropped with the test.
    pub(crate) database: TestDatabase,
    pub(crate) admin: Client,
    owner: Identifier,
    application: Identifier,
    mover: Identifier,
}

pub(crate) fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn files(files: &[(&str, &str)]) -> Files {
    Files::from_embedded(files.iter().copied()).expect("names and headers are right")
}

/// Derives in a scratch database of its own.
pub(crate) async fn derived(files: &Files) -> Result<Derived, DeriveError> {
    derived_in(database().await, files).await
}

pub(crate) async fn derived_in(scratch: TestDatabase, files: &Files) -> Result<Derived, DeriveError> {
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
    match derived {
        Ok(mut derived) if tenantry_testing::finished() => {
            match finish_in(scratch, &derived).await {
                Finish::Written(finished) => derived.finished = Some(finished),
                Finish::Replay(reason) => eprintln!("REPLAY: {reason}"),
            }
            Ok(derived)
        }
        other => other,
    }
}

/// Writes all versions as one script, in a scratch database of their own.
pub(crate) async fn finish(derived: &Derived) -> Finish {
    finish_in(database().await, derived).await
}

pub(crate) async fn finish_in(scratch: TestDatabase, derived: &Derived) -> Finish {
    let server = ServerAdmin::new(scratch.config()).expect("needs no TLS");
    let installation: InstallationId = installation_id().parse().expect("is an id");
    bootstrap::server(&server, &installation, None)
        .await
        .expect("bootstraps the server");
    let client = scratch.connect().await;
    match structure::finish(&client, &installation, derived).await {
        Ok(finish) => finish,
        Err(error) => panic!("{error:?}\n{error}"),
    }
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
        Self::of(database).await
    }

    /// Bootstrapped as in service; only the context is the administrator's, so that tests need no tokens.
    pub(crate) async fn of(database: TestDatabase) -> Self {
        let server = ServerAdmin::new(database.config()).expect("needs no TLS");
        Self::by(database, &server).await
    }

    /// Bootstrapped by this administrator.
    pub(crate) async fn by(database: TestDatabase, server: &ServerAdmin) -> Self {
        let installation: InstallationId = installation_id().parse().expect("is an id");
        let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
        bootstrap::server(server, &installation, None)
            .await
            .expect("bootstraps the server");
        let request = DatabaseRequest {
            installation: &installation,
            database: id,
            name: database.name(),
            credentials: None,
            force_signed: false,
        };
        bootstrap::database(server, &request)
            .await
            .expect("bootstraps the database");
        if tenantry_testing::hardened() {
            let superuser = ServerAdmin::new(database.config()).expect("needs no TLS");
            let hardened = bootstrap::harden(&superuser, &installation, database.name(), &[]).await;
            assert!(hardened.expect("hardens").is_whole());
        }
        let roles = Roles::of(&installation);
        let admin = database.connect().await;
        Self {
            database,
            admin,
            owner: roles.owner,
            application: Roles::app(&installation, id),
            mover: roles.mover,
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
        self.apply_patiently(client, derived, &[], &patience).await
    }

    pub(crate) async fn apply_patiently(
        &self,
        client: &Client,
        derived: &Derived,
        tenants: &[TenantId],
        patience: &Patience,
    ) -> Result<Applied, ApplyError> {
        apply(
            client,
            &self.target("app"),
            derived,
            tenants,
            &ByAdministrator,
            patience,
        )
        .await
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
        apply(
            &self.admin,
            &target,
            derived,
            tenants,
            &ByAdministrator,
            &Patience::default(),
        )
        .await
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
        let outcome = self
            .admin
            .batch_execute(&format!("{} {sql}; commit", self.enter(schema, tenant)))
            .await;
        self.run("rollback").await;
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
        self.run(&self.enter(schema, tenant)).await;
        let answer = self.admin.query_one(statement, &[]).await;
        self.run("rollback").await;
        answer
            .unwrap_or_else(|error| panic!("{error:?}\n{statement}"))
            .get::<_, Option<String>>(0)
            .unwrap_or_default()
    }

    fn enter(&self, schema: &str, tenant: TenantId) -> String {
        format!(
            "begin; select tenantry_private.act_for('{}'); set local search_path = {schema}, tenantry_ext; set local role {};",
            tenant.as_uuid(),
            self.application
        )
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
