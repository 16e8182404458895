//! The standbys of servers, from which the application may read.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream};
use secrecy::ExposeSecret as _;
use tenantry_catalog::{
    replica::{self, Replica},
    server::{self, Server},
};
use tenantry_core::{OperatorScope, ServerId};
use tenantry_engine::{
    admin::ServerAdmin,
    standby::{self, Position},
    survey::survey,
};

use tokio::time::Instant;

use crate::{Authority, OperationError, Ops, ServerError, runner};

/// More are not listed: each process asks each of them how far it is.
pub(crate) const REPLICAS_MAX: usize = 16;
/// How long one may take to answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where somebody waits for the health of all.
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);
/// How long all of that takes at most.
const HEALTH: Duration = Duration::from_secs(5);
/// Of how many servers replicas are asked at once.
const AT_ONCE: usize = 32;

/// What was found of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ReplicaCheck {
    /// Where it is, as `host:port`.
    pub address: String,
    /// Whether it gave an answer. One that does not holds up moves from its server.
    pub reachable: bool,
    /// How many bytes of its server's log it does not show yet, if it could be asked.
    pub behind_bytes: Option<u64>,
    /// Why nothing is read from it.
    pub problem: Option<String>,
    /// The command that takes it off the list, and its like with it, where nothing is read from it.
    pub take_off: Option<String>,
}

impl ReplicaCheck {
    /// Which replica is wrong, why, and what comes of it; nothing where it is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        let held = match self.reachable {
            true => "",
            false => "; moves from its server wait for it",
        };
        Some(format!(
            "nothing is read from the replica {}: {problem}{held}",
            self.address
        ))
    }
}

/// The command that leaves only those listed that are not gone.
pub(crate) fn take_off(server: &str, listed: &[String], gone: &[&str]) -> String {
    let rest: String = listed
        .iter()
        .filter(|address| !gone.contains(&address.as_str()))
        .map(|address| format!(" --replica {address}"))
        .collect();
    match rest.as_str() {
        "" => format!("tenantry server set {server} --no-replicas"),
        rest => format!("tenantry server set {server}{rest}"),
    }
}

/// Why nothing is read from a replica.
struct Wrong {
    /// Whether it gave an answer.
    reachable: bool,
    why: String,
}

impl Wrong {
    fn silent(why: impl Into<String>) -> Self {
        Self {
            reachable: false,
            why: why.into(),
        }
    }

    fn other(why: &str) -> Self {
        Self {
            reachable: true,
            why: why.to_owned(),
        }
    }

    fn failed(error: &dyn std::error::Error) -> Self {
        Self::silent(runner::chain(error))
    }
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
        let found = look(admin, server, address, ANSWER_TIMEOUT).await;
        found.err().map(|wrong| format!("replica {address}: {}", wrong.why))
    });
    let problems: Vec<String> = join_all(looked).await.into_iter().flatten().collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(ServerError::Unfit { problems }),
    }
}

/// How each listed replica stands.
pub(crate) async fn check(admin: &ServerAdmin, server: &Server, patience: Duration) -> Vec<ReplicaCheck> {
    if server.replicas.is_empty() {
        return Vec::new();
    }
    let written = in_time(patience, async {
        let client = admin
            .connect_maintenance()
            .await
            .map_err(|error| Wrong::failed(&error))?;
        standby::written(&client).await.map_err(|error| Wrong::failed(&error))
    });
    let replayed = server
        .replicas
        .iter()
        .map(|address| look(admin, server, address, patience));
    let (written, replayed) = tokio::join!(written, join_all(replayed));
    let gone: Vec<&str> = server
        .replicas
        .iter()
        .zip(&replayed)
        .filter_map(|(address, found)| found.is_err().then_some(address.as_str()))
        .collect();
    let take_off = take_off(&server.name, &server.replicas, &gone);
    let written = written.ok();
    let checked = server
        .replicas
        .iter()
        .zip(replayed)
        .map(|(address, found)| ReplicaCheck {
            address: address.clone(),
            reachable: found.as_ref().err().is_none_or(|wrong| wrong.reachable),
            behind_bytes: found.as_ref().ok().and_then(|replayed| Some(replayed.behind(written?))),
            take_off: found.is_err().then(|| take_off.clone()),
            problem: found.err().map(|wrong| wrong.why),
        });
    checked.collect()
}

/// Up to where it shows the server's log, or why it is none of its standbys.
async fn look(admin: &ServerAdmin, server: &Server, address: &str, patience: Duration) -> Result<Position, Wrong> {
    let (host, port) = host_and_port(address).ok_or_else(|| Wrong::silent("its address is not a host and a port"))?;
    in_time(patience, async {
        let client = admin
            .at(host, port)
            .connect_maintenance()
            .await
            .map_err(|error| Wrong::failed(&error))?;
        let found = survey(&client).await.map_err(|error| Wrong::failed(&error))?;
        if found.system_identifier != server.system_identifier {
            return Err(Wrong::other("it is a standby of another server, or another server"));
        }
        if !found.standby {
            return Err(Wrong::other(
                "it takes writes: it was promoted, or is the server itself",
            ));
        }
        let replayed = standby::replayed(&client)
            .await
            .map_err(|error| Wrong::failed(&error))?;
        replayed.ok_or_else(|| Wrong::other("it was promoted just now"))
    })
    .await
}

async fn in_time<T>(patience: Duration, asked: impl Future<Output = Result<T, Wrong>>) -> Result<T, Wrong> {
    match tokio::time::timeout(patience, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(Wrong::silent(format!("no answer within {} s", patience.as_secs()))),
    }
}

/// A listed replica, for whoever looks at the health of the fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ReplicaReach {
    /// Its id, as in the metrics.
    pub id: ServerId,
    /// Its server's name.
    pub server: String,
    /// Its server's region.
    pub region: String,
    /// Where it is, as `host:port`.
    pub address: String,
    /// What was found; `None` where there was no time to look.
    pub found: Option<ReplicaCheck>,
}

impl Ops {
    /// Asks every listed replica how far it is, each once and all of a server at a time. It takes five seconds at most; which were
    /// not looked at by then is said.
    ///
    /// # Errors
    /// See [`OperationError`]. That a replica can't be reached is no error but the answer.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn check_replicas(&self, authority: &Authority) -> Result<Vec<ReplicaReach>, OperationError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let mut looks = Vec::new();
        for server in server::list(&client).await? {
            if server.replicas.is_empty() {
                continue;
            }
            let listed = replica::list(&client, server.id).await?;
            let address = server::administration(self.catalog(), &client, server.id)
                .await?
                .admin_url;
            looks.push((server, listed, ServerAdmin::from_url(address.expose_secret()).ok()));
        }
        drop(client);
        let until = Instant::now() + HEALTH;
        let looks = looks.into_iter().map(|(server, listed, admin)| async move {
            let looking = async {
                match &admin {
                    Some(admin) => check(admin, &server, HEALTH_PATIENCE).await,
                    None => Vec::new(),
                }
            };
            let found = tokio::time::timeout_at(until, looking).await.unwrap_or_default();
            let reached = |listed: Replica| ReplicaReach {
                found: found.iter().find(|one| one.address == listed.address).cloned(),
                id: listed.id,
                server: server.name.clone(),
                region: server.region.clone(),
                address: listed.address,
            };
            listed.into_iter().map(reached).collect::<Vec<_>>()
        });
        let found: Vec<Vec<ReplicaReach>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        Ok(found.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_one_off_the_list_names_the_others() {
        let listed = ["a:1", "b:2", "c:3"].map(str::to_owned);
        let command = |gone: &[&str]| take_off("eu-1", &listed, gone);
        assert_eq!(
            command(&["b:2"]),
            "tenantry server set eu-1 --replica a:1 --replica c:3"
        );
        assert_eq!(
            command(&["a:1", "b:2", "c:3"]),
            "tenantry server set eu-1 --no-replicas"
        );
    }

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
