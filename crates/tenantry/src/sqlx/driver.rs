//! A connection of sqlx.

use ::sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use async_trait::async_trait;
use secrecy::ExposeSecret;
use tenantry_pool::{PoolConfig, foreign::Driver};
use tenantry_wire::{Address, Endpoint, Error, Tls};

use super::error::wire;

/// A connection of sqlx.
pub(crate) struct PgDriver(pub(super) PgConnection);

#[async_trait]
impl Driver for PgDriver {
    async fn connect(endpoint: &Endpoint, config: &PoolConfig) -> Result<Self, Error> {
        let connected = options(endpoint, config).connect().await;
        connected.map(Self).map_err(wire)
    }

    async fn run(&mut self, sql: &str) -> Result<(), Error> {
        let done = ::sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.0)
            .await;
        done.map(|_| ()).map_err(wire)
    }

    async fn ask(&mut self, sql: &'static str, params: &[&str]) -> Result<Option<String>, Error> {
        let mut query = ::sqlx::query_scalar(sql);
        for param in params {
            query = query.bind((*param).to_owned());
        }
        query.fetch_one(&mut self.0).await.map_err(wire)
    }

    async fn close(self) {
        // The server is told as far as it listens.
        let _ = self.0.close().await;
    }
}

fn options(endpoint: &Endpoint, config: &PoolConfig) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .username(&endpoint.user)
        .password(endpoint.password.expose_secret())
        .database(&endpoint.database)
        .application_name("tenantry")
        .statement_cache_capacity(config.statements_max);
    let options = match &endpoint.address {
        Address::Tcp { host, port } => options.host(host).port(*port),
        Address::Unix { directory, port } => options.socket(directory).port(*port),
    };
    match &endpoint.tls {
        Tls::Off => options.ssl_mode(PgSslMode::Disable),
        Tls::Verified { roots_pem } => options
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert_from_pem(roots_pem.clone().into_bytes()),
    }
}
