//! `tenantry signing-key`: the keys that sign access tokens.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tenantry_catalog::signing_key::{PublicKey, SigningKeyState};
use uuid::Uuid;

use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    lookup::parse_id,
    output::{Answer, Done, List, Output, table, time},
};

/// What to do with signing keys.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// List the keys whose tokens are accepted, and the one that signs next
    List,
    /// Let the next key sign from now on; tokens that are out stay valid until they expire
    Rotate,
    /// Remove a key that leaked: every token it signed stops being valid within a second
    Remove(Remove),
}

/// The key to remove.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// The key's id, the `kid` of its tokens
    #[arg(value_parser = parse_id)]
    id: Uuid,
}

#[derive(Serialize)]
struct Shown {
    id: Uuid,
    /// `next`, `current` or `retired`.
    state: &'static str,
    created_at: DateTime<Utc>,
    retired_at: Option<DateTime<Utc>>,
}

impl From<PublicKey> for Shown {
    fn from(key: PublicKey) -> Self {
        Self {
            id: key.id,
            state: match key.state {
                SigningKeyState::Next => "next",
                SigningKeyState::Current => "current",
                SigningKeyState::Retired => "retired",
            },
            created_at: key.created_at,
            retired_at: key.retired_at,
        }
    }
}

impl Answer for List<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|key| {
            [
                key.id.to_string(),
                key.state.to_owned(),
                time(key.created_at),
                key.retired_at.map(time).unwrap_or_default(),
            ]
        });
        table(["id", "state", "made", "signed until"], rows)
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::List => {
            let keys = ops.list_signing_keys(&authority()).await?;
            let items = keys.into_iter().map(Shown::from).collect();
            Ok(output.answer(&List { items })?)
        }
        Command::Rotate => {
            ops.rotate_signing_keys(&authority()).await?;
            Ok(output.answer(&Done {
                text: "the next key signs from now on; tokens that are out stay valid until they expire".to_owned(),
                json: json!({ "rotated": true }),
            })?)
        }
        Command::Remove(Remove { id }) => {
            ops.remove_signing_key(&authority(), id).await?;
            Ok(output.answer(&Done {
                text: format!("what {id} signed is not accepted any more"),
                json: json!({ "id": id, "removed": true }),
            })?)
        }
    }
}
