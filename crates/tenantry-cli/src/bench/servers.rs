//! One server or two: the same arrivals for tenants that all live on one, and for tenants that are spread over both.

use std::sync::Arc;

use anyhow::Result;
use rand::{RngExt as _, rngs::ThreadRng};
use secrecy::SecretString;
use tenantry_ops::ServerRequest;
use tenantry_postgres::{Cluster, ClusterOptions};
use tenantry_wire::{Connection, Endpoint, Options};

use super::{
    crowd::{self, Crowd},
    folder::Folder,
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    tails::{self, Callee},
    world::{World, authority},
};

const ROUNDS_MAX: u32 = 5;
const NAME: &str = "servers-2";

/// Tenants on one server, and as many on two.
pub(super) async fn two(run: &Run, progress: &dyn Fn(&str)) -> Result<Finding> {
    progress("servers: making a second server");
    let second = Second::start(&run.world).await?;
    let measured = measure(run, &second, progress).await;
    second.cluster.stop().await?;
    measured
}

async fn measure(run: &Run, second: &Second, progress: &dyn Fn(&str)) -> Result<Finding> {
    let (world, sizes) = (&run.world, run.sizes);
    progress("servers: making the tenants");
    let first = crowd::place(world, &world.shared[0].database).await?;
    let other = crowd::place(world, &second.database).await?;
    let half = i64::try_from(sizes.tenants / 2)?;
    let of = |name: &'static str, tenants: i64| Crowd {
        name,
        tenants,
        rows: 10 * tenants,
        exponent: 1.0,
    };
    let all_on_one = crowd::settle(world, &first, of("alone", 2 * half)).await?;
    let mut spread = crowd::settle(world, &first, of("left", half)).await?;
    spread.extend(crowd::settle_by(world, &other, of("right", half), second.admin().await?).await?);
    // Each server has a budget, of which the world's own handle has a part.
    let client = world.ops.catalog().client().await?;
    let budget = i32::try_from(4 * sizes.budget)?;
    client.execute("update server set connections = $1", &[&budget]).await?;
    drop(client);
    let handle = tails::budgeted(world, sizes.budget)?;
    let on_one = tails::targets(&handle, &all_on_one).await?;
    let on_two = tails::targets(&handle, &spread).await?;
    progress("servers: saturation of one and of two");
    let most_on_one = tails::saturation(&on_one, sizes.budget, sizes.round).await?;
    let most_on_two = tails::saturation(&on_two, sizes.budget, sizes.round).await?;
    let rate = most_on_one / 2.0;
    progress("servers: arrivals");
    let (mut ratios, mut one_ms, mut two_ms, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..run.plan.rounds.clamp(1, ROUNDS_MAX) {
        let one = tails::arrive(rate, sizes.round, any_of(&on_one)).await?;
        let two = tails::arrive(rate, sizes.round, any_of(&on_two)).await?;
        failed += one.failed + two.failed;
        ratios.push(two.p99_ms / one.p99_ms);
        one_ms.push(one.p99_ms);
        two_ms.push(two.p99_ms);
    }
    Ok(Finding::new(
        "servers",
        format!(
            "p99 of {} tenants spread over two servers, which share this machine's processors",
            2 * half
        ),
        "the same arrivals on one server, at half of what it serves at most",
        Spread::of(ratios),
        Target::None,
    )
    .detail(format!(
        "{:.1} ms against {:.1} ms; {rate:.0}/s; {failed} calls not served; at most {most_on_two:.0}/s against {most_on_one:.0}/s",
        Spread::of(two_ms).median,
        Spread::of(one_ms).median,
    )))
}

fn any_of(targets: &[Arc<Callee>]) -> impl Fn(&mut ThreadRng) -> Arc<Callee> {
    move |random: &mut ThreadRng| Arc::clone(&targets[random.random_range(0..targets.len())])
}

/// A second server of the fleet, with its shared tenant database.
struct Second {
    cluster: Cluster,
    database: String,
    /// Where the server keeps its files: after it.
    _folder: Folder,
}

impl Second {
    async fn start(world: &World) -> Result<Self> {
        let folder = Folder::make("tenantry-bench-servers")?;
        let mut options = ClusterOptions::new(folder.path(), world.cluster.binaries().clone());
        // As the first one.
        options.settings = [
            ("max_connections", "300"),
            ("checkpoint_timeout", "1h"),
            ("max_wal_size", "4GB"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let cluster = Cluster::start(options).await?;
        let server = ServerRequest {
            name: NAME.to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: SecretString::from(cluster.admin_url("postgres")),
        };
        world.ops.add_server(&authority(), &server).await?;
        let client = world.ops.catalog().client().await?;
        let sql = "select d.name from tenant_database d join server s on s.id = d.server
                    where s.name = $1 and d.kind = 'shared' and d.state = 'ready'";
        let database = client.query_one(sql, &[&NAME]).await?.get(0);
        Ok(Self {
            cluster,
            database,
            _folder: folder,
        })
    }

    /// As the superuser of its shared tenant database.
    async fn admin(&self) -> Result<Connection> {
        let endpoint = Endpoint::from_url(&self.cluster.admin_url(&self.database))?;
        Ok(Connection::connect(Arc::new(endpoint), &Options::default()).await?)
    }
}
