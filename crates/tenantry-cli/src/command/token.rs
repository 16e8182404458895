//! `tenantry token`: credentials to try things with, and operator keys.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;
use tenantry_core::{Email, OperatorKeyId, OperatorScope, OperatorScopes};
use tenantry_ops::{OperatorKey, OperatorKeyRequest, Ops};

use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    output::{Answer, Done, List, Output, fields, table, time},
};

/// What to do with credentials.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Print an access token of a person, to try things with
    Access(Access),
    /// Make an operator key; it is shown once
    Create(Create),
    /// List operator keys
    List,
    /// Revoke an operator key
    Revoke(Revoke),
}

/// Whose token.
#[derive(Args, Debug)]
pub(crate) struct Access {
    /// The person's e-mail
    email: Email,
    /// The tenant it opens, by slug or id [default: the only one]
    #[arg(long)]
    tenant: Option<String>,
}

/// The key to make.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// What it is for
    name: String,
    /// What it may do: read, tenants, members, servers, migrations, keys [default: everything]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<OperatorScope>,
    /// When it ends, for example 2027-01-31T00:00:00Z [default: never]
    #[arg(long)]
    expires_at: Option<DateTime<Utc>>,
}

/// The key to revoke.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The key's id
    id: OperatorKeyId,
}

#[derive(Serialize)]
struct AccessToken {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
}

impl Answer for AccessToken {
    /// The token alone, so that it can stand in `$(…)`.
    fn text(&self) -> String {
        self.access_token.clone()
    }
}

#[derive(Serialize)]
struct Shown {
    id: OperatorKeyId,
    name: String,
    scopes: OperatorScopes,
    created_by: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl From<OperatorKey> for Shown {
    fn from(key: OperatorKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            created_by: key.created_by,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            key: None,
        }
    }
}

impl Shown {
    fn scope_names(&self) -> String {
        self.scopes
            .iter()
            .map(OperatorScope::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let mut shown = vec![
            ("id", self.id.to_string()),
            ("name", self.name.clone()),
            ("scopes", self.scope_names()),
            ("expires", self.expires_at.map_or_else(|| "never".to_owned(), time)),
        ];
        if let Some(key) = &self.key {
            shown.push(("key", format!("{key} (shown this once)")));
        }
        fields(shown)
    }
}

impl Answer for List<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|key| {
            let state = match (key.revoked_at, key.expires_at) {
                (Some(at), _) => format!("revoked {}", time(at)),
                (None, Some(at)) if at <= Utc::now() => format!("expired {}", time(at)),
                (None, Some(at)) => format!("until {}", time(at)),
                (None, None) => "valid".to_owned(),
            };
            [
                key.id.to_string(),
                key.name.clone(),
                key.scope_names(),
                state,
                time(key.created_at),
            ]
        });
        table(["id", "name", "scopes", "state", "made"], rows)
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::Access(access) => run_access(&ops, &access, output).await,
        Command::Create(create) => {
            let scopes = if create.scopes.is_empty() {
                OperatorScopes::all()
            } else {
                create.scopes.into_iter().collect()
            };
            let request = OperatorKeyRequest {
                name: create.name,
                scopes,
                expires_at: create.expires_at,
            };
            let (key, secret) = ops.create_operator_key(&authority(), &request).await?;
            Ok(output.answer(&Shown {
                key: Some(secret.expose_secret().to_owned()),
                ..Shown::from(key)
            })?)
        }
        Command::List => {
            let keys = ops.list_operator_keys(&authority()).await?;
            Ok(output.answer(&List {
                items: keys.into_iter().map(Shown::from).collect(),
            })?)
        }
        Command::Revoke(revoke) => {
            ops.revoke_operator_key(&authority(), revoke.id).await?;
            let text = format!("{} opens nothing any more", revoke.id);
            Ok(output.answer(&Done {
                text,
                json: json!({"id": revoke.id, "revoked": true}),
            })?)
        }
    }
}

async fn run_access(ops: &Ops, access: &Access, output: Output) -> Result<(), Failure> {
    ops.ensure_signing_keys().await?;
    let issued = ops
        .issue_token(&authority(), &access.email, access.tenant.as_deref())
        .await?;
    Ok(output.answer(&AccessToken {
        access_token: issued.access_token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
    })?)
}
