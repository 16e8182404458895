//! What `tenantry serve` holds in memory with many tenants.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use secrecy::ExposeSecret;
use tenantry_core::{Role, TenantId};
use tenantry_ops::ApiKeyRequest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

use super::{
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    world::{World, authority},
};

const TENANTS: i64 = 100_000;
const ACTIVE: usize = 1000;
/// Requests of each active tenant.
const REQUESTS: usize = 3;
/// Connections of clients, held at once.
const CLIENTS: usize = 16;
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A server of its own with a hundred thousand tenants in the catalog, a thousand of which ask for something.
pub(super) async fn serve(run: &Run) -> Result<Finding> {
    let world = &run.world;
    let active = add_tenants(world).await?;
    let mut keys = Vec::new();
    for tenant in active {
        let request = ApiKeyRequest {
            name: "benchmark".to_owned(),
            role: Role::Member,
            expires_at: None,
        };
        let (_, key) = world.ops.create_api_key(&authority(), tenant, &request).await?;
        keys.push(key.expose_secret().to_owned());
    }
    let served = Served::start(world).await?;
    let before_kb = served.resident_kb()?;
    let mut clients = tokio::task::JoinSet::new();
    for mine in keys.chunks(keys.len().div_ceil(CLIENTS)) {
        let (mine, address) = (mine.to_vec(), served.address);
        clients.spawn(async move { ask(address, &mine).await });
    }
    while let Some(asked) = clients.join_next().await {
        asked??;
    }
    let after_kb = served.resident_kb()?;
    Ok(Finding::new(
        "memory",
        format!("resident memory of serve, {TENANTS} tenants in the catalog, {ACTIVE} of them active"),
        "–",
        Spread::of([after_kb / 1024.0]),
        Target::AtMost(150.0),
    )
    .unit("MB")
    .detail(format!("{:.1} MB before the first request", before_kb / 1024.0)))
}

/// Puts tenants into the catalog like one that was provisioned; gives those that will be active.
async fn add_tenants(world: &World) -> Result<Vec<TenantId>> {
    let client = world.ops.catalog().client().await?;
    let like = world.shared[0].id;
    client
        .execute(
            "insert into tenant (id, slug, slug_skeleton, name, plan, state)
             select gen_random_uuid(), 'many-' || n, 'many-' || n, 'Many ' || n, 'free', 'active'
             from generate_series(1, $1::int8) n",
            &[&TENANTS],
        )
        .await?;
    client
        .execute(
            "insert into placement (tenant, isolation, tenant_database, schema_name, epoch, ready)
             select t.id, p.isolation, p.tenant_database, p.schema_name, p.epoch, true
             from tenant t, placement p
             where t.slug like 'many-%' and p.tenant = $1",
            &[&like.as_uuid()],
        )
        .await?;
    let limit = i64::try_from(ACTIVE)?;
    let rows = client
        .query("select id from tenant where slug like 'many-%' limit $1", &[&limit])
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(ids.len() == ACTIVE, "the catalog has too few tenants");
    let mut admin = world.admin(&world.shared[0].database).await?;
    admin
        .query(
            "select tenantry.fence_register(id, 1, 0::int2) from unnest($1::uuid[]) id",
            &[&ids],
        )
        .await?;
    Ok(ids.into_iter().map(TenantId::from_uuid).collect())
}

/// Asks for the contacts of each key's tenant, over one connection.
async fn ask(address: SocketAddr, keys: &[String]) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut answer = Vec::new();
    for _ in 0..REQUESTS {
        for key in keys {
            let request =
                format!("GET /app/contacts HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            answer.clear();
            // The list is empty, so the answer is short and ends with its one object.
            while !answer.ends_with(b"}") {
                ensure!(
                    stream.read_buf(&mut answer).await? > 0,
                    "the server closed the connection"
                );
            }
            ensure!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
    Ok(())
}

/// A process of this very program that serves.
struct Served {
    process: Child,
    address: SocketAddr,
}

impl Served {
    async fn start(world: &World) -> Result<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
        let process = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", &address.to_string()])
            .env("TENANTRY_CATALOG_URL", &world.catalog_url)
            .env("TENANTRY_MASTER_KEY", "07".repeat(32))
            .env("TENANTRY_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .context("can't start `serve`")?;
        let mut served = Self { process, address };
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = served.process.try_wait()? {
                bail!("`serve` ended: {status}");
            }
            ensure!(Instant::now() < until, "`serve` did not start within {START_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(served)
    }

    fn resident_kb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .context("the system does not tell how much memory a process holds")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let figure = line.and_then(|line| line.split_whitespace().next());
        Ok(figure.context("the system does not tell resident memory")?.parse()?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It holds nothing that has to be kept.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
