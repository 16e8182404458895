//! Our databases: the same application, made multi-tenant by the engine, in every isolation.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result, bail};
use secrecy::ExposeSecret as _;
use tenantry_core::{Epoch, InstallationId, TenantDatabaseId, TenantId, Tier, own_schema_name, seal::Key};
use tenantry_engine::{
    Roles,
    admin::ServerAdmin,
    bootstrap::{self, Bootstrapped, DatabaseRequest},
    fence, home,
    isolate::{DeriveError, Derived, derive},
    migrate::{ByAdministrator, Files, Patience, Target, apply},
};
use tenantry_sql::Identifier;
use tenantry_testing::{TestCluster, TestDatabase, database_on};
use uuid::Uuid;

use super::{
    ground::{APPLICATION, BOOKINGS, Ground, Mechanism, REFERENCE},
    program::Program,
    random_hex,
};

/// How the attacker and the victim live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Living {
    /// Both in shared tables.
    Shared,
    /// Each in a schema of its own, in one database.
    Schema,
    /// The attacker in shared tables, the victim in a schema of the same database.
    Mixed,
    /// Each in a database of its own.
    Database,
}

impl Living {
    pub(super) const ALL: [Self; 4] = [Self::Shared, Self::Schema, Self::Mixed, Self::Database];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Schema => "schema",
            Self::Mixed => "mixed",
            Self::Database => "database",
        }
    }
}

/// The application with what the programs' developers added, and what the engine refused of it.
pub(super) struct Application {
    derived: Derived,
    /// By program: the engine's sentence.
    pub(super) refused: BTreeMap<String, String>,
}

impl Application {
    /// Offers every program's migration to the engine and keeps those that it takes.
    pub(super) async fn derive(
        cluster: &TestCluster,
        installation: &InstallationId,
        programs: &[Program],
        bookings: bool,
    ) -> Result<Self> {
        let mut files = vec![
            ("0001_application.sql".to_owned(), APPLICATION.to_owned()),
            (
                "0002_country.sql".to_owned(),
                format!("-- tenantry: reference\n{REFERENCE}"),
            ),
        ];
        if bookings {
            files.push(("0003_bookings.sql".to_owned(), BOOKINGS.to_owned()));
        }
        let mut offered = BTreeMap::new();
        for (number, program) in programs.iter().enumerate() {
            if let Some(text) = program.migration() {
                let name = format!("{:04}_{}.sql", 100 + number, program.name.replace('-', "_"));
                offered.insert(name.clone(), program.name.clone());
                files.push((name, format!("{text};\n")));
            }
        }
        let mut refused = BTreeMap::new();
        loop {
            let scratch = database_on(cluster).await;
            bootstrap::server(&ServerAdmin::new(scratch.config())?, installation, None).await?;
            let embedded = Files::from_embedded(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
                .context("a program's migration has a header that is not understood")?;
            let owner = Roles::of(installation).owner;
            let bad: Vec<(String, String)> = match derive(&scratch.connect().await, owner.as_str(), &embedded).await {
                Ok(derived) => return Ok(Self { derived, refused }),
                Err(DeriveError::Refused(refusals)) => refusals
                    .into_iter()
                    .map(|refusal| (refusal.file.clone(), refusal.to_string()))
                    .collect(),
                Err(DeriveError::Statement { file, line, message }) => {
                    vec![(file.clone(), format!("{file}:{line}: {message}"))]
                }
                Err(error) => return Err(error).context("the application can't be derived"),
            };
            let before = files.len();
            for (file, sentence) in bad {
                let Some(program) = offered.get(&file) else {
                    bail!("the application itself is refused: {sentence}");
                };
                files.retain(|(name, _)| *name != file);
                refused.entry(program.clone()).or_insert(sentence);
            }
            if files.len() == before {
                bail!("the engine refuses without naming a file");
            }
        }
    }
}

/// One tenant database.
struct Place {
    test: TestDatabase,
    id: TenantDatabaseId,
    made: Bootstrapped,
}

/// What all grounds of one version share.
pub(super) struct World<'a> {
    pub(super) cluster: &'a TestCluster,
    pub(super) installation: &'a InstallationId,
    pub(super) application: &'a Application,
    pub(super) bookings: bool,
}

/// How one ground is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) living: Living,
    pub(super) tier: Tier,
    pub(super) hardened: bool,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hardened = if self.hardened { " hardened" } else { "" };
        write!(f, "{} {}{hardened}", self.living.as_str(), self.tier)
    }
}

impl World<'_> {
    /// A database of its own for each ground, so that what a program does to keys and fences troubles no other; and two new
    /// tenants that live as the shape says.
    pub(super) async fn ground(&self, shape: Shape) -> Result<Ground> {
        let (a, b) = (TenantId::from_uuid(Uuid::now_v7()), TenantId::from_uuid(Uuid::now_v7()));
        let home = self.place(shape).await?;
        let own = self.settle(&home, a, shape.living == Living::Schema).await?;
        let mut elsewhere = None;
        let target = match shape.living {
            Living::Database => {
                let place = elsewhere.insert(self.place(shape).await?);
                self.settle(place, b, false).await?
            }
            living => self.settle(&home, b, living != Living::Shared).await?,
        };
        let victims = elsewhere.as_ref().unwrap_or(&home);
        let app = |place: &Place| {
            let password = place.made.app_password.expose_secret();
            self.cluster
                .config_for(place.test.name(), &place.made.app_role, password)
        };
        let roles = Roles::of(self.installation);
        let (role, name) = (&home.made.app_role, home.test.name());
        let password = home.made.app_password.expose_secret();
        Ok(Ground {
            label: shape.to_string(),
            mechanism: Mechanism::Ours(shape.tier),
            a,
            b,
            attacker: app(&home),
            victim: app(victims),
            attackers_admin: home.test.config(),
            victims_admin: victims.test.config(),
            key: home.made.key.clone(),
            victims_key: victims.made.key.clone(),
            // Where there is no other database, one that was never this one's.
            foreign_key: match &elsewhere {
                Some(place) => place.made.key.clone(),
                None => Key::new(home.made.key.id(), rand::random()),
            },
            old_key: None,
            own: own.to_string(),
            target: target.to_string(),
            shared: shape.living == Living::Shared,
            together: shape.living != Living::Database,
            hardened: shape.hardened,
            bookings: self.bookings,
            canary: random_hex(),
            names: vec![
                ("{app}", role.clone()),
                ("{victim_app}", victims.made.app_role.clone()),
                ("{owner}", roles.owner.as_str().to_owned()),
                ("{seal}", roles.seal.as_str().to_owned()),
                ("{mover}", roles.mover.as_str().to_owned()),
                ("{super}", self.cluster.superuser().to_owned()),
                ("{db}", name.to_owned()),
                ("{victim_db}", victims.test.name().to_owned()),
                ("{host}", self.cluster.host().to_owned()),
                ("{port}", self.cluster.port().to_string()),
                ("{password}", password.to_owned()),
                // Whoever knows it needs no attack.
                ("{super_password}", "not-known".to_owned()),
            ],
            role_reset: format!(
                "alter role {role} password '{password}';
                 alter role {role} reset all;
                 alter role {role} in database {name} reset all;
                 alter role {role} in database {name} set search_path = app, tenantry_ext"
            ),
            own_admin: home.test.connect().await,
            target_admin: victims.test.connect().await,
            databases: [Some(home.test), elsewhere.map(|place| place.test)]
                .into_iter()
                .flatten()
                .collect(),
        })
    }

    /// A database, bootstrapped and migrated.
    async fn place(&self, shape: Shape) -> Result<Place> {
        let test = database_on(self.cluster).await;
        let admin = ServerAdmin::new(test.config())?;
        bootstrap::server(&admin, self.installation, None).await?;
        let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
        let request = DatabaseRequest {
            installation: self.installation,
            database: id,
            name: test.name(),
            credentials: None,
            force_signed: shape.tier == Tier::Signed,
        };
        let made = bootstrap::database(&admin, &request).await?;
        let place = Place { test, id, made };
        self.migrate(&place, "app").await?;
        if shape.hardened {
            let hardening = bootstrap::harden(&admin, self.installation, place.test.name(), &[]).await?;
            if !hardening.left.is_empty() {
                bail!("the database could not be hardened whole: {:?}", hardening.left);
            }
        }
        Ok(place)
    }

    async fn migrate(&self, place: &Place, schema: &str) -> Result<()> {
        let roles = Roles::of(self.installation);
        let target = Target {
            schema: Identifier::new(schema)?,
            owner: roles.owner,
            application: Roles::app(self.installation, place.id),
            mover: roles.mover,
        };
        let client = place.test.connect().await;
        let derived = &self.application.derived;
        apply(&client, &target, derived, &[], &ByAdministrator, &Patience::default())
            .await
            .with_context(|| format!("the application can't be applied to {schema}"))?;
        Ok(())
    }

    /// Registers a tenant, and makes its schema where it has one.
    async fn settle(&self, place: &Place, tenant: TenantId, apart: bool) -> Result<Identifier> {
        let client = place.test.connect().await;
        let mut schema = "app".to_owned();
        if apart {
            schema = own_schema_name(tenant);
            home::create_schema(&client, self.installation, place.id, tenant).await?;
            self.migrate(place, &schema).await?;
        }
        fence::register(&client, tenant, Epoch::FIRST, true).await?;
        Ok(Identifier::new(schema)?)
    }
}
