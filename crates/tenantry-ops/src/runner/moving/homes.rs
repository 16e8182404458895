//! The two homes of a move, and the connections to them.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use tenantry_catalog::placement::{self, Located};
use tenantry_core::{Isolation, Placement};
use tenantry_engine::{
    Roles,
    migrate::{self, Target},
    structure,
    transfer::End,
};
use tenantry_sql::Identifier;
use tenantry_wire::Endpoint;
use tokio_postgres::Client;

use super::{Moving, Site};
use crate::{
    Ops,
    runner::{Failure, Journal, site::target},
};

/// How long a migration of one of the two schemas is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// One of the two homes.
pub(super) struct Home<'a> {
    pub(super) placement: Placement,
    pub(super) site: Site<'a>,
    pub(super) schema: Identifier,
    pub(super) mover: Identifier,
}

impl<'a> Home<'a> {
    pub(super) async fn new(ops: &'a Ops, journal: &'a Journal, placement: &Placement) -> Result<Self, Failure> {
        let site = Site::of_database(ops, journal, placement.database).await?;
        let schema = Identifier::new(&placement.schema);
        Ok(Self {
            placement: placement.clone(),
            schema: schema.map_err(|error| Failure::permanent("bad_name", error.to_string()))?,
            mover: Roles::of(site.installation()).mover,
            site,
        })
    }

    /// As the rest of the program names a home.
    pub(super) async fn located(&self) -> Result<Located, Failure> {
        let ops = self.site.ops;
        let client = ops.catalog().client().await?;
        let located = placement::locate(ops.catalog(), &client, self.placement.tenant).await?;
        let mut located = located.ok_or_else(|| Failure::retry("no_placement", "the tenant has no placement"))?;
        located.placement = self.placement.clone();
        located.database = self.site.database.clone();
        located.secrets = self.site.secrets.clone();
        Ok(located)
    }

    /// Where its migrations go.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        target(self.site.installation(), &self.site.database, &self.placement.schema)
    }

    pub(super) fn end<'c>(&'c self, client: &'c Client) -> End<'c> {
        End {
            client,
            schema: &self.schema,
            mover: &self.mover,
        }
    }

    /// A connection on which the operation has its turn.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let client = self.site.connect().await?;
        self.site.take_turn(&client).await?;
        Ok(client)
    }

    /// A connection as the role that may write any tenant's rows.
    pub(super) async fn connect_as_mover(&self) -> Result<Client, Failure> {
        let password = &self.site.administration.mover_password;
        let admin = self.site.admin.with_login(self.mover.as_str(), password);
        Ok(admin.connect(&self.site.database.name).await?)
    }

    /// The same role's way to the database's changes.
    pub(super) fn endpoint(&self) -> Result<Arc<Endpoint>, Failure> {
        let administration = &self.site.administration;
        let endpoint = Endpoint::from_url(administration.admin_url.expose_secret());
        let mut endpoint = endpoint.map_err(|error| Failure::retry("server_address", error.to_string()))?;
        endpoint.database = self.site.database.name.clone();
        endpoint.user = self.mover.as_str().to_owned();
        endpoint.password = administration.mover_password.clone();
        Ok(Arc::new(endpoint))
    }

    pub(super) fn is(&self, isolation: Isolation) -> bool {
        self.placement.isolation == isolation
    }
}

/// The connections on which a move works from the first row to the switch. While they are there, the operation has its turn in both
/// databases, and nobody migrates either schema.
pub(super) struct Hands {
    source: Client,
    /// Nothing where both homes are in one database: two sessions would wait for each other's turn.
    target: Option<Client>,
    /// Reads the old home's rows there, while the other one writes. It has no turn, and nothing rests on it: what it is missing ends the move.
    reader: Option<Client>,
}

impl Hands {
    pub(super) async fn take(moving: &Moving<'_>) -> Result<Self, Failure> {
        let (from, to) = (moving.source.target()?, moving.target.target()?);
        let source = moving.source.connect().await?;
        let (target, reader) = match moving.input.within_a_database() {
            true => {
                migrate::hold_still(&source, &[&from, &to], PATIENCE).await?;
                (None, Some(moving.source.site.connect().await?))
            }
            false => {
                let target = moving.target.connect().await?;
                migrate::hold_still(&source, &[&from], PATIENCE).await?;
                migrate::hold_still(&target, &[&to], PATIENCE).await?;
                (Some(target), None)
            }
        };
        let hands = Self { source, target, reader };
        let here = structure::read_ledger(hands.source(), &from).await?;
        let there = structure::read_ledger(hands.target(), &to).await?;
        match here == there {
            true => Ok(hands),
            false => Err(Failure::retry(
                "versions_differ",
                "one of the two homes was migrated meanwhile: the new one is brought to the same version",
            )),
        }
    }

    pub(super) fn source(&self) -> &Client {
        &self.source
    }

    /// To the old home, and another one than [`target`](Self::target).
    pub(super) fn reader(&self) -> &Client {
        self.reader.as_ref().unwrap_or(&self.source)
    }

    pub(super) fn target(&self) -> &Client {
        self.target.as_ref().unwrap_or(&self.source)
    }
}
