//! Ways in: connections as the superuser, and a database with a seal.

use std::sync::Arc;

use tenantry_core::{Epoch, Role, TenantId, Tier, seal::Key};
use tenantry_testing::TestDatabase;
use tenantry_wire::{Binding, Connection, Endpoint, Options, Session};

pub(crate) fn endpoint(database: &TestDatabase) -> Arc<Endpoint> {
    Arc::new(Endpoint::from_url(&database.url()).unwrap())
}

pub(crate) async fn connect(database: &TestDatabase) -> Connection {
    Connection::connect(endpoint(database), &Options::default())
        .await
        .unwrap()
}

/// A database with two tenants in shared tables, each with contact 1.
pub(crate) struct Sealed {
    pub(crate) database: TestDatabase,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) key: Key,
    pub(crate) schema: Arc<str>,
    pub(crate) tenants: [TenantId; 2],
}

impl Sealed {
    pub(crate) async fn new() -> Self {
        let database = tenantry_testing::database().await;
        let admin = database.connect().await;
        let key = Key::new(3, [7; 32]);
        let (inner, outer) = key.blocks();
        admin.batch_execute(include_str!("seal.sql")).await.unwrap();
        admin
            .execute(
                "insert into tenantry_private.mac_key values (3, $1, $2)",
                &[&inner.as_slice(), &outer.as_slice()],
            )
            .await
            .unwrap();
        let tenants = [1, 2].map(|n| TenantId::from_uuid(uuid::Uuid::from_u128(n)));
        for (tenant, name) in tenants.iter().zip(["Ada", "Bob"]) {
            admin
                .execute("insert into tenantry_private.fence values ($1)", &[tenant.as_uuid()])
                .await
                .unwrap();
            admin
                .execute("insert into app.contact values ($1, 1, $2)", &[tenant.as_uuid(), &name])
                .await
                .unwrap();
        }
        // Roles are the cluster's, so the name is the database's.
        let role = database.name();
        let sql = format!(
            "create role {role} login password 'secret'; grant usage on schema app, tenantry to {role};
             grant select, insert, update, delete on app.contact to {role}"
        );
        admin.batch_execute(&sql).await.unwrap();
        let mut endpoint = Endpoint::from_url(&database.url()).unwrap();
        endpoint.user = role.to_owned();
        endpoint.password = "secret".to_owned().into();
        Self {
            endpoint: Arc::new(endpoint),
            database,
            key,
            schema: "app".into(),
            tenants,
        }
    }

    pub(crate) async fn session(&self) -> Session {
        Session::new(
            Connection::connect(self.endpoint.clone(), &Options::default())
                .await
                .unwrap(),
        )
    }

    pub(crate) fn binding(&self, tenant: usize) -> Binding<'_> {
        Binding {
            tenant: self.tenants[tenant],
            role: Role::Member,
            epoch: Epoch::FIRST,
            account: None,
            account_text: "",
            schema: &self.schema,
            search_path: "app",
            key: &self.key,
            tier: Tier::Sealed,
            read_only: false,
        }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let (config, role) = (self.database.config(), self.database.name().to_owned());
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                client
                    .batch_execute(&format!("drop owned by {role} cascade; drop role {role}"))
                    .await
                    .unwrap();
            });
        })
        .join();
    }
}
