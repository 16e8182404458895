//! Where an operation works: a tenant database, reached as its server's administrator.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use secrecy::ExposeSecret as _;
use tenantry_catalog::{
    directory, fleet_state,
    placement::{self, Located},
    server::{self, Administration},
    tenant_database::{self, Secrets, TenantDatabase},
};
use tenantry_core::{InstallationId, Isolation, ServerId, TenantDatabaseId, TenantId};
use tenantry_engine::{
    admin::ServerAdmin,
    bootstrap::{self, Credentials, DatabaseRequest},
    home,
    isolate::Derived,
    migrate::{self, AppliedVersion, ByAdministrator, Replayed},
    turn,
};
use tokio_postgres::Client;

use super::{Failure, Journal, failure::NEWER_FILES};
use crate::{
    Authority, MigrationError, Ops,
    at_hand::Connected,
    failpoint,
    migrations::{ledger_rows, note_overlay},
    upgrade,
};

/// How long a runner that was overtaken may hold on to the server before its session is ended.
pub(super) const TURN: Duration = Duration::from_secs(3);

/// Where an operation works.
pub(super) struct Site<'a> {
    pub(super) ops: &'a Ops,
    pub(super) journal: &'a Journal,
    pub(super) admin: ServerAdmin,
    pub(super) administration: Administration,
    pub(super) database: TenantDatabase,
    pub(super) secrets: Secrets,
}

/// Reaches a server as its administrator.
pub(crate) async fn administer(ops: &Ops, id: ServerId) -> Result<(ServerAdmin, Administration), Failure> {
    let client = ops.catalog().client().await?;
    let administration = server::administration(ops.catalog(), &client, id).await?;
    Ok((administrator(&administration)?, administration))
}

fn administrator(administration: &Administration) -> Result<ServerAdmin, Failure> {
    ServerAdmin::from_url(administration.admin_url.expose_secret())
        .map_err(|error| Failure::retry("server_address", error.to_string()))
}

impl<'a> Site<'a> {
    /// Where the operation's tenant lives or shall live.
    pub(super) async fn of_tenant(ops: &'a Ops, journal: &'a Journal) -> Result<(Self, Located), Failure> {
        let (located, admin, administration) = match journal.take_home() {
            Some((located, administration)) => (located, administrator(&administration)?, administration),
            None => {
                let client = ops.catalog().client().await?;
                let located = placement::locate(ops.catalog(), &client, journal.tenant()?).await?;
                let located =
                    located.ok_or_else(|| Failure::permanent("no_placement", "the tenant has no placement"))?;
                drop(client);
                let (admin, administration) = administer(ops, located.database.server).await?;
                (located, admin, administration)
            }
        };
        let (database, secrets) = (located.database.clone(), located.secrets.clone());
        Ok((
            Self {
                ops,
                journal,
                admin,
                administration,
                database,
                secrets,
            },
            located,
        ))
    }

    /// A tenant database by its id.
    pub(super) async fn of_database(ops: &'a Ops, journal: &'a Journal, id: TenantDatabaseId) -> Result<Self, Failure> {
        let client = ops.catalog().client().await?;
        let database = tenant_database::find(&client, id).await?;
        let database = database.ok_or_else(|| Failure::permanent("no_database", "the tenant database is not known"))?;
        let secrets = tenant_database::secrets(ops.catalog(), &client, id).await?;
        drop(client);
        let (admin, administration) = administer(ops, database.server).await?;
        Ok(Self {
            ops,
            journal,
            admin,
            administration,
            database,
            secrets,
        })
    }

    pub(super) fn installation(&self) -> &'a InstallationId {
        self.ops.catalog().installation()
    }

    /// Connects to the tenant database.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        Ok(self.admin.connect(&self.database.name).await?)
    }

    /// The same over a connection that is at hand, if there is one.
    pub(super) async fn connect_again(&self) -> Result<Connected, Failure> {
        let (server, name) = (self.database.server, &self.database.name);
        Ok(self.ops.at_hand().connect(&self.admin, server, name).await?)
    }

    /// Takes the operation's turn on this connection for a step, which is noted under it.
    pub(super) async fn take_turn_for(&self, client: &Client, step: &str) -> Result<(), Failure> {
        turn::take(client, self.journal.lock_key(), TURN).await?;
        self.journal.note(step).await?;
        failpoint::pass(&format!("{}.in_turn", self.journal.operation.kind)).await
    }

    /// Takes the operation's turn on this connection, and makes sure under it that nobody has taken over.
    pub(super) async fn take_turn(&self, client: &Client) -> Result<(), Failure> {
        turn::take(client, self.journal.lock_key(), TURN).await?;
        self.journal.check().await?;
        failpoint::pass(&format!("{}.in_turn", self.journal.operation.kind)).await
    }

    /// Makes the database, unless it is there; its owner is the mark that we made it.
    pub(super) async fn make_database(&self) -> Result<(), Failure> {
        let keeper = self.admin.connect_maintenance().await?;
        self.take_turn(&keeper).await?;
        home::create_database(&self.admin, self.installation(), &self.database.name).await?;
        Ok(())
    }

    /// Makes the database ready for tenants, and records what was found.
    pub(super) async fn bootstrap(&mut self) -> Result<(), Failure> {
        let keeper = self.admin.connect_maintenance().await?;
        self.take_turn(&keeper).await?;
        let installation = self.installation().clone();
        let Some(key) = self.secrets.keys.first().cloned() else {
            return Err(Failure::permanent(
                "no_key",
                "the tenant database has no key in the catalog",
            ));
        };
        let mover_password = Some(&self.administration.mover_password);
        bootstrap::server(&self.admin, &installation, mover_password).await?;
        let request = DatabaseRequest {
            installation: &installation,
            database: self.database.id,
            name: &self.database.name,
            credentials: Some(Credentials {
                app_password: self.secrets.app_password.clone(),
                key,
            }),
            force_signed: self.ops.fleet().force_signed,
        };
        let made = bootstrap::database(&self.admin, &request).await?;
        self.harden(&installation).await?;
        let found = tenant_database::Bootstrapped {
            tier: made.tier,
            version: made.version,
            system_identifier: made.system_identifier,
            database_oid: made.database_oid,
        };
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.journal.hold(&transaction).await?;
        // A copy gets another key than the one asked for.
        let keys = [made.key];
        tenant_database::set_keys(self.ops.catalog(), &transaction, self.database.id, &keys).await?;
        tenant_database::set_bootstrapped(&transaction, self.database.id, found).await?;
        transaction.commit().await?;
        self.secrets.keys = keys.to_vec();
        self.database.bootstrap_version = Some(made.version);
        Ok(())
    }

    /// A database that an older Tenantry made ready, or was making, gets what this one's migrations need. One that has had
    /// no bootstrap yet is left to its step.
    pub(super) async fn bring_up_to_date(&mut self) -> Result<(), Failure> {
        if self.database.bootstrap_version.is_none() || upgrade::require_current(&self.database).is_ok() {
            return Ok(());
        }
        let authority = Authority::system("operation");
        upgrade::bring_up_to_date(self.ops, &authority, &self.database).await?;
        let client = self.ops.catalog().client().await?;
        let database = tenant_database::find(&client, self.database.id).await?;
        self.database =
            database.ok_or_else(|| Failure::permanent("no_database", "the tenant database is not known"))?;
        self.secrets = tenant_database::secrets(self.ops.catalog(), &client, self.database.id).await?;
        Ok(())
    }

    /// Takes from PUBLIC what SQL from outside has a use for, where the fleet is to be so. What the administrator may not
    /// take is left: it is told here and by `doctor`, and a tenant is not kept from being made.
    async fn harden(&self, installation: &InstallationId) -> Result<(), Failure> {
        if !self.ops.fleet().hardening.covers(self.database.kind) {
            return Ok(());
        }
        let name = &self.database.name;
        let hardened = bootstrap::harden(&self.admin, installation, name, &[]).await?;
        if !hardened.is_whole() {
            let left = hardened.left_names();
            tracing::warn!(database = %name, left, "a tenant database is not hardened: a superuser has to do it");
        }
        Ok(())
    }

    /// Brings an empty schema to the newest version, and makes sure that it is whole.
    pub(super) async fn migrate(&self, client: &Client, schema: &str) -> Result<(), Failure> {
        let Some(derived) = self.ops.derived().await? else {
            return Ok(());
        };
        let target = target(self.installation(), &self.database, schema)?;
        let patience = &self.ops.fleet().patience;
        // One that is not empty, since this is done again or it was a spare one, says so.
        if migrate::fill(client, &target, &derived, patience).await? == Replayed::NotThisWay {
            migrate::apply(client, &target, &derived, &[], &ByAdministrator, patience)
                .boxed()
                .await?;
        }
        self.keep_whole(client, schema).await
    }

    /// Makes sure that a schema of the newest version is whole, and keeps the catalog's copy of its ledger.
    pub(super) async fn keep_whole(&self, client: &Client, schema: &str) -> Result<(), Failure> {
        let Some(derived) = self.ops.derived().await? else {
            return Ok(());
        };
        // The ledger holds these versions either way.
        tokio::try_join!(
            require_whole(client, schema, &derived),
            record_versions(self.ops, &self.database, schema, &derived)
        )?;
        Ok(())
    }

    /// What the tenant's own files become, where it has some. A tenant in shared tables can't.
    pub(super) async fn own_files(&self, located: &Located) -> Result<Option<Arc<Derived>>, Failure> {
        let files = self.ops.fleet().migrations.as_ref();
        if files.is_none_or(|files| files.overlay_slugs().next().is_none()) {
            return Ok(None);
        }
        let tenant = located.placement.tenant;
        let catalog = self.ops.catalog().client().await?;
        let Some(slug) = directory::tenant(&catalog, tenant).await?.map(|tenant| tenant.slug) else {
            return Ok(None);
        };
        drop(catalog);
        let refused = |error: MigrationError| match error {
            MigrationError::Catalog(error) => error.into(),
            MigrationError::Server(message) => Failure::retry("server_unreachable", message),
            other => Failure::permanent("migration_refused", other.to_string()),
        };
        if !files.is_some_and(|files| files.overlay_slugs().any(|known| known == slug)) {
            return Ok(None);
        }
        if located.placement.isolation == Isolation::Shared {
            return Err(refused(MigrationError::SharedOverlay(slug)));
        }
        self.ops.overlay(&slug, Some(tenant)).boxed().await.map_err(refused)
    }

    /// Brings the tenant's empty schema to the newest version, with the tenant's own files among the fleet's.
    pub(super) async fn make_tables(&self, client: &Client, located: &Located) -> Result<(), Failure> {
        let schema = &located.placement.schema;
        let (Some(derived), Some(own)) = (self.ops.derived().await?, self.own_files(located).await?) else {
            return self.migrate(client, schema).await;
        };
        let target = target(self.installation(), &self.database, schema)?;
        let (own, tenants, patience) = (&*own, [located.placement.tenant], &self.ops.fleet().patience);
        migrate::apply_with_own(
            client,
            &target,
            &derived,
            Some(own),
            &tenants,
            &ByAdministrator,
            patience,
        )
        .boxed()
        .await?;
        record_versions(self.ops, &self.database, schema, &derived).await?;
        note_overlay(self.ops, self.database.id, schema, own).await
    }

    /// Brings an empty schema to the version of what is to be loaded there.
    pub(super) async fn make_tables_until(
        &self,
        client: &Client,
        located: &Located,
        version: i64,
    ) -> Result<(), Failure> {
        let Some(derived) = self.ops.derived().await? else {
            return Ok(());
        };
        let target = target(self.installation(), &self.database, &located.placement.schema)?;
        let mut until = Derived::clone(&derived);
        until.versions.retain(|known| known.version <= version);
        // It is of all versions.
        until.finished = None;
        let patience = &self.ops.fleet().patience;
        // What is done again may be further.
        let applied = migrate::status(client, &target, &derived).await?.applied;
        if applied.iter().any(|applied| applied.version > version) {
            return Ok(());
        }
        migrate::apply(client, &target, &until, &[], &ByAdministrator, patience)
            .boxed()
            .await?;
        record_versions(self.ops, &self.database, &located.placement.schema, &until).await
    }

    /// Brings a schema whose tenant has its rows to the newest version, and makes sure that it is whole.
    pub(super) async fn migrate_loaded(&self, client: &Client, located: &Located) -> Result<(), Failure> {
        let Some(derived) = self.ops.derived().await? else {
            return Ok(());
        };
        let schema = &located.placement.schema;
        let target = target(self.installation(), &self.database, schema)?;
        let (tenants, patience) = ([located.placement.tenant], &self.ops.fleet().patience);
        migrate::apply(client, &target, &derived, &tenants, &ByAdministrator, patience)
            .boxed()
            .await?;
        require_whole(client, schema, &derived).await?;
        record_versions(self.ops, &self.database, schema, &derived).await
    }

    /// The migrations that a schema has.
    pub(super) async fn applied(&self, client: &Client, schema: &str) -> Result<Vec<AppliedVersion>, Failure> {
        let Some(derived) = self.ops.derived().await? else {
            return Ok(Vec::new());
        };
        let target = target(self.installation(), &self.database, schema)?;
        Ok(migrate::status(client, &target, &derived).await?.applied)
    }

    /// Gives a new tenant what it starts with, as far as its schema has the migrations for it.
    pub(super) async fn seed(&self, client: &Client, located: &Located) -> Result<(), Failure> {
        let Some(derived) = self.ops.derived().await? else {
            return Ok(());
        };
        // One of those that this process lacks may be a seed.
        require_files(&derived, located.schema_version)?;
        if !holds_data(&derived) {
            return Ok(());
        }
        let target = target(self.installation(), &self.database, &located.placement.schema)?;
        // Refuses a ledger that these files don't fit.
        migrate::status(client, &target, &derived).await?;
        let (tenant, patience) = (located.placement.tenant, &self.ops.fleet().patience);
        Ok(migrate::seed(client, &target, &derived, tenant, &ByAdministrator, patience).await?)
    }

    /// Whether migrations declare what each new tenant starts with.
    pub(super) async fn has_seeds(&self) -> Result<bool, Failure> {
        let derived = self.ops.derived().await?;
        Ok(derived.is_some_and(|derived| declares_seeds(&derived)))
    }

    /// Gives a new tenant in shared tables what roll-outs have recorded there since it was seeded, and lets none record more before the
    /// connection is closed: whoever activates the tenant until then has it among those that the next one lists. Nothing where no
    /// migration gives tenants data.
    pub(super) async fn arrive(&self, located: &Located, seeding: Option<Client>) -> Result<Option<Client>, Failure> {
        let derived = self.ops.derived().await?;
        if derived.is_none_or(|derived| !holds_data(&derived)) {
            return Ok(None);
        }
        let client = match seeding {
            Some(client) => client,
            None => self.connect().await?,
        };
        // No runner that was overtaken writes rows of a tenant that is being undone.
        self.take_turn(&client).await?;
        let target = target(self.installation(), &self.database, &located.placement.schema)?;
        migrate::arrive(&client, &target, self.ops.fleet().patience.turn_timeout).await?;
        failpoint::pass("provision.arriving").await?;
        self.seed(&client, located).await?;
        Ok(Some(client))
    }
}

impl Journal {
    /// The tenant of an operation that has one.
    pub(super) fn tenant(&self) -> Result<TenantId, Failure> {
        self.operation
            .tenant
            .ok_or_else(|| Failure::permanent("no_tenant", "the operation names no tenant"))
    }
}

/// Whether some of the migrations give tenants data, and so have to be kept with each tenant.
fn holds_data(derived: &Derived) -> bool {
    let modes = [migrate::Mode::Seed, migrate::Mode::EachTenant];
    derived.versions.iter().any(|version| modes.contains(&version.mode))
}

/// Whether some of the migrations say what each new tenant starts with.
pub(super) fn declares_seeds(derived: &Derived) -> bool {
    derived
        .versions
        .iter()
        .any(|version| version.mode == migrate::Mode::Seed)
}

/// The migrations that changed the data of each tenant there was: one that is made later has no rows for them.
pub(super) fn of_each_tenant(derived: &Derived) -> Vec<i64> {
    let versions = derived.versions.iter();
    versions
        .filter(|version| version.mode == migrate::Mode::EachTenant)
        .map(|version| version.version)
        .collect()
}

/// Where migrations go; refused where the database lacks what they call.
pub(crate) fn target(
    installation: &InstallationId,
    database: &TenantDatabase,
    schema: &str,
) -> Result<migrate::Target, Failure> {
    upgrade::require_current(database)?;
    let roles = tenantry_engine::Roles::of(installation);
    let schema = schema.parse_identifier()?;
    Ok(migrate::Target {
        schema,
        owner: roles.owner,
        application: tenantry_engine::Roles::app(installation, database.id),
        mover: roles.mover,
    })
}

/// Refuses work on tables that have, or are to get, a migration which this process has not: it was started before that was deployed,
/// and whoever was started since can do the work.
pub(super) fn require_files(derived: &Derived, version: i64) -> Result<(), Failure> {
    let newest = derived.versions.last().map_or(0, |version| version.version);
    if version <= newest {
        return Ok(());
    }
    Err(Failure::retry(
        NEWER_FILES,
        format!(
            "the migration {version} is newer than the files of this process, which end with {newest}: a process of the newer \
             application goes on with this"
        ),
    ))
}

/// Refuses a schema that is not what its migrations make, whatever its ledger says: nobody is let in then.
pub(super) async fn require_whole(client: &Client, schema: &str, derived: &Derived) -> Result<(), Failure> {
    let unfit = home::unfit_tables(client, schema, derived).await?;
    if unfit.is_empty() {
        return Ok(());
    }
    let message = format!(
        "in the schema {schema} these tables are missing or hold nobody to their tenant: {}",
        unfit.join(", ")
    );
    Err(Failure::permanent("schema_unfit", message))
}

/// Keeps the catalog's copy of a schema's ledger.
pub(crate) async fn record_versions(
    ops: &Ops,
    database: &TenantDatabase,
    schema: &str,
    derived: &Derived,
) -> Result<(), Failure> {
    let client = ops.catalog().client().await?;
    let site = (database.id, schema.to_owned());
    Ok(fleet_state::record(&client, &[site], &ledger_rows(derived)).await?)
}

trait ParseIdentifier {
    fn parse_identifier(&self) -> Result<tenantry_sql::Identifier, Failure>;
}

impl ParseIdentifier for str {
    fn parse_identifier(&self) -> Result<tenantry_sql::Identifier, Failure> {
        tenantry_sql::Identifier::new(self).map_err(|error| Failure::permanent("bad_name", error.to_string()))
    }
}
