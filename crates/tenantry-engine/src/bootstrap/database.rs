//! What a tenant database needs.

mod grants;
mod identity;
mod keys;

use secrecy::SecretString;
use tenantry_core::{InstallationId, TenantDatabaseId, Tier, seal::Key};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::{Client, Transaction};

pub use self::identity::Incarnation;
use super::{BootstrapError, VERSION, lock, server, session, session::Standing};
use crate::{admin::ServerAdmin, check, password, roles::Roles, seal, sql_error::Doing};

/// The version from which on the carrier holds the tenant before the seal (ADR 0032).
const CARRIER_SINCE: i32 = 7;

/// A database to make ready.
#[derive(Clone, Debug)]
pub struct DatabaseRequest<'a> {
    /// Whose it is.
    pub installation: &'a InstallationId,
    /// Its id, which names its application role.
    pub database: TenantDatabaseId,
    /// Its name on the server.
    pub name: &'a str,
    /// What the catalog holds for it, which is kept. `None` starts over: a new password, and one new key in the place of
    /// all others, so that whoever holds the old ones is out.
    pub credentials: Option<Credentials>,
    /// Asks for the signed tier where the server would allow the sealed one.
    pub force_signed: bool,
}

/// What opens a tenant database to the application.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The application role's password.
    pub app_password: SecretString,
    /// The key that tokens are signed with.
    pub key: Key,
}

/// A database that is ready.
#[derive(Clone, Debug)]
pub struct Bootstrapped {
    /// How it proves a context.
    pub tier: Tier,
    /// The role that applications log in as.
    pub app_role: String,
    /// Its password.
    pub app_password: SecretString,
    /// The key that tokens are signed with. Another one than asked for where the database turned out to be a copy.
    pub key: Key,
    /// The cluster's system identifier.
    pub system_identifier: i64,
    /// The database's oid.
    pub database_oid: u32,
    /// What it is bootstrapped to: [`VERSION`].
    pub version: i32,
    /// It was a restored or cloned database and got a new key, whatever was asked for.
    pub was_copy: bool,
}

/// Makes a database ready: schemas, the seal, the fence, the ledger, the application role and its rights; then refuses it
/// if the application role could bypass row security. The server must be ready ([`super::server`]).
///
/// # Errors
///
/// Where the database is another installation's, was made by a newer Tenantry, or the administrator may not do it.
///
/// # Cancel safety
///
/// All of it is one transaction: dropped, nothing is changed.
pub async fn database(admin: &ServerAdmin, request: &DatabaseRequest<'_>) -> Result<Bootstrapped, BootstrapError> {
    lock::again_on_collision(|| attempt(admin, request)).await
}

/// What the steps of one bootstrap share.
struct Work<'a> {
    request: &'a DatabaseRequest<'a>,
    standing: Standing,
    roles: Roles,
    app: Identifier,
    tier: Tier,
}

async fn attempt(admin: &ServerAdmin, request: &DatabaseRequest<'_>) -> Result<Bootstrapped, BootstrapError> {
    let mut client = admin.connect(request.name).await?;
    let standing = Standing::read(&client).await?;
    // Memberships are the server's. A superuser needs none, and does not have to wait.
    let mut maintenance;
    let _server_lock = if standing.superuser {
        None
    } else {
        maintenance = admin.connect_maintenance().await?;
        Some(hold_server_lock(&mut maintenance).await?)
    };
    let transaction = client.transaction().await.doing("begin")?;
    let done = prepare(&transaction, request, standing).await;
    let (work, bootstrapped, unreadable) = session::end(transaction, done).await?;
    if unreadable {
        let transaction = client.transaction().await.doing("begin")?;
        let done = work.end_unreadable(&transaction).await;
        session::end(transaction, done).await?;
    }
    Ok(bootstrapped)
}

/// Also tells whether there may be sessions whose bindings the new functions can't read.
async fn prepare<'a>(
    transaction: &Transaction<'_>,
    request: &'a DatabaseRequest<'a>,
    standing: Standing,
) -> Result<(Work<'a>, Bootstrapped, bool), BootstrapError> {
    session::pin_search_path(transaction).await?;
    lock::database(transaction).await?;
    let roles = Roles::of(request.installation);
    if !session::role_exists(transaction, roles.seal.as_str()).await? {
        return Err(BootstrapError::ServerNotReady(roles.seal.as_str().to_owned()));
    }
    let tier = match request.force_signed {
        false if server::has_carrier(transaction, &roles.seal).await? => Tier::Sealed,
        _ => Tier::Signed,
    };
    let app = Roles::app(request.installation, request.database);
    let work = Work {
        request,
        standing,
        roles,
        app,
        tier,
    };
    let (bootstrapped, unreadable) = work.run(transaction).await?;
    check::application_role(transaction, work.app.as_str())
        .await?
        .accept()?;
    Ok((work, bootstrapped, unreadable))
}

async fn hold_server_lock(client: &mut Client) -> Result<Transaction<'_>, BootstrapError> {
    let transaction = client.transaction().await.doing("begin")?;
    lock::server(&transaction).await?;
    Ok(transaction)
}

impl Work<'_> {
    async fn run(&self, transaction: &Transaction<'_>) -> Result<(Bootstrapped, bool), BootstrapError> {
        self.become_seal_member(transaction).await?;
        self.close_to_public(transaction).await?;
        self.ensure_schemas(transaction).await?;
        let app_password = self.ensure_app_role(transaction).await?;

        self.act_as_seal(transaction).await?;
        let before = identity::read(self, transaction).await?;
        transaction
            .batch_execute(&seal::statements(self.tier))
            .await
            .doing("make the seal and the fence")?;
        let here = Incarnation::read(transaction).await?;
        let was_copy = before.as_ref().is_some_and(|before| before.incarnation != here);
        if let Some(before) = &before {
            self.leave_the_original_behind(transaction, before).await?;
        }
        let older = before
            .as_ref()
            .map(|before| before.version)
            .filter(|version| *version < CARRIER_SINCE && self.tier == Tier::Sealed);
        // Not this version before such sessions are ended: who is killed in between does it again.
        identity::write(self, transaction, here, older.unwrap_or(VERSION)).await?;
        let key = keys::settle(self, transaction, was_copy).await?;
        // The list of fenced tenants and the tier may have changed.
        transaction
            .batch_execute("select tenantry_private.compile_fence()")
            .await
            .doing("compile the fence")?;
        self.grant_functions(transaction).await?;
        transaction
            .batch_execute("reset role")
            .await
            .doing("act as the administrator again")?;

        self.grant_application(transaction).await?;
        self.leave_seal(transaction).await?;
        let bootstrapped = Bootstrapped {
            tier: self.tier,
            app_role: self.app.as_str().to_owned(),
            app_password,
            key,
            system_identifier: here.system_identifier,
            database_oid: here.database_oid,
            version: VERSION,
            was_copy,
        };
        Ok((bootstrapped, older.is_some()))
    }

    /// Ends the application's sessions, which may hold a carrier that the functions read otherwise now, and would be refused
    /// until they end. Begun after the functions were committed: who comes from then on is bound as they expect.
    async fn end_unreadable(&self, transaction: &Transaction<'_>) -> Result<(), BootstrapError> {
        session::pin_search_path(transaction).await?;
        lock::database(transaction).await?;
        self.become_seal_member(transaction).await?;
        self.act_as_seal(transaction).await?;
        transaction
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = $1::text::name",
                &[&self.app.as_str()],
            )
            .await
            .doing("end the application's sessions of before")?;
        transaction
            .execute("update tenantry_private.tenant_database set version = $1", &[&VERSION])
            .await
            .doing("write which version this is")?;
        transaction
            .batch_execute("reset role")
            .await
            .doing("act as the administrator again")?;
        self.leave_seal(transaction).await
    }

    /// For this transaction only: afterwards nobody is a member of the mechanism's owner.
    async fn become_seal_member(&self, transaction: &Transaction<'_>) -> Result<(), BootstrapError> {
        if self.standing.superuser {
            return Ok(());
        }
        let (seal, options) = (&self.roles.seal, self.standing.membership_options());
        transaction
            .batch_execute(&format!("grant {seal} to current_user{options}"))
            .await
            .doing("act as the mechanism's owner")?;
        Ok(())
    }

    async fn leave_seal(&self, transaction: &Transaction<'_>) -> Result<(), BootstrapError> {
        if self.standing.superuser {
            return Ok(());
        }
        let seal = &self.roles.seal;
        transaction
            .batch_execute(&format!("revoke {seal} from current_user"))
            .await
            .doing("stop acting as the mechanism's owner")?;
        Ok(())
    }

    async fn act_as_seal(&self, transaction: &Transaction<'_>) -> Result<(), BootstrapError> {
        let seal = &self.roles.seal;
        transaction
            .batch_execute(&format!("set local role {seal}"))
            .await
            .doing("act as the mechanism's owner")?;
        Ok(())
    }

    async fn ensure_schemas(&self, transaction: &Transaction<'_>) -> Result<(), BootstrapError> {
        let Roles { seal, owner, .. } = &self.roles;
        for (schema, role) in [("tenantry", seal), ("tenantry_private", seal), ("app", owner)] {
            self.ensure_schema(transaction, schema, Some(role)).await?;
        }
        // The administrator's: extensions are installed by it.
        self.ensure_schema(transaction, "tenantry_ext", None).await
    }

    async fn ensure_schema(
        &self,
        transaction: &Transaction<'_>,
        schema: &'static str,
        owner: Option<&Identifier>,
    ) -> Result<(), BootstrapError> {
        let found = transaction
            .query_opt(
                "select pg_get_userbyid(nspowner)::text, obj_description(oid, 'pg_namespace') from pg_namespace where nspname = $1",
                &[&schema],
            )
            .await
            .doing("look for a schema")?;
        let mark = Roles::mark(self.request.installation);
        let Some(found) = found else {
            let authorization = owner.map(|owner| format!(" authorization {owner}")).unwrap_or_default();
            let mark = Literal::new(mark).expect("a mark holds no zero byte");
            transaction
                .batch_execute(&format!(
                    "create schema {schema}{authorization}; comment on schema {schema} is {mark}"
                ))
                .await
                .doing("make a schema")?;
            return Ok(());
        };
        let (found_owner, found_mark): (String, Option<String>) = (found.get(0), found.get(1));
        if owner.is_some_and(|owner| owner.as_str() != found_owner) || found_mark.as_deref() != Some(&mark) {
            return Err(match found_mark.as_deref().and_then(Roles::installation_of_mark) {
                Some(other) => BootstrapError::AnotherInstallation {
                    database: self.request.name.to_owned(),
                    owner: other.to_owned(),
                },
                None => BootstrapError::SchemaTaken {
                    database: self.request.name.to_owned(),
                    schema,
                },
            });
        }
        Ok(())
    }

    async fn ensure_app_role(&self, transaction: &Transaction<'_>) -> Result<SecretString, BootstrapError> {
        let Work {
            app, roles, request, ..
        } = self;
        server::ensure_role(transaction, &self.standing, request.installation, app, "login").await?;
        let password = match &request.credentials {
            Some(credentials) => credentials.app_password.clone(),
            None => password::generate(),
        };
        let verifier = Literal::new(password::verifier(&password)).expect("base64 holds no zero byte");
        // The role may change its own settings, so whoever injected SQL may have left some.
        transaction
            .batch_execute(&format!(
                "alter role {app} login password {verifier};
                 alter role {app} reset all;
                 alter role {app} in database {database} reset all;
                 alter role {app} in database {database} set search_path = app, tenantry_ext",
                database = Identifier::new(request.name)?
            ))
            .await
            .doing("set the application role's password")?;
        // So that the fence sees when its sessions began and can end them.
        let seal = &roles.seal;
        let row = transaction
            .query_one("select pg_has_role($1, $2, 'usage')", &[&seal.as_str(), &app.as_str()])
            .await
            .doing("read memberships")?;
        if !row.get::<_, bool>(0) {
            let options = if self.standing.version >= 160_000 {
                " with inherit true, set false"
            } else {
                ""
            };
            transaction
                .batch_execute(&format!("grant {app} to {seal}{options}"))
                .await
                .doing("let the fence see the application role's sessions")?;
        }
        Ok(password)
    }
}
