//! What `dev` builds on its PostgreSQL: catalog, server, tenants with data, and what it tells of them.

use std::{
    net::SocketAddr,
    process,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tenantry::{Catalog, Tenantry};
use tenantry_catalog::{CATALOG_NAME, close_maintenance_databases, create_catalog, placement};
use tenantry_core::{OperatorScopes, SHARED_SCHEMA, TenantState};
use tenantry_ops::{
    FirstOwner, OperatorKeyRequest, Ops, Password, ServerRequest, Tenant, TenantError, TenantRef, TenantRequest,
};
use tenantry_postgres::Cluster;

use super::{
    Arguments, Running, RunningTenant,
    demo::{DEMOS, Demo},
    folder::Folder,
    master_key,
    state::{Login, State},
};
use crate::{
    command::serve,
    config::Config,
    connect::{self, authority},
    failure::Failure,
    password,
    progress::Progress,
    upgrade,
};

/// The private server's name in the fleet.
const SERVER: &str = "local";

/// Far more than preparing a server takes, the lease of a killed predecessor included.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What uses the private PostgreSQL, from when it first does: it has to end before that does, also where building the rest fails
/// or is called off.
#[derive(Default)]
pub(super) struct Users {
    ops: OnceLock<Ops>,
    tenantry: OnceLock<Tenantry>,
}

impl Users {
    /// Ends connections and whatever would open new ones.
    pub(super) async fn end(&self) {
        if let Some(ops) = self.ops.get() {
            // What a request began goes on in a task of its own; each step is short.
            let _ = tokio::time::timeout(OPERATIONS_END, ops.until_idle()).await;
        }
        if let Some(tenantry) = self.tenantry.get() {
            tenantry.close().await;
        }
        if let Some(ops) = self.ops.get() {
            ops.catalog().close();
        }
    }
}

/// How long operations are waited for; what is not done by then, the next start goes on with.
const OPERATIONS_END: Duration = Duration::from_secs(5);

/// Everything that runs.
pub(super) struct World {
    running: Running,
    served: serve::Running,
}

impl World {
    /// Builds what is missing, and starts the server.
    pub(super) async fn build(
        arguments: &Arguments,
        config: &Config,
        folder: &Folder,
        cluster: &Cluster,
        users: &Users,
        progress: &Progress,
    ) -> Result<Self, Failure> {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], arguments.port)),
            // A person waits for the prompt.
            drain_timeout: Duration::from_secs(5),
            ..config.clone()
        };
        // To try hosts out: `acme.localhost` names acme, and so does any other host with that first label.
        if config.domains.is_empty() {
            config.domains = vec!["*".to_owned()];
        }
        let mut state = State::read(folder)?;
        progress.step("opening the catalog");
        close_maintenance_databases(&cluster.admin_url("postgres")).await?;
        let catalog_url = catalog_url(cluster, folder, &mut state).await?;
        let catalog = Catalog::connect(&catalog_url, &master_key(folder)?).await?;
        let ops = connect::ops_on(catalog.clone(), &config)?;
        let _ = users.ops.set(ops.clone());
        // First of all the port, so that a taken one is told at once.
        let served = serve::start(&config, ops.clone(), catalog).await.map_err(|failure| {
            let port = arguments.port;
            Failure::failed(format!(
                "can't serve on port {port} (`--port 0` takes a free one): {failure}"
            ))
        })?;
        let _ = users.tenantry.set(served.tenantry.clone());
        progress.step("preparing the server");
        register(&ops, cluster).await?;
        bring_up_to_date(&ops).await?;
        let operator_key = operator_key(&ops, folder, &mut state).await?;
        progress.step("making tenants in shared tables, a schema and a database");
        make_tenants(&ops, folder, &mut state).await?;
        let tenants = running_tenants(&ops, &served, cluster, folder, &mut state, config.migrations.is_none()).await?;
        let shared = tenants.iter().find(|tenant| tenant.schema == SHARED_SCHEMA);
        let running = Running {
            http: format!("http://{}", served.server.address()),
            pid: process::id(),
            operator_key,
            admin_url: cluster.admin_url("postgres"),
            catalog_url,
            app_url: shared.map(|tenant| tenant.app_url.clone()).unwrap_or_default(),
            tenants,
        };
        Ok(Self { running, served })
    }

    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    /// Lets requests end; `hurry` ends the waiting.
    pub(super) async fn stop(self, hurry: impl Future<Output = ()>) -> Result<(), Failure> {
        self.served.stop(hurry).await
    }
}

/// The catalog's own role and database on the private server.
pub(super) async fn catalog_url(cluster: &Cluster, folder: &Folder, state: &mut State) -> anyhow::Result<String> {
    let password = state.catalog_password.get_or_insert_with(password::generate).clone();
    // Before the role gets it, so that it is never lost.
    state.write(folder)?;
    create_catalog(&cluster.admin_url("postgres"), &SecretString::from(password.clone())).await?;
    Ok(format!(
        "postgresql://{CATALOG_NAME}:{password}@{}:{}/{CATALOG_NAME}",
        cluster.host(),
        cluster.port()
    ))
}

/// Registers the private server; at later starts it may have another port.
pub(super) async fn register(ops: &Ops, cluster: &Cluster) -> anyhow::Result<()> {
    let admin_url = SecretString::from(cluster.admin_url("postgres"));
    let servers = ops.list_servers(&authority()).await?;
    if servers.iter().any(|server| server.name == SERVER) {
        ops.change_server_address(&authority(), SERVER, &admin_url).await?;
        return until_ready(ops).await;
    }
    let request = ServerRequest {
        name: SERVER.to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url,
    };
    ops.add_server(&authority(), &request).await?;
    Ok(())
}

/// A start that was killed may have left the server half prepared; the runner goes on with it when the lease ends.
async fn until_ready(ops: &Ops) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let problems = ops.check_server(&authority(), SERVER).await?.problems;
        if problems.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            anyhow::bail!("the private server is not ready: {}", problems.join("; "));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The private server runs: nothing here has to wait for a later time.
pub(super) async fn bring_up_to_date(ops: &Ops) -> Result<(), Failure> {
    let waiting = upgrade::bring_up_to_date(ops).await?;
    match waiting.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(format!("{}: start again", upgrade::told(&waiting)))),
    }
}

async fn operator_key(ops: &Ops, folder: &Folder, state: &mut State) -> anyhow::Result<String> {
    if let Some(key) = &state.operator_key {
        return Ok(key.clone());
    }
    // A start that was killed before it could write the key down has left one that nobody knows.
    let name = format!("dev-{}", uuid::Uuid::now_v7().simple());
    let request = OperatorKeyRequest {
        name,
        scopes: OperatorScopes::all(),
        expires_at: None,
    };
    let (_, key) = ops.create_operator_key(&authority(), &request).await?;
    let key = key.expose_secret().to_owned();
    state.operator_key = Some(key.clone());
    state.write(folder)?;
    Ok(key)
}

/// Makes the demo tenants that are missing, all at once. One that the user has deleted does not come back.
async fn make_tenants(ops: &Ops, folder: &Folder, state: &mut State) -> anyhow::Result<()> {
    for demo in &DEMOS {
        if state.login(demo.slug).is_none() {
            state.logins.push(Login::new(demo.slug, password::generate()));
        }
    }
    state.write(folder)?;
    let missing: Vec<&Demo> = DEMOS
        .iter()
        .filter(|demo| state.login(demo.slug).is_some_and(|login| !login.made))
        .collect();
    let mut making = tokio::task::JoinSet::new();
    for demo in missing {
        let request = request(demo, state)?;
        let ops = ops.clone();
        making.spawn(async move {
            // The same request with the same key is the same request: a start that was killed is gone on with.
            let key = format!("dev-{}", request.slug);
            let made = ops.create_tenant(&authority(), &request, Some(&key)).await;
            (request.slug, made)
        });
    }
    while let Some(joined) = making.join_next().await {
        let (slug, made) = joined?;
        made.with_context(|| format!("can't make the tenant {slug}"))?;
        state.change_login(slug.as_str(), |login| login.made = true);
        state.write(folder)?;
    }
    Ok(())
}

fn request(demo: &Demo, state: &State) -> anyhow::Result<TenantRequest> {
    let login = state.login(demo.slug).context("a demo tenant has no log-in")?;
    let email = demo.email.parse()?;
    let password = Password::new(login.password.clone(), &email)?;
    let mut request = TenantRequest::new(demo.slug.parse()?, demo.name.parse()?);
    request.isolation = Some(demo.isolation);
    request.admin = Some(FirstOwner {
        email,
        name: Some(demo.person.parse()?),
        password: Some(password),
    });
    Ok(request)
}

/// The demo tenants that are served, filled with data once where the CRM is the application.
async fn running_tenants(
    ops: &Ops,
    served: &serve::Running,
    cluster: &Cluster,
    folder: &Folder,
    state: &mut State,
    crm: bool,
) -> anyhow::Result<Vec<RunningTenant>> {
    let mut running = Vec::new();
    for demo in &DEMOS {
        let tenant = match ops
            .get_tenant(&authority(), &TenantRef::Slug(demo.slug.to_owned()))
            .await
        {
            Ok(tenant) if tenant.state == TenantState::Active => tenant,
            Ok(_) | Err(TenantError::NotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        if crm && state.login(demo.slug).is_some_and(|login| !login.filled) {
            let scope = served.tenantry.system_context(tenant.id, "demo data").await?;
            demo.fill(&scope)
                .await
                .with_context(|| format!("can't fill the tenant {}", demo.slug))?;
            state.change_login(demo.slug, |login| login.filled = true);
            state.write(folder)?;
        }
        running.push(shown(ops.catalog(), cluster, &tenant, demo, state).await?);
    }
    Ok(running)
}

async fn shown(
    catalog: &Catalog,
    cluster: &Cluster,
    tenant: &Tenant,
    demo: &Demo,
    state: &State,
) -> anyhow::Result<RunningTenant> {
    let client = catalog.client().await?;
    let located = placement::locate(catalog, &client, tenant.id)
        .await?
        .context("the tenant has no place")?;
    // Role, password and database are of letters, digits and underscores: we made them.
    let app_url = format!(
        "postgresql://{}:{}@{}:{}/{}",
        located.database.app_role,
        located.secrets.app_password.expose_secret(),
        cluster.host(),
        cluster.port(),
        located.database.name
    );
    Ok(RunningTenant {
        id: tenant.id,
        slug: tenant.slug.to_string(),
        isolation: demo.isolation,
        email: demo.email.to_owned(),
        password: state
            .login(demo.slug)
            .map(|login| login.password.clone())
            .unwrap_or_default(),
        app_url,
        schema: located.placement.schema,
    })
}
