//! The administrator that a managed service gives: it may make roles and databases and is no superuser.

use tokio_postgres::Config;

use crate::database::TestDatabase;
use crate::random_hex;

/// A role with CREATEROLE and CREATEDB that owns its test database; it can't grant `set on parameter`.
#[derive(Clone, Debug)]
pub struct RestrictedAdmin {
    name: String,
    password: String,
    config: Config,
    url: String,
}

impl TestDatabase {
    /// Makes such an administrator and gives it this database.
    ///
    /// REPLICATION and BYPASSRLS are given too, as managed services do: from PostgreSQL 16 on it may pass them on.
    pub async fn restricted_admin(&self) -> RestrictedAdmin {
        let name = format!("admin_{}", random_hex());
        let password = random_hex();
        let database = self.name();
        let client = self.connect().await;
        let made = client
            .batch_execute(&format!(
                "create role {name} login createrole createdb replication bypassrls password '{password}';
                 alter database {database} owner to {name}"
            ))
            .await;
        made.unwrap_or_else(|error| panic!("can't make a restricted administrator: {error:?}"));
        let cluster = self.cluster();
        let config = cluster.config_for(database, &name, &password);
        let url = format!(
            "postgresql://{name}:{password}@{}:{}/{database}",
            cluster.host(),
            cluster.port()
        );
        RestrictedAdmin {
            name,
            password,
            config,
            url,
        }
    }
}

impl RestrictedAdmin {
    /// Its role's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// How it connects to its database.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its URL for its database.
    pub fn url(&self) -> &str {
        &self.url
    }
}
