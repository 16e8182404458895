//! Administrative connections to a server.

use std::{fmt, sync::Arc, time::Duration};

use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres::{Client, Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long opening a connection may take where the address does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server of the fleet, reached as its administrator: a superuser, or a role that may create roles and databases.
#[derive(Clone)]
pub struct ServerAdmin {
    config: Config,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// The administrator's address can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The address is not understood.
    #[error(
        "the server's address is not understood: {0}; write postgresql://user:password@host:port/database?sslmode=…"
    )]
    Address(String),
    /// Certificates can't be read.
    #[error("TLS to the server can't be set up: {0}")]
    Tls(String),
    /// The server does not answer, or does not let us in.
    #[error("can't connect to the database `{database}`: {}", reason(source))]
    Connect {
        /// The database.
        database: String,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server takes the connection and says nothing: it hangs, or somebody in between swallows what is sent.
    #[error("can't connect to the database `{database}`: no answer within {} s", waited.as_secs())]
    Silent {
        /// The database.
        database: String,
        /// For how long.
        waited: Duration,
    },
}

impl AdminError {
    /// Whether the server says that there is no such database.
    pub fn is_no_such_database(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.code().is_some_and(|code| code.code() == "3D000"))
    }

    /// Whether nobody answered: where one database of a server is like this, the others are too.
    pub fn is_no_answer(&self) -> bool {
        match self {
            Self::Connect { source, .. } => source.code().is_none(),
            Self::Silent { .. } => true,
            Self::Address(_) | Self::Tls(_) => false,
        }
    }
}

/// The driver keeps the cause ("connection refused", the server's sentence) in the source.
fn reason(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

impl ServerAdmin {
    /// Takes a configuration as it is. Where it requires TLS, the server is verified against the system's roots.
    ///
    /// # Errors
    ///
    /// Where TLS is required and the system's roots can't be read.
    pub fn new(config: Config) -> Result<Self, AdminError> {
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(Arc::new(verified(None)?)),
            _ => None,
        };
        Ok(Self::with(config, tls))
    }

    /// Reads an address. `sslmode` is `disable` (also when it is left out, or `prefer`) or one of `require`, `verify-ca`
    /// and `verify-full`, which all verify the server and its name: against the file in `sslrootcert` or the system's
    /// roots. Encryption without knowing to whom would be none.
    ///
    /// # Errors
    ///
    /// Where the address or the certificates can't be read; the error never repeats the password.
    pub fn from_url(url: &str) -> Result<Self, AdminError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut rest) = ("disable", None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = value,
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => rest.push(pair),
            }
        }
        let base = if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", rest.join("&"))
        };
        let mut config: Config = base
            .parse()
            .map_err(|error: tokio_postgres::Error| AdminError::Address(reason(&error)))?;
        let tls = match mode {
            "disable" | "allow" | "prefer" => None,
            "require" | "verify-ca" | "verify-full" => Some(Arc::new(verified(roots)?)),
            other => return Err(AdminError::Address(format!("sslmode `{other}` is not known"))),
        };
        config.ssl_mode(if tls.is_some() {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        Ok(Self::with(config, tls))
    }

    fn with(mut config: Config, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("tenantry");
        }
        Self { config, tls }
    }

    /// The same server reached by another role, as securely as before.
    #[must_use]
    pub fn with_login(&self, role: &str, password: &secrecy::SecretString) -> Self {
        use secrecy::ExposeSecret as _;
        let mut other = self.clone();
        other.config.user(role).password(password.expose_secret());
        other
    }

    /// The same role at another address of the same kind of server, a standby: as securely as before.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Self {
        let known = &self.config;
        let mut config = Config::new();
        config
            .host(host)
            .port(port)
            .ssl_mode(known.get_ssl_mode())
            .user(known.get_user().unwrap_or_default())
            .password(known.get_password().unwrap_or_default())
            .dbname(self.maintenance_database())
            .application_name(known.get_application_name().unwrap_or_default())
            .connect_timeout(known.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT));
        Self {
            config,
            tls: self.tls.clone(),
        }
    }

    /// How it connects.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The database for what is cluster-wide: the one in the address, else `postgres`.
    pub fn maintenance_database(&self) -> &str {
        self.config.get_dbname().unwrap_or("postgres")
    }

    /// Connects to one of the server's databases. The connection ends with the client.
    ///
    /// # Errors
    ///
    /// Where the server does not answer or does not let us in.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the half-open connection.
    pub async fn connect(&self, database: &str) -> Result<Client, AdminError> {
        let mut config = self.config.clone();
        config.dbname(database);
        let failed = |source| AdminError::Connect {
            database: database.to_owned(),
            source,
        };
        let connected = async {
            match &self.tls {
                None => {
                    let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                    // What goes wrong on it, the client's calls tell.
                    tokio::spawn(connection);
                    Ok::<_, AdminError>(client)
                }
                Some(tls) => {
                    let connector = MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
                    let (client, connection) = config.connect(connector).await.map_err(failed)?;
                    tokio::spawn(connection);
                    Ok::<_, AdminError>(client)
                }
            }
        };
        let patience = self.log_in_timeout();
        match tokio::time::timeout(patience, connected).await {
            Ok(connected) => connected,
            Err(_) => Err(AdminError::Silent {
                database: database.to_owned(),
                waited: patience,
            }),
        }
    }

    /// How long connecting and logging in may take together. The driver's time-out ends with the socket, of which each host has
    /// one; a server that is busy takes its time for the rest.
    fn log_in_timeout(&self) -> Duration {
        let hosts = self
            .config
            .get_hosts()
            .len()
            .max(self.config.get_hostaddrs().len())
            .max(1);
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let each = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        each.saturating_mul(hosts.saturating_add(1))
    }

    /// Connects to the database for what is cluster-wide.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub async fn connect_maintenance(&self) -> Result<Client, AdminError> {
        self.connect(self.maintenance_database()).await
    }
}

impl fmt::Debug for ServerAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The driver's own `Debug` leaves the password out.
        f.debug_struct("ServerAdmin")
            .field("config", &self.config)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

fn verified(roots_file: Option<&str>) -> Result<rustls::ClientConfig, AdminError> {
    let bad = |error: &dyn fmt::Display| AdminError::Tls(error.to_string());
    // The provider is named, not taken from the process: a library must not depend on what `main` installed.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?;
    let config = match roots_file {
        None => builder
            .with_platform_verifier()
            .map_err(|error| bad(&error))?
            .with_no_client_auth(),
        Some(file) => {
            use rustls::pki_types::{CertificateDer, pem::PemObject as _};
            let mut roots = rustls::RootCertStore::empty();
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|error| bad(&format!("sslrootcert {file}: {error}")))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| bad(&format!("sslrootcert {file}: {error}")))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_sslmode_is_not_encrypted_and_keeps_its_options() {
        let admin = ServerAdmin::from_url("postgresql://me:secret@db.example:6543/main?application_name=x").unwrap();
        assert!(admin.tls.is_none());
        assert_eq!(admin.config.get_application_name(), Some("x"));
        assert_eq!(admin.maintenance_database(), "main");
        assert!(!format!("{admin:?}").contains("secret"));
    }

    #[test]
    fn a_mode_that_nobody_knows_and_roots_that_are_not_there_are_refused() {
        assert!(matches!(
            ServerAdmin::from_url("postgresql://me@db/main?sslmode=maybe"),
            Err(AdminError::Address(_))
        ));
        assert!(matches!(
            ServerAdmin::from_url("postgresql://me@db/main?sslmode=verify-full&sslrootcert=/no/such/file"),
            Err(AdminError::Tls(_))
        ));
        let error = ServerAdmin::from_url("postgresql://me:hush@db:notaport/main").unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        // The kernel takes the connection, and nobody reads from it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("postgresql://me@127.0.0.1:{port}/main?connect_timeout=1");
        let error = ServerAdmin::from_url(&url).unwrap().connect("main").await.unwrap_err();
        assert!(
            matches!(error, AdminError::Silent { .. }) && error.is_no_answer(),
            "{error}"
        );
        drop(listener);
        let refused = ServerAdmin::from_url(&url).unwrap().connect("main").await.unwrap_err();
        assert!(
            matches!(refused, AdminError::Connect { .. }) && refused.is_no_answer(),
            "{refused}"
        );
    }

    #[test]
    fn encryption_always_verifies() {
        let admin = ServerAdmin::from_url("postgresql://me@db/main?sslmode=require").unwrap();
        assert!(admin.tls.is_some());
        assert_eq!(admin.config.get_ssl_mode(), SslMode::Require);
    }
}
