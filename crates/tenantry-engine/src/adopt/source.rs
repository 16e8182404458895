//! The database that is adopted, read in one snapshot.

use tokio_postgres::Client;

use super::AdoptError;
use crate::admin::ServerAdmin;

/// One schema of an existing database, open in a read-only snapshot.
pub struct Source {
    pub(super) client: Client,
    pub(super) schema: String,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Connects to the database that the URL names, and opens a snapshot of one of its schemas.
    ///
    /// # Errors
    ///
    /// [`AdoptError::Connect`], and those of [`Source::open`].
    pub async fn connect(url: &str, schema: &str) -> Result<Self, AdoptError> {
        let server = ServerAdmin::from_url(url).map_err(AdoptError::Connect)?;
        let client = server.connect_maintenance().await.map_err(AdoptError::Connect)?;
        Self::open(client, schema).await
    }

    /// Opens a snapshot on a connected client, with `schema` as its search path, so that PostgreSQL prints that schema's
    /// names without it.
    ///
    /// # Errors
    ///
    /// [`AdoptError::NoSchema`], [`AdoptError::Read`].
    pub async fn open(client: Client, schema: &str) -> Result<Self, AdoptError> {
        // The formats in which values travel: the same on both sides, and exact.
        const SNAPSHOT: &str = "
            begin isolation level repeatable read, read only;
            set local datestyle = 'iso, ymd';
            set local intervalstyle = 'postgres';
            set local timezone = 'UTC';
            set local extra_float_digits = 1;
            set local bytea_output = 'hex';
            set local row_security = off;
            set local statement_timeout = 0";
        client
            .batch_execute(SNAPSHOT)
            .await
            .map_err(AdoptError::read("snapshot"))?;
        let found = client
            .query_opt(
                "select set_config('search_path', quote_ident(nspname), true) from pg_namespace where nspname = $1",
                &[&schema],
            )
            .await
            .map_err(AdoptError::read("schemas"))?;
        if found.is_none() {
            return Err(AdoptError::NoSchema {
                schema: schema.to_owned(),
            });
        }
        Ok(Self {
            client,
            schema: schema.to_owned(),
        })
    }
}
