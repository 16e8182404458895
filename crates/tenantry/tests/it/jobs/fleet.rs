//! Jobs beside a real catalog: whose account asked, with the role it has when the job runs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use tenantry::{
    AccountId, Actor, Catalog, Credentials, MasterKey, PoolConfig, ResolverConfig, Role, Scope, TenantId, Tenantry,
    jobs::{Enqueue, Failure, Job, JobState, Run, Schedule, Worker},
};
use tenantry_core::{ApiKeyId, Email, Isolation};
use tenantry_engine::migrate::Files;
use tenantry_ops::{
    ApiKeyRequest, Authority, FleetConfig, IdentityConfig, Login, NewMember, Ops, Origin, Password, ServerRequest,
    TenantRequest,
};
use tenantry_testing::{TestCluster, TestDatabase};
use tokio::sync::{oneshot, watch};

use super::{jobs_left, work, worker};

const KEY: [u8; 32] = [7; 32];
const ISSUER: &str = "https://tenantry.test";
const PASSWORD: &str = "correct horse battery";

/// A catalog, a server and a tenant of each isolation.
pub(crate) struct Fleet {
    pub(crate) ops: Ops,
    pub(crate) tenantry: Tenantry,
    pub(crate) tenants: Vec<TenantId>,
    // Dropped last: what reaches it ends before.
    pub(crate) catalog: TestDatabase,
}

pub(crate) async fn catalog_at(url: &str) -> Catalog {
    Catalog::connect(url, &MasterKey::from_bytes(KEY)).await.unwrap()
}

/// As another process would have it.
pub(crate) async fn handle_at(url: &str) -> Tenantry {
    let pool = PoolConfig {
        connections_max: 8,
        ..PoolConfig::default()
    };
    Tenantry::on_catalog(catalog_at(url).await, ResolverConfig::new(ISSUER, ISSUER), pool).unwrap()
}

pub(crate) fn system() -> Authority {
    Authority::system("test")
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        Self::on(tenantry_testing::cluster().await).await
    }

    pub(crate) async fn on(cluster: &TestCluster) -> Self {
        let migration =
            "create table done (n bigint generated always as identity primary key, job int not null, note text);";
        Self::with(cluster, &[("0001_done.sql", migration)]).await
    }

    /// With an application's own tables.
    pub(crate) async fn with(cluster: &TestCluster, migrations: &[(&'static str, &'static str)]) -> Self {
        let catalog = tenantry_testing::database_on(cluster).await;
        let mut config = FleetConfig::default();
        config.migrations = Some(Arc::new(Files::from_embedded(migrations.iter().copied()).unwrap()));
        let ops = Ops::with_fleet(
            catalog_at(&catalog.url()).await,
            IdentityConfig::new(ISSUER, ISSUER),
            config,
        );
        ops.ensure_signing_keys().await.unwrap();
        let server = ServerRequest {
            name: "one".to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: cluster.admin_url("postgres").into(),
        };
        ops.add_server(&system(), &server).await.unwrap();
        let mut tenants = Vec::new();
        for isolation in Isolation::ALL {
            let slug = format!("acme-{isolation}");
            let mut request = TenantRequest::new(slug.parse().unwrap(), slug.parse().unwrap());
            request.isolation = Some(isolation);
            tenants.push(ops.create_tenant(&system(), &request, None).await.unwrap().id);
        }
        let tenantry = handle_at(&catalog.url()).await;
        Self {
            ops,
            tenantry,
            tenants,
            catalog,
        }
    }

    pub(crate) async fn scope(&self, n: usize) -> Scope {
        self.tenantry.system_context(self.tenants[n], "test").await.unwrap()
    }

    /// A person who is a member, and their scope.
    async fn member(&self, n: usize, email: &str, role: Role) -> (AccountId, Scope) {
        let email: Email = email.parse().unwrap();
        let new = NewMember {
            password: Some(Password::new(PASSWORD, &email).unwrap()),
            email: email.clone(),
            name: None,
            role,
        };
        let account = self
            .ops
            .add_member(&system(), self.tenants[n], &new)
            .await
            .unwrap()
            .account;
        let tenant = format!("acme-{}", Isolation::ALL[n]);
        let login = Login {
            email: email.as_str(),
            password: PASSWORD.into(),
            tenant: Some(&tenant),
            origin: Origin::default(),
        };
        let token = self.ops.login(&login).await.unwrap().access_token;
        (account, self.scope_of(token.expose_secret()).await)
    }

    /// An API key, and its scope.
    async fn api_key(&self, n: usize, name: &str, role: Role) -> (ApiKeyId, Scope) {
        let request = ApiKeyRequest {
            name: name.to_owned(),
            role,
            expires_at: None,
        };
        let (key, text) = self
            .ops
            .create_api_key(&system(), self.tenants[n], &request)
            .await
            .unwrap();
        (key.id, self.scope_of(text.expose_secret()).await)
    }

    /// As whoever shows this.
    async fn scope_of(&self, credential: &str) -> Scope {
        let bearer = format!("Bearer {credential}");
        let credentials = Credentials {
            authorization: Some(bearer.as_str()).into(),
            host: None::<&str>.into(),
            tenant: None::<&str>.into(),
            forwarded_host: None::<&str>.into(),
            peer: None,
        };
        let verified = self.tenantry.resolve(&credentials).await.unwrap();
        self.tenantry.scope(verified)
    }

    /// Makes every schedule of a tenant's database due a second ago.
    async fn make_due(&self, n: usize) {
        let scope = self.scope(n).await;
        let row = scope.query_one("select current_database()", &[]).await.unwrap();
        let database: String = row.get(0).unwrap();
        let admin = tenantry_testing::cluster().await.connect(&database).await;
        let sql = "update tenantry_private.schedule
                      set next_at = clock_timestamp() - interval '1 s', dealt_at = clock_timestamp() - interval '2 s'";
        admin.execute(sql, &[]).await.unwrap();
    }
}

/// Says as whom it was done.
#[derive(serde::Serialize, serde::Deserialize)]
struct Whoami {}

impl Job for Whoami {
    const KIND: &'static str = "whoami";
}

type Seen = Arc<Mutex<Vec<(Option<AccountId>, Role)>>>;

fn who(tenantry: &Tenantry, seen: &Seen) -> Worker {
    let seen = seen.clone();
    worker(tenantry).handle(move |run: Run, _: Whoami| {
        let context = run.scope().context();
        seen.lock().push((context.account(), context.role));
        async { Ok::<(), Failure>(()) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_with_the_role_that_its_account_has_by_then() {
    let fleet = Fleet::start().await;
    for n in 0..3 {
        let tenant = fleet.tenants[n];
        let (ann, of_ann) = fleet.member(n, &format!("ann-{n}@example.com"), Role::Admin).await;
        let (bob, of_bob) = fleet.member(n, &format!("bob-{n}@example.com"), Role::Member).await;
        let (eve, of_eve) = fleet.member(n, &format!("eve-{n}@example.com"), Role::Member).await;
        let (joe, of_joe) = fleet.member(n, &format!("joe-{n}@example.com"), Role::Member).await;
        for scope in [&of_ann, &of_bob, &of_eve, &of_joe] {
            scope.enqueue(&Whoami {}).await.unwrap();
        }
        let set = async |account, role| {
            fleet
                .ops
                .set_member_role(&system(), tenant, account, role)
                .await
                .unwrap()
        };
        set(ann, Role::Member).await;
        set(bob, Role::Owner).await;
        set(joe, Role::Viewer).await;
        fleet.ops.remove_member(&system(), tenant, eve).await.unwrap();
        fleet.tenantry.resolver().unwrap().catch_up().await.unwrap();

        let scope = fleet.scope(n).await;
        let seen = Seen::default();
        work(who(&fleet.tenantry, &seen), async || {
            jobs_left(&scope, &[JobState::Dead]).await == 2 && seen.lock().len() == 2
        })
        .await;
        let mut seen = seen.lock().clone();
        seen.sort_by_key(|(account, _)| *account);
        // Never more than it was, never more than it is.
        let mut expected = vec![(Some(ann), Role::Member), (Some(bob), Role::Member)];
        expected.sort_by_key(|(account, _)| *account);
        assert_eq!(seen, expected);
        let dead = scope.jobs(&[JobState::Dead], None, 10).await.unwrap();
        let why = |account| {
            let job = dead.iter().find(|job| job.account == Some(account)).unwrap();
            job.error.clone().unwrap()
        };
        assert!(why(eve).contains("no member of the tenant any more"), "{}", why(eve));
        assert!(why(joe).contains("may not write any more"), "{}", why(joe));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_goes_on_as_who_set_it_until_that_person_leaves() {
    let fleet = Fleet::start().await;
    let (ann, of_ann) = fleet.member(0, "ann@example.com", Role::Admin).await;
    let nightly = Schedule::new("0 3 * * *").unwrap();
    of_ann.set_schedule("nightly", &nightly, &Whoami {}).await.unwrap();
    let scope = fleet.scope(0).await;
    assert_eq!(scope.schedules().await.unwrap()[0].account, Some(ann));
    let seen = Seen::default();
    fleet.make_due(0).await;
    work(who(&fleet.tenantry, &seen), async || seen.lock().len() == 1).await;
    assert_eq!(*seen.lock(), [(Some(ann), Role::Admin)]);
    fleet.ops.remove_member(&system(), fleet.tenants[0], ann).await.unwrap();
    fleet.tenantry.resolver().unwrap().catch_up().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1010)).await;
    fleet.make_due(0).await;
    work(who(&fleet.tenantry, &seen), async || {
        jobs_left(&scope, &[JobState::Dead]).await == 1
    })
    .await;
    assert_eq!(seen.lock().len(), 1);
}

/// Says as whom it was done, where keys ask.
fn whom(tenantry: &Tenantry, seen: &Arc<Mutex<Vec<(Actor, Role)>>>) -> Worker {
    let seen = seen.clone();
    worker(tenantry).handle(move |run: Run, _: Whoami| {
        let context = run.scope().context();
        seen.lock().push((context.actor.clone(), context.role));
        async { Ok::<(), Failure>(()) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_api_key_runs_with_the_role_that_the_key_has_by_then() {
    let fleet = Fleet::start().await;
    for n in 0..3 {
        let (kept, of_kept) = fleet.api_key(n, "kept", Role::Admin).await;
        let (lowered, of_lowered) = fleet.api_key(n, "lowered", Role::Admin).await;
        let (revoked, of_revoked) = fleet.api_key(n, "revoked", Role::Admin).await;
        let (expired, of_expired) = fleet.api_key(n, "expired", Role::Admin).await;
        of_kept.enqueue(&Whoami {}).await.unwrap();
        of_lowered.enqueue(&Whoami {}).await.unwrap();
        of_expired.enqueue(&Whoami {}).await.unwrap();
        // Travels with the commit, and so by another statement.
        of_revoked
            .transaction::<_, tenantry::Error, _>(async |tx| tx.enqueue(&Whoami {}).await)
            .await
            .unwrap();
        fleet
            .ops
            .revoke_api_key(&system(), fleet.tenants[n], revoked)
            .await
            .unwrap();
        let catalog = fleet.catalog.connect().await;
        let lower = "update tenantry_catalog.api_key set role = 'member' where id = $1";
        assert_eq!(catalog.execute(lower, &[lowered.as_uuid()]).await.unwrap(), 1);
        let expire = "update tenantry_catalog.api_key set expires_at = now() - interval '1 s' where id = $1";
        assert_eq!(catalog.execute(expire, &[expired.as_uuid()]).await.unwrap(), 1);
        fleet.tenantry.resolver().unwrap().catch_up().await.unwrap();

        let scope = fleet.scope(n).await;
        let seen = Arc::default();
        work(whom(&fleet.tenantry, &seen), async || {
            jobs_left(&scope, &[JobState::Dead]).await == 2 && seen.lock().len() == 2
        })
        .await;
        let seen = seen.lock().clone();
        for expected in [
            (Actor::ApiKey(kept), Role::Admin),
            (Actor::ApiKey(lowered), Role::Member),
        ] {
            assert!(seen.contains(&expected), "{expected:?} is not among {seen:?}");
        }
        for dead in scope.jobs(&[JobState::Dead], None, 10).await.unwrap() {
            let error = dead.error.unwrap();
            assert!(error.contains("the API key that enqueued it was revoked"), "{error}");
        }
    }
}

/// Who lacks what the installation requires is not served; the others of its database are, be it the one by which a worker would find that
/// or not.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_others_are_done_while_a_tenant_of_their_database_is_behind() {
    let fleet = Fleet::start().await;
    let catalog = fleet.catalog.connect().await;
    let databases = "select count(distinct tenant_database) from tenantry_catalog.placement where tenant in ($1, $2)";
    let of_two = catalog
        .query_one(databases, &[fleet.tenants[0].as_uuid(), fleet.tenants[1].as_uuid()])
        .await
        .unwrap();
    assert_eq!(of_two.get::<_, i64>(0), 1);
    let require = "update tenantry_catalog.installation set schema_version_min = 2";
    catalog.execute(require, &[]).await.unwrap();
    for served in [0, 1] {
        let migrate = "insert into tenantry_catalog.app_migration (tenant_database, schema_name, version, name, checksum)
                       select tenant_database, schema_name, 2, 'later', 'later' from tenantry_catalog.placement where tenant = $1";
        let migrated = catalog.execute(migrate, &[fleet.tenants[served].as_uuid()]).await;
        assert_eq!(migrated.unwrap(), 1);
        let tenantry = handle_at(&fleet.catalog.url()).await;
        let scope = tenantry.system_context(fleet.tenants[served], "test").await.unwrap();
        scope.enqueue(&Whoami {}).await.unwrap();
        let seen = Seen::default();
        work(who(&tenantry, &seen), async || seen.lock().len() == 1).await;
        let behind = "delete from tenantry_catalog.app_migration where version = 2";
        assert_eq!(catalog.execute(behind, &[]).await.unwrap(), 1);
    }
}

/// Also where nobody else lives in its database: it is given back there, and the one attempt that it has is not counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_costs_a_job_that_runs_no_attempt() {
    let fleet = Fleet::start().await;
    // In shared tables, and in a database of its own.
    for n in [0, 2] {
        let tenant = fleet.tenants[n].into();
        let scope = fleet.scope(n).await;
        let once = Enqueue::new().attempts_max(1);
        scope.enqueue_with(&Whoami {}, once).await.unwrap();
        let (begun, mut has_begun) = watch::channel(0);
        let (suspended, is_suspended) = watch::channel(false);
        let handler = move |run: Run, _: Whoami| {
            begun.send_modify(|times| *times += 1);
            let mut is_suspended = is_suspended.clone();
            async move {
                let _ = is_suspended.wait_for(|so| *so).await;
                run.execute("insert into done (job, note) values (1, 'suspended')", &[])
                    .await?;
                Ok::<(), Failure>(())
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(worker(&fleet.tenantry).handle(handler).run(async {
            let _ = stopped.await;
        }));
        has_begun.wait_for(|times| *times == 1).await.unwrap();
        fleet.ops.suspend_tenant(&system(), &tenant).await.unwrap();
        suspended.send_replace(true);
        // Longer than a lease that nobody keeps, and than the worker goes on without looking who is served.
        tokio::time::sleep(Duration::from_secs(3)).await;
        fleet.ops.resume_tenant(&system(), &tenant).await.unwrap();
        let begun = Instant::now();
        loop {
            // Until this process has heard of it, it is told that the tenant is suspended.
            if let Ok(jobs) = scope.jobs(&super::ALL, None, 10).await {
                for job in &jobs {
                    assert_ne!(job.state, JobState::Dead, "{:?}", job.error);
                }
                if jobs.is_empty() {
                    break;
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the job is not begun anew");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.send(()).unwrap();
        let report = running.await.unwrap();
        assert_eq!((report.done, report.failed, report.lost), (1, 0, 0), "{n}: {report:?}");
        assert!(report.given_back >= 1, "{n}: {report:?}");
        let done = scope.query_one("select count(*) from done", &[]).await.unwrap();
        let done: i64 = done.get(0).unwrap();
        assert_eq!(done, 1, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_of_an_api_key_ends_with_the_key() {
    let fleet = Fleet::start().await;
    let (key, of_key) = fleet.api_key(0, "nightly", Role::Admin).await;
    let nightly = Schedule::new("0 3 * * *").unwrap();
    of_key.set_schedule("nightly", &nightly, &Whoami {}).await.unwrap();
    let scope = fleet.scope(0).await;
    let seen = Arc::default();
    fleet.make_due(0).await;
    work(whom(&fleet.tenantry, &seen), async || seen.lock().len() == 1).await;
    assert_eq!(*seen.lock(), [(Actor::ApiKey(key), Role::Admin)]);
    // The key was asked after once, so what was kept of it has to go.
    fleet
        .ops
        .revoke_api_key(&system(), fleet.tenants[0], key)
        .await
        .unwrap();
    fleet.tenantry.resolver().unwrap().catch_up().await.unwrap();
    // A due time has whole seconds, and each makes one job.
    tokio::time::sleep(Duration::from_millis(1010)).await;
    fleet.make_due(0).await;
    work(whom(&fleet.tenantry, &seen), async || {
        jobs_left(&scope, &[JobState::Dead]).await == 1
    })
    .await;
    assert_eq!(seen.lock().len(), 1);
    let dead = scope.jobs(&[JobState::Dead], None, 10).await.unwrap().remove(0);
    assert!(dead.error.unwrap().contains("the API key that enqueued it was revoked"));
}
