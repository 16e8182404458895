//! Where a server is, and how to get in.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::Error;

/// Where a database is, and how to get in.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The server's address.
    pub address: Address,
    /// The database's name.
    pub database: String,
    /// The role to log in as.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Whether the connection is encrypted, and how the server is verified.
    pub tls: Tls,
}

/// A server's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The folder of a unix socket, and the port that is part of its file's name.
    Unix {
        /// The folder.
        directory: PathBuf,
        /// Port.
        port: u16,
    },
}

/// Whether a connection is encrypted, and how the server is verified.
///
/// There is no mode that encrypts without verifying: it would stop nobody who can stand between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tls {
    /// Not encrypted: for unix sockets and the loopback.
    Off,
    /// Encrypted, the server's certificate and name verified against these roots in PEM.
    Verified {
        /// Certificates of the accepted authorities, in PEM.
        roots_pem: String,
    },
}

impl Address {
    /// Reads `host:port`.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] says which part is missing or not understood.
    pub fn from_host_port(text: &str) -> Result<Self, Error> {
        let (host, port) = split_port(text)?;
        match host.is_empty() {
            true => Err(Error::Address("the host is missing".to_owned())),
            false => Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

impl Endpoint {
    /// Whether both lead to the same database, in the same way.
    pub fn same_as(&self, other: &Self) -> bool {
        self.address == other.address
            && self.database == other.database
            && self.user == other.user
            && self.tls == other.tls
            && self.password.expose_secret() == other.password.expose_secret()
    }

    /// Reads `postgres://user:password@host:port/database`, with `?host=/folder` for a unix socket.
    ///
    /// `sslmode` may be `disable` (the default) or `verify-full` with `sslrootcert=<file>`; the modes in between do not
    /// verify the server and are refused.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] says which part is missing or not understood; it never repeats the password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let bad = |what: &str| Error::Address(what.to_owned());
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| bad("it must begin with postgres://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest
            .split_once('/')
            .ok_or_else(|| bad("the database's name is missing"))?;
        let (user_info, host_port) = authority.rsplit_once('@').ok_or_else(|| bad("the user is missing"))?;
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let (host, port) = split_port(host_port)?;

        let mut host = decode(host)?;
        let mut port = port;
        let (mut mode, mut roots) = ("disable".to_owned(), None);
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decode(value)?;
            match key {
                "host" => host = value,
                "port" => port = value.parse().map_err(|_| bad("the port is not a number"))?,
                "sslmode" => mode = value,
                "sslrootcert" => roots = Some(value),
                // Names the client in the server's list of sessions; ours are named by the pool.
                "application_name" | "connect_timeout" => {}
                other => return Err(Error::Address(format!("the option `{other}` is not known"))),
            }
        }
        let tls = match (mode.as_str(), roots) {
            ("disable", _) => Tls::Off,
            ("verify-full", Some(file)) => Tls::Verified {
                roots_pem: std::fs::read_to_string(&file)
                    .map_err(|error| Error::Address(format!("sslrootcert {file} cannot be read: {error}")))?,
            },
            ("verify-full", None) => return Err(bad("sslmode=verify-full needs sslrootcert=<file>")),
            (other, _) => {
                return Err(Error::Address(format!(
                    "sslmode `{other}` does not verify the server: use verify-full with sslrootcert, or disable"
                )));
            }
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let (database, user) = (decode(database)?, decode(user)?);
        if database.is_empty() || user.is_empty() {
            return Err(bad("the user or the database's name is missing"));
        }
        let address = if host.starts_with('/') {
            Address::Unix {
                directory: host.into(),
                port,
            }
        } else {
            Address::Tcp { host, port }
        };
        Ok(Self {
            address,
            database,
            user,
            password: decode(password)?.into(),
            tls,
        })
    }
}

fn split_port(host_port: &str) -> Result<(&str, u16), Error> {
    let parse = |port: &str| {
        port.parse()
            .map_err(|_| Error::Address("the port is not a number".to_owned()))
    };
    if let Some(rest) = host_port.strip_prefix('[') {
        // An IPv6 address stands in brackets, because it holds colons itself.
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| Error::Address("a bracket is not closed".to_owned()))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, parse(port)?)),
            None => Ok((host, 5432)),
        };
    }
    match host_port.rsplit_once(':') {
        Some((host, port)) => Ok((host, parse(port)?)),
        None => Ok((host_port, 5432)),
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<String, Error> {
    let bad = || Error::Address("a percent sign is not followed by two hex digits of UTF-8 text".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || {
                rest.next()
                    .and_then(|byte| char::from(byte).to_digit(16))
                    .ok_or_else(bad)
            };
            bytes.push((digit()? * 16 + digit()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_encoded_parts() {
        let endpoint = Endpoint::from_url("postgres://us%40er:p%2Fw@db.example:6543/app").unwrap();
        assert_eq!(
            endpoint.address,
            Address::Tcp {
                host: "db.example".into(),
                port: 6543
            }
        );
        assert_eq!((endpoint.user.as_str(), endpoint.database.as_str()), ("us@er", "app"));
        assert_eq!(endpoint.password.expose_secret(), "p/w");
        let endpoint = Endpoint::from_url("postgres://u:p@[::1]/app").unwrap();
        assert_eq!(
            endpoint.address,
            Address::Tcp {
                host: "::1".into(),
                port: 5432
            }
        );
        let endpoint = Endpoint::from_url("postgres://u:p@/app?host=%2Frun%2Fpg&port=7").unwrap();
        assert_eq!(
            endpoint.address,
            Address::Unix {
                directory: "/run/pg".into(),
                port: 7
            }
        );
    }

    #[test]
    fn what_does_not_verify_is_refused() {
        for bad in [
            "postgres://u:p@h/d?sslmode=require",
            "postgres://u:p@h/d?sslmode=prefer",
            "mysql://u@h/d",
        ] {
            assert!(Endpoint::from_url(bad).is_err(), "{bad}");
        }
        for bad in [
            "postgres://u:p@h",
            "postgres://h/d",
            "postgres://u:p@h:x/d",
            "postgres://u:%zz@h/d",
        ] {
            assert!(Endpoint::from_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_password_is_not_printed() {
        let endpoint = Endpoint::from_url("postgres://u:hush@h/d").unwrap();
        assert!(!format!("{endpoint:?}").contains("hush"));
    }
}
