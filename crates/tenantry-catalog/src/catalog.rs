//! The way into the catalog: connect, migrate, check the key, hand out connections.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime};
use secrecy::SecretString;
use tenantry_core::InstallationId;
use tokio_postgres::{Config, NoTls, config::SslMode};

use crate::{
    CatalogError, ChangeFollower, Column, Listener, Look, MasterKey, SecretError, follow, installation,
    migrate::migrate, secret::Cipher, tls,
};

/// A pooled connection to the catalog.
pub type Client = deadpool_postgres::Client;
/// A transaction on the catalog.
pub type Transaction<'a> = deadpool_postgres::Transaction<'a>;

/// Connections per process. The catalog is asked on changes and cache misses only.
const POOL_SIZE: usize = 16;
/// How long a caller waits for a connection before it is told that the catalog can't be reached.
const WAIT: Duration = Duration::from_secs(5);
/// No statement on the catalog takes longer; one that does is stuck behind a lock.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The control database. Cheap to clone.
#[derive(Clone)]
pub struct Catalog(Arc<Inner>);

struct Inner {
    pool: Pool,
    config: Config,
    cipher: Cipher,
    installation: InstallationId,
    follower: ChangeFollower,
}

impl Catalog {
    /// Connects, migrates the catalog to this program's version and checks the master key. TLS if the URL says
    /// `sslmode=require`.
    ///
    /// Any number of processes may do this at once, also on an empty database.
    ///
    /// # Errors
    /// When the catalog can't be reached, is newer than this program, or was made with another master key.
    pub async fn connect(url: &str, key: &MasterKey) -> Result<Self, CatalogError> {
        let config = configure(url)?;
        let cipher = Cipher::new(key);
        let installation = prepare(&config, &cipher).await?;
        let pool = pool(config.clone())?;
        let follower = follow::start(config.clone());
        Ok(Self(Arc::new(Inner {
            pool,
            config,
            cipher,
            installation,
            follower,
        })))
    }

    /// This installation's id.
    pub fn installation(&self) -> &InstallationId {
        &self.0.installation
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] when none can be had in time.
    ///
    /// # Cancel safety
    /// Dropping the future, or the transaction made on the connection, leaves nothing behind.
    pub async fn client(&self) -> Result<Client, CatalogError> {
        Ok(self.0.pool.get().await?)
    }

    /// Follows no more changes and closes the connections: for the end of a program that ends what the catalog runs on. Whoever
    /// asks afterwards is told that it can't be reached.
    pub fn close(&self) {
        self.0.follower.stop();
        self.0.pool.close();
    }

    /// Tells, from now on, what changed in the catalog; see [`ChangeFollower`].
    pub fn follower(&self) -> ChangeFollower {
        self.0.follower.resubscribe()
    }

    /// Lets the follower look for changes now. Once it tells [`crate::ChangeEvent::UpToDate`] with this look or a later one,
    /// whatever was committed before this call has been told.
    pub fn look_for_changes(&self) -> Look {
        self.0.follower.look()
    }

    /// Waits for notifications on a channel, over a connection of its own.
    ///
    /// # Errors
    /// When the catalog can't be reached.
    pub async fn listen(&self, channel: &'static str) -> Result<Listener, CatalogError> {
        Listener::connect(&self.0.config, channel).await
    }

    /// Encrypts what will stand in this column.
    pub fn seal(&self, column: Column, plain: &[u8]) -> Vec<u8> {
        self.0.cipher.seal(column, plain)
    }

    /// Decrypts what stands in this column.
    ///
    /// # Errors
    /// When it was changed, moved or encrypted with another key.
    pub fn open(&self, column: Column, sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
        self.0.cipher.open(column, sealed)
    }

    /// A key for one purpose, derived from the master key: the same in every process, and nothing that is stored.
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        self.0.cipher.derive(purpose)
    }

    /// [`Catalog::seal`] of a text.
    pub fn seal_text(&self, column: Column, plain: &SecretString) -> Vec<u8> {
        self.0.cipher.seal_text(column, plain)
    }

    /// [`Catalog::open`] of a text.
    ///
    /// # Errors
    /// When it was changed, moved or encrypted with another key.
    pub fn open_text(&self, column: Column, sealed: &[u8]) -> Result<SecretString, SecretError> {
        self.0.cipher.open_text(column, sealed)
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("installation", self.installation())
            .finish_non_exhaustive()
    }
}

fn configure(url: &str) -> Result<Config, CatalogError> {
    let mut config: Config = url.parse().map_err(CatalogError::Url)?;
    // As start-up options, so that neither `discard all` nor a reconnect loses them. UTC keeps times in texts the same
    // everywhere. Whoever waits for a row and then looks has to see what the one before it has done, whatever the server's
    // default is: an older snapshot would show a tenant where it does not live any more.
    let ours = format!(
        "-c search_path=tenantry_catalog -c timezone=UTC -c default_transaction_isolation=read\\ committed -c statement_timeout={}",
        STATEMENT_TIMEOUT.as_millis()
    );
    let options = match config.get_options() {
        Some(theirs) => format!("{theirs} {ours}"),
        None => ours,
    };
    config.options(options);
    if config.get_application_name().is_none() {
        config.application_name("tenantry");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(WAIT);
    }
    // Most of the pool's connections rest for hours, and something between may forget them: who takes one of these must not wait for ever.
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(WAIT);
    }
    Ok(config)
}

fn pool(config: Config) -> Result<Pool, CatalogError> {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match config.get_ssl_mode() {
        SslMode::Require => Manager::from_config(config, tls::connector()?, recycling),
        _ => Manager::from_config(config, NoTls, recycling),
    };
    Ok(Pool::builder(manager)
        .max_size(POOL_SIZE)
        // The one that was used last: it has its statements planned, and PostgreSQL's processor has it at hand. In turns, each
        // would be cold again after others have changed tables in the same server.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(WAIT))
        .recycle_timeout(Some(WAIT))
        .build()
        .expect("a runtime is set, which is all that the builder asks for"))
}

/// What stands before the first use: the tables, and an installation row that this key opens.
async fn prepare(config: &Config, cipher: &Cipher) -> Result<InstallationId, CatalogError> {
    let mut connection = follow::dedicated(config).await?;
    // Waiting for another process that migrates is no stuck statement.
    connection.client.batch_execute("set statement_timeout = 0").await?;
    migrate(&mut connection.client).await?;
    installation::ensure(&connection.client, cipher).await
}
