//! Where the worlds stand: a template per isolation, made by the engine as in service, and pairs of copies of it.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use secrecy::{ExposeSecret as _, SecretString};
use tenantry_core::{Epoch, InstallationId, Isolation, TenantDatabaseId, TenantId, Tier, own_schema_name, seal::Key};
use tenantry_engine::{
    Roles,
    admin::ServerAdmin,
    bootstrap::{self, DatabaseRequest},
    fence, home,
    isolate::{Derived, derive},
    migrate::{Files, Patience, Target, TenantContext, apply},
};
use tenantry_sql::{Identifier, Literal};
use tenantry_testing::{TestCluster, TestDatabase, database_on};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    schema::{MIGRATIONS, TABLES},
    step::Owner,
};

/// The tenants have the same ids in every world: A may know B's.
pub(super) fn tenant(owner: Owner) -> TenantId {
    let number = match owner {
        Owner::A => 0x0190_0000_0000_7000_8000_0000_0000_00aa,
        Owner::B => 0x0190_0000_0000_7000_8000_0000_0000_00bb,
        Owner::C => 0x0190_0000_0000_7000_8000_0000_0000_00cc,
        Owner::D => 0x0190_0000_0000_7000_8000_0000_0000_00dd,
    };
    TenantId::from_uuid(Uuid::from_u128(number))
}

/// B has moved once, so that a token of its first placement is stale.
pub(super) fn epoch(owner: Owner) -> Epoch {
    match owner {
        Owner::B => Epoch(2),
        _ => Epoch::FIRST,
    }
}

/// A world is thrown away, and most of what is tried in it is refused: neither needs to be written down.
const QUIET: [&str; 3] = [
    "synchronous_commit = off",
    "log_min_messages = 'panic'",
    "update_process_title = off",
];

const OWNERS: [Owner; 4] = [Owner::A, Owner::B, Owner::C, Owner::D];

/// What all templates share.
pub(super) struct Ground {
    cluster: TestCluster,
    installation: InstallationId,
    derived: Derived,
}

/// A database that is copied, never used.
struct Mould {
    database: TestDatabase,
    app_role: String,
    app_password: SecretString,
    key: Key,
    system_identifier: i64,
}

/// The template of the worlds of one isolation: one database, or A's and the others'.
pub(super) struct Site {
    pub(super) isolation: Isolation,
    tier: Tier,
    cluster: TestCluster,
    owner: Identifier,
    moulds: Vec<Mould>,
}

/// A copy of a mould in one world.
pub(super) struct Place {
    database: TestDatabase,
    pub(super) app_role: String,
    pub(super) app_password: SecretString,
    pub(super) key: Key,
    pub(super) incarnation: (i64, u32),
    pub(super) admin: Client,
}

/// One world.
pub(super) struct World {
    pub(super) isolation: Isolation,
    pub(super) tier: Tier,
    pub(super) cluster: TestCluster,
    /// The role that owns the application's tables.
    pub(super) owner: Identifier,
    places: Vec<Place>,
}

/// Migrations here touch no data.
struct NoData;

impl TenantContext for NoData {
    fn enter(&self, _tenant: TenantId, _backend_pid: i32) -> String {
        "select 1".to_owned()
    }
}

impl Ground {
    pub(super) async fn new(cluster: &TestCluster) -> Result<Self> {
        let installation: InstallationId = tenantry_testing::installation_id()
            .parse()
            .map_err(|error| anyhow!("{error:?}"))?;
        let scratch = database_on(cluster).await;
        let admin = ServerAdmin::new(scratch.config())?;
        bootstrap::server(&admin, &installation, None).await?;
        let files = Files::from_embedded(MIGRATIONS.iter().copied())?;
        let owner = Roles::of(&installation).owner;
        let derived = derive(&scratch.connect().await, owner.as_str(), &files).await?;
        Ok(Self {
            cluster: cluster.clone(),
            installation,
            derived,
        })
    }

    pub(super) async fn site(&self, isolation: Isolation, tier: Tier) -> Result<Site> {
        let groups: &[&[Owner]] = match isolation {
            Isolation::Database => &[&[Owner::A], &[Owner::B, Owner::C, Owner::D]],
            _ => &[&OWNERS],
        };
        let mut moulds = Vec::new();
        for owners in groups {
            moulds.push(self.mould(isolation, tier, owners).await?);
        }
        Ok(Site {
            isolation,
            tier,
            cluster: self.cluster.clone(),
            owner: Roles::of(&self.installation).owner,
            moulds,
        })
    }

    async fn mould(&self, isolation: Isolation, tier: Tier, owners: &[Owner]) -> Result<Mould> {
        let database = database_on(&self.cluster).await;
        let admin = ServerAdmin::new(database.config())?;
        let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
        let request = DatabaseRequest {
            installation: &self.installation,
            database: id,
            name: database.name(),
            credentials: None,
            force_signed: tier == Tier::Signed,
        };
        let made = bootstrap::database(&admin, &request).await?;
        anyhow::ensure!(made.tier == tier, "the server does not allow the tier {tier}");
        let client = admin.connect(database.name()).await?;
        if isolation == Isolation::Schema {
            for owner in owners {
                home::create_schema(&client, &self.installation, id, tenant(*owner)).await?;
                self.migrate(&client, id, &own_schema_name(tenant(*owner))).await?;
            }
        } else {
            self.migrate(&client, id, "app").await?;
        }
        for owner in owners {
            fence::register(&client, tenant(*owner), Epoch::FIRST, true).await?;
            if *owner == Owner::B {
                fence::close(&client, tenant(Owner::B), Epoch::FIRST, fence::Closed::Gone).await?;
                fence::register(&client, tenant(Owner::B), epoch(Owner::B), true).await?;
            }
            if *owner == Owner::D {
                fence::close(&client, tenant(Owner::D), Epoch::FIRST, fence::Closed::Gone).await?;
            }
        }
        // As after the life of every connection from before: only the row is left to refuse the one that moved.
        fence::forget(&client).await?;
        Ok(Mould {
            database,
            app_role: made.app_role,
            app_password: made.app_password,
            key: made.key,
            system_identifier: made.system_identifier,
        })
    }

    async fn migrate(&self, client: &Client, database: TenantDatabaseId, schema: &str) -> Result<()> {
        let roles = Roles::of(&self.installation);
        let target = Target {
            schema: Identifier::new(schema)?,
            owner: roles.owner,
            application: Roles::app(&self.installation, database),
            mover: roles.mover,
        };
        apply(client, &target, &self.derived, &[], &NoData, &Patience::default()).await?;
        Ok(())
    }
}

impl Site {
    /// Two worlds that are the same to the byte.
    pub(super) async fn pair(&self) -> Result<[Arc<World>; 2]> {
        Ok([Arc::new(self.copy().await?), Arc::new(self.copy().await?)])
    }

    async fn copy(&self) -> Result<World> {
        let mut places = Vec::new();
        for mould in &self.moulds {
            places.push(mould.copy(&self.cluster).await?);
        }
        Ok(World {
            isolation: self.isolation,
            tier: self.tier,
            cluster: self.cluster.clone(),
            owner: self.owner.clone(),
            places,
        })
    }
}

impl Mould {
    async fn copy(&self, cluster: &TestCluster) -> Result<Place> {
        let database = database_on(cluster).await;
        let (name, from) = (
            Identifier::new(database.name())?,
            Identifier::new(self.database.name())?,
        );
        let maintenance = cluster.connect("postgres").await;
        maintenance.batch_execute(&format!("drop database {name}")).await?;
        let mut attempts = 0;
        // The connection that made the mould may still be on its way out.
        while let Err(error) = maintenance
            .batch_execute(&format!("create database {name} template {from}"))
            .await
        {
            attempts += 1;
            anyhow::ensure!(attempts < 100, "can't copy the template: {error:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let app = Identifier::new(self.app_role.as_str())?;
        maintenance
            .batch_execute(&format!(
                "revoke all on database {name} from public; grant connect on database {name} to {app}; {}",
                QUIET
                    .map(|setting| format!("alter database {name} set {setting};"))
                    .concat()
            ))
            .await?;
        let admin = database.connect().await;
        // As if it had been bootstrapped itself: keys and identity name the copy.
        admin
            .batch_execute(
                "update tenantry_private.mac_key set database_name = current_database();
                 update tenantry_private.tenant_database
                    set database_oid = (select oid from pg_database where datname = current_database())",
            )
            .await
            .context("take the copy as a database of its own")?;
        let oid: u32 = admin
            .query_one("select oid from pg_database where datname = current_database()", &[])
            .await?
            .get(0);
        Ok(Place {
            database,
            app_role: self.app_role.clone(),
            app_password: self.app_password.clone(),
            key: self.key.clone(),
            incarnation: (self.system_identifier, oid),
            admin,
        })
    }
}

impl Place {
    pub(super) fn name(&self) -> &str {
        self.database.name()
    }

    pub(super) fn password(&self) -> &str {
        self.app_password.expose_secret()
    }
}

impl World {
    pub(super) fn place(&self, owner: Owner) -> &Place {
        match owner {
            Owner::A => &self.places[0],
            _ => self.places.last().expect("a world has a place"),
        }
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn schema(&self, owner: Owner) -> String {
        schema_of(self.isolation, owner)
    }

    pub(super) fn search_path(&self, owner: Owner) -> String {
        format!("\"{}\", tenantry_ext, pg_temp", self.schema(owner))
    }

    /// What all of this tenant's rows come to; for a tenant with a schema of its own, all that stands in it.
    pub(super) async fn digest(&self, owner: Owner) -> Result<String> {
        let row = self.place(owner).admin.query_one(&self.digest_sql(owner)?, &[]).await?;
        Ok(row.get(0))
    }

    pub(super) fn digest_sql(&self, owner: Owner) -> Result<String> {
        let whole_schema = self.isolation == Isolation::Schema;
        let schema = Identifier::new(self.schema(owner))?;
        let id = tenant(owner).as_uuid().to_string();
        let parts: Vec<String> = TABLES
            .iter()
            .map(|(table, _)| {
                let filter = if whole_schema {
                    String::new()
                } else {
                    format!(" where tenant_id = {}", Literal::new(&*id).expect("a uuid"))
                };
                format!("select '{table}' || t::text as x from {schema}.{table} t{filter}")
            })
            .collect();
        Ok(format!(
            "select coalesce(md5(string_agg(x, ',' order by x collate \"C\")), 'nothing') from ({}) all_rows",
            parts.join(" union all ")
        ))
    }
}

pub(super) fn schema_of(isolation: Isolation, owner: Owner) -> String {
    match isolation {
        Isolation::Schema => own_schema_name(tenant(owner)),
        _ => "app".to_owned(),
    }
}

/// What A's rows come to, for A to say and for the superuser to confirm: a count and a sum for each table.
pub(super) fn census(tables: impl Fn(&str) -> String) -> String {
    let parts: Vec<String> = TABLES
        .iter()
        .map(|(table, columns)| {
            let first = columns.split(',').next().unwrap_or("id");
            format!(
                "select '{table}' as t, count(*) as n, coalesce(sum({first}), 0) as s from {}",
                tables(table)
            )
        })
        .collect();
    format!(
        "select string_agg(t || ':' || n || ':' || s, ' ' order by t) from ({}) c",
        parts.join(" union all ")
    )
}
