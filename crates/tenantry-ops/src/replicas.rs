//! The standbys of servers, from which the application may read.

use std::{future::Future, time::Duration};

use futures_util::future::join_all;
use tenantry_catalog::server::Server;
use tenantry_engine::{
    admin::ServerAdmin,
    standby::{self, Position},
    survey::survey,
};

use crate::{ServerError, runner};

/// More are not listed: each process asks each of them how far it is.
pub(crate) const REPLICAS_MAX: usize = 16;
/// How long one may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaCheck {
    /// Where it is, as `host:port`.
    pub address: String,
    /// How many bytes of its server's log it does not show yet, if it could be asked.
    pub behind_bytes: Option<u64>,
    /// Why nothing is read from it.
    pub problem: Option<String>,
}

/// `host` and `port`, where the text has that form.
pub(crate) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let fits = !host.is_empty() && !host.contains(['/', '@', ' ']);
    fits.then_some((host.trim_start_matches('[').trim_end_matches(']'), port))
}

/// Refuses what is no standby of the server.
pub(crate) async fn require_standbys(
    admin: &ServerAdmin,
    server: &Server,
    addresses: &[String],
) -> Result<(), ServerError> {
    let looked = addresses.iter().map(|address| async move {
        let found = look(admin, server, address).await;
        found.err().map(|problem| format!("replica {address}: {problem}"))
    });
    let problems: Vec<String> = join_all(looked).await.into_iter().flatten().collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(ServerError::Unfit { problems }),
    }
}

/// How each listed replica stands.
pub(crate) async fn check(admin: &ServerAdmin, server: &Server) -> Vec<ReplicaCheck> {
    if server.replicas.is_empty() {
        return Vec::new();
    }
    let written = in_time(async {
        let client = admin
            .connect_maintenance()
            .await
            .map_err(|error| runner::chain(&error))?;
        standby::written(&client).await.map_err(|error| runner::chain(&error))
    })
    .await;
    let written = written.as_ref().ok();
    join_all(server.replicas.iter().map(|address| async move {
        let found = look(admin, server, address).await;
        ReplicaCheck {
            address: address.clone(),
            behind_bytes: found
                .as_ref()
                .ok()
                .and_then(|replayed| Some(replayed.behind(*written?))),
            problem: found.err(),
        }
    }))
    .await
}

/// Up to where it shows the server's log, or why it is none of its standbys.
async fn look(admin: &ServerAdmin, server: &Server, address: &str) -> Result<Position, String> {
    let (host, port) = host_and_port(address).ok_or("its address is not a host and a port")?;
    in_time(async {
        let client = admin
            .at(host, port)
            .connect_maintenance()
            .await
            .map_err(|error| runner::chain(&error))?;
        let found = survey(&client).await.map_err(|error| runner::chain(&error))?;
        if found.system_identifier != server.system_identifier {
            return Err("it is a standby of another server, or another server".to_owned());
        }
        if !found.standby {
            return Err("it takes writes: it was promoted, or is the server itself".to_owned());
        }
        let replayed = standby::replayed(&client)
            .await
            .map_err(|error| runner::chain(&error))?;
        replayed.ok_or_else(|| "it was promoted just now".to_owned())
    })
    .await
}

async fn in_time<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(host_and_port("db.example:5433"), Some(("db.example", 5433)));
        assert_eq!(host_and_port("[::1]:5433"), Some(("::1", 5433)));
        for bad in [
            "db.example",
            "db.example:",
            ":5432",
            "db:0",
            "db:99999",
            "u@db:1",
            "postgres://db:1",
            "a b:1",
        ] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
