//! Whether a server answers. One that does not is given up: each connection may take as long as the address allows, and there are
//! thousands of schemas.

use std::collections::HashMap;

use parking_lot::Mutex;
use tenantry_catalog::tenant_database::TenantDatabase;
use tenantry_core::ServerId;
use tenantry_engine::admin::AdminError;
use tokio_postgres::Client;

use crate::{
    Ops,
    runner::{Failure, UNREACHABLE, administer},
};

/// After so many connections in a row that nobody answered, the server is given up.
const UNANSWERED_MAX: u32 = 3;

/// What was heard of one server.
#[derive(Default)]
pub(super) struct Answers(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    /// How many connections nobody has answered since the last that was.
    unanswered: u32,
    /// Why, of the last.
    reason: String,
}

impl Answers {
    /// Refuses at once where the server was given up.
    pub(super) fn require(&self) -> Result<(), Failure> {
        let heard = self.0.lock();
        if heard.unanswered < UNANSWERED_MAX {
            return Ok(());
        }
        let message = format!(
            "not tried, since its server did not answer {UNANSWERED_MAX} times in a row: {}",
            heard.reason
        );
        Err(Failure::retry(UNREACHABLE, message))
    }

    /// Notes whether a connection was answered. That the server refuses it, or has no such database, is an answer.
    pub(super) fn heard<T>(&self, connected: Result<T, AdminError>) -> Result<T, AdminError> {
        let mut heard = self.0.lock();
        match &connected {
            Err(error) if error.is_no_answer() => {
                heard.unanswered += 1;
                heard.reason = error.to_string();
            }
            // Also where the server was given up: whoever had begun before was answered in the end.
            Ok(_) | Err(_) => heard.unanswered = 0,
        }
        connected
    }
}

/// The same of the servers of some databases.
pub(super) struct FleetAnswers(HashMap<ServerId, Answers>);

impl FleetAnswers {
    pub(super) fn of(databases: &[TenantDatabase]) -> Self {
        let servers = databases.iter().map(|database| database.server);
        Self(servers.map(|server| (server, Answers::default())).collect())
    }

    /// The administrator's connection to one of them.
    pub(super) async fn connect(&self, ops: &Ops, database: &TenantDatabase) -> Result<Client, Failure> {
        let (admin, _) = administer(ops, database.server).await?;
        let Some(answers) = self.0.get(&database.server) else {
            return Ok(admin.connect(&database.name).await?);
        };
        answers.require()?;
        Ok(answers.heard(admin.connect(&database.name).await)?)
    }
}

/// Gives up what is not answered, as by a server that hangs and keeps its connections. The connection is to be dropped then.
pub(super) async fn in_time<T, E: Into<Failure>>(
    ops: &Ops,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let patience = ops.fleet().patience_per_try;
    match tokio::time::timeout(patience, asked).await {
        Ok(answered) => answered.map_err(Into::into),
        Err(_) => {
            let message = format!("no answer within {} s", patience.as_secs());
            Err(Failure::retry(UNREACHABLE, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn silence() -> Result<(), AdminError> {
        Err(AdminError::Silent {
            database: "shared".to_owned(),
            waited: Duration::from_secs(20),
        })
    }

    #[test]
    fn three_silences_in_a_row_give_a_server_up() {
        let answers = Answers::default();
        for heard in [silence(), silence(), Ok(()), silence(), silence()] {
            let _ = answers.heard(heard);
            assert!(answers.require().is_ok());
        }
        let _ = answers.heard(silence());
        let refused = answers.require().unwrap_err().message();
        assert!(
            refused.contains("3 times in a row") && refused.contains("within 20 s"),
            "{refused}"
        );
    }
}
