//! Where it happens: two servers with fsync on, a large tenant among neighbours in shared tables of the first one.

use anyhow::{Context as _, Result, ensure};
use secrecy::SecretString;
use tenantry::TenantId;
use tenantry_core::Isolation;
use tenantry_ops::{BackupStore, Ops, ServerRequest, TenantRequest};
use tenantry_postgres::{Cluster, ClusterOptions};
use tenantry_wire::{Connection, Endpoint, Options};

use super::{
    super::{
        folder::Folder,
        world::{self, World, authority},
    },
    Sizes,
    mover::{Home, Mover},
};

/// Tenants beside the large one.
const NEIGHBOURS: usize = 4;
/// The table that holds a tenant's rows here.
pub(super) const TABLE: &str = "app.contacts";

/// A server of the fleet, with its shared tenant database.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) cluster: Cluster,
    pub(super) database: String,
}

/// The first server is where the large tenant lives between the lines.
pub(super) struct Site<'a> {
    pub(super) world: &'a World,
    pub(super) sizes: Sizes,
    pub(super) one: Place,
    pub(super) two: Place,
    pub(super) ops: Ops,
    pub(super) mover: Mover,
    pub(super) large: TenantId,
    pub(super) neighbours: Vec<TenantId>,
    /// For what lines write, and the servers: after those.
    pub(super) folder: Folder,
}

/// Where the large tenant is at home.
pub(super) const AT_HOME: Home = Home {
    isolation: Isolation::Shared,
    server: "moves-1",
};
/// Where it goes.
pub(super) const AWAY: Home = Home {
    isolation: Isolation::Schema,
    server: "moves-2",
};

impl<'a> Site<'a> {
    pub(super) async fn start(world: &'a World, sizes: Sizes) -> Result<Self> {
        let folder = Folder::make("tenantry-bench-moves")?;
        let backups = BackupStore::in_folder(&folder.path().join("backups"))?;
        let ops = world::ops_of(world, |fleet| {
            fleet.move_online_rows = sizes.online_rows;
            fleet.backups = Some(backups);
        });
        let (one, two) = tokio::try_join!(
            place(world, &ops, folder.path(), AT_HOME.server),
            place(world, &ops, folder.path(), AWAY.server)
        )?;
        let mover = Mover::start(world.catalog_url.clone(), ops.identity().clone(), ops.fleet().clone()).await?;
        let mut neighbours = Vec::new();
        for number in 0..NEIGHBOURS {
            let slug = format!("neighbour-{number}");
            neighbours.push(tenant(&ops, &one, &slug, sizes.neighbour_rows).await?);
        }
        let large = tenant(&ops, &one, "large", sizes.rows).await?;
        Ok(Self {
            world,
            sizes,
            one,
            two,
            ops,
            mover,
            large,
            neighbours,
            folder,
        })
    }

    /// Stops both servers and removes what is left of them.
    pub(super) async fn end(self) -> Result<()> {
        drop((self.mover, self.ops));
        self.one.cluster.stop().await?;
        Ok(self.two.cluster.stop().await?)
    }

    /// Another tenant in shared tables of the first server.
    pub(super) async fn tenant(&self, slug: &str, rows: i64) -> Result<TenantId> {
        tenant(&self.ops, &self.one, slug, rows).await
    }

    /// What was done before must not fall into the time of what is measured next: neither a checkpoint that is due, nor the clearing away
    /// of a million rows that a move has just deleted, which would keep one of few processors busy.
    pub(super) async fn settle(&self) -> Result<()> {
        for place in [&self.one, &self.two] {
            let mut admin = place.admin().await?;
            for statement in ["vacuum (analyze)", "checkpoint"] {
                admin.batch(statement).await?;
            }
        }
        Ok(())
    }
}

impl Place {
    /// As the superuser of its shared tenant database.
    pub(super) async fn admin(&self) -> Result<Connection> {
        let endpoint = Endpoint::from_url(&self.url())?;
        Ok(Connection::connect(endpoint.into(), &Options::default()).await?)
    }

    pub(super) fn url(&self) -> String {
        self.cluster.admin_url(&self.database)
    }
}

async fn place(world: &World, ops: &Ops, folder: &std::path::Path, name: &'static str) -> Result<Place> {
    let mut options = ClusterOptions::new(folder.join(name), world.cluster.binaries().clone());
    options.settings = [
        ("wal_level", "logical"),
        ("checkpoint_timeout", "1h"),
        ("max_wal_size", "8GB"),
        // What a figure says of one processor, one process has done.
        ("max_parallel_workers_per_gather", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let cluster = Cluster::start(options).await?;
    let server = ServerRequest {
        name: name.to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url: SecretString::from(cluster.admin_url("postgres")),
    };
    ops.add_server(&authority(), &server).await?;
    let client = ops.catalog().client().await?;
    let sql = "select d.name from tenant_database d join server s on s.id = d.server
                where s.name = $1 and d.kind = 'shared' and d.state = 'ready'";
    let database = client.query_one(sql, &[&name]).await?.get(0);
    Ok(Place {
        name,
        cluster,
        database,
    })
}

/// Makes a tenant and fills it, without the words of the search: they would be many times as many rows as it has.
async fn tenant(ops: &Ops, place: &Place, slug: &str, rows: i64) -> Result<TenantId> {
    let mut request = TenantRequest::new(slug.parse()?, slug.parse()?);
    request.isolation = Some(Isolation::Shared);
    request.server = Some(place.name.to_owned());
    let tenant = ops.create_tenant(&authority(), &request, None).await?.id;
    let mut admin = place.admin().await?;
    admin.batch("set session_replication_role = replica").await?;
    let filled = admin
        .query(
            &format!(
                "with made as (
                     insert into {TABLE} (tenant_id, name, email, phone, company, notes, created_at)
                     select $1::uuid, 'Person ' || n, 'person-' || n || '@example.com', '+41 44 000 00 00', 'Company ' || n % 50,
                            'Met at the fair, wants to hear from us in spring.', now() - n * interval '1 minute'
                     from generate_series(1, $2::int8) n returning 1)
                 select count(*) from made"
            ),
            &[tenant.as_uuid(), &rows],
        )
        .await?;
    let filled: i64 = filled.rows.first().context("no row")?.get(0)?;
    ensure!(filled == rows, "the tenant {slug} was not filled");
    admin.batch(&format!("vacuum (analyze) {TABLE}")).await?;
    Ok(tenant)
}
