//! After a purge: canaries that were in every column of everything, looked for everywhere, down to the bytes on the disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use tenantry_catalog::placement;
use tenantry_core::{Email, Isolation, TenantId};
use tenantry_ops::{
    BackupStore, Beside, Certificate, CertificateError, ErasureError, ErasureRequest, FirstOwner, FleetConfig,
    Password, Tenant, Verdict,
};
use tenantry_testing::{TestFolder, cluster, test_folder};
use tokio_postgres::{Client, NoTls};

use crate::fleet::{Fleet, config, operator, request};

/// A folder for each tenant.
#[derive(Debug)]
struct Folders(PathBuf);

impl Folders {
    fn of(&self, tenant: TenantId) -> PathBuf {
        self.0.join(tenant.to_string())
    }
}

#[async_trait]
impl Beside for Folders {
    fn name(&self) -> &'static str {
        "folders"
    }

    async fn purge(&self, tenant: TenantId) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match std::fs::remove_dir_all(self.of(tenant)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn count(&self, tenant: TenantId) -> Result<Option<u64>, Box<dyn std::error::Error + Send + Sync>> {
        if self.0.join("away").exists() {
            return Err("the store is away".into());
        }
        Ok(Some(
            std::fs::read_dir(self.of(tenant)).map_or(0, Iterator::count) as u64
        ))
    }
}

struct World {
    fleet: Fleet,
    beside: TestFolder,
    backups: TestFolder,
}

impl World {
    async fn start() -> Self {
        let (beside, backups) = (test_folder(), test_folder());
        let mut config: FleetConfig = config();
        config.besides.push(Arc::new(Folders(beside.path().to_owned())));
        config.backups = Some(BackupStore::in_folder(backups.path()).unwrap());
        Self {
            fleet: Fleet::start_with(config).await,
            beside,
            backups,
        }
    }

    /// A tenant with a canary in every column that can hold one, of everything there is.
    async fn planted(&self, slug: &str, isolation: Isolation, canary: &str) -> Tenant {
        let mut wish = request(slug, isolation);
        wish.name = format!("{canary} company").parse().unwrap();
        wish.settings = Some(serde_json::json!({ "note": canary }));
        wish.profile.address = canary.to_owned();
        wish.profile.website = format!("https://{canary}.example");
        let email: Email = format!("{canary}@example.com").parse().unwrap();
        wish.admin = Some(FirstOwner {
            password: Some(Password::new("a long password", &email).unwrap()),
            name: Some(canary.parse().unwrap()),
            email,
        });
        let ops = &self.fleet.ops;
        let tenant = ops
            .create_tenant(&operator(), &wish, Some(&format!("key {canary}")))
            .await
            .unwrap();
        let bound = self.fleet.enter(tenant.id).await.unwrap();
        bound
            .execute(
                "insert into contacts (email, name)
                 select $1::text || n || '@example.com', $1 || n from generate_series(1, 300) as n",
                &[&canary],
            )
            .await
            .unwrap();
        bound
            .execute(
                "insert into notes (contact, text) select id, repeat($1::text || ' ', 5) from contacts",
                &[&canary],
            )
            .await
            .unwrap();
        let home = self.administrator(tenant.id).await;
        let (id, text) = (tenant.id.as_uuid(), format!("{{\"note\": \"{canary}\"}}"));
        for state in ["0", "2", "3"] {
            home.execute(
                "insert into tenantry_private.job (tenant, id, kind, payload, role, state, priority, run_at, attempts_max, unique_key,
                                                   worker, error, kid, mac)
                 values ($1, gen_random_uuid(), $3, $2, 0, $4::text::int2, 0, now(), 1, $3 || $4::text, $3, $3, 1, '\\x00')",
                &[id, &text, &canary, &state],
            )
            .await
            .unwrap();
        }
        home.execute(
            "insert into tenantry_private.schedule (tenant, everyone, name, cron, zone, missed, kind, payload, role, priority, attempts_max,
                                                    broken, kid, mac)
             values ($1, false, $3, '0 0 * * *', 'UTC', 0, $3, $2, 0, 0, 1, $3, 1, '\\x00')",
            &[id, &text, &canary],
        )
        .await
        .unwrap();
        home.execute(
            "insert into tenantry_private.history (tenant, id, at, table_name, row_key, act, old, new)
             values ($1, gen_random_uuid(), now(), 'contacts', jsonb_build_object('id', $2::text), 'update',
                     jsonb_build_object('name', $2::text), jsonb_build_object('name', $2::text))",
            &[id, &canary],
        )
        .await
        .unwrap();
        // So that there are samples of them.
        home.batch_execute("analyze").await.unwrap();
        let catalog = ops.catalog().client().await.unwrap();
        for sql in [
            "insert into usage_day (tenant, day, requests, rows) values ($1, current_date, 7, jsonb_build_object($2::text, 1))",
            "insert into plan_excess (tenant, limit_name, quota, used) values ($1, $2, 1, 2)",
            "insert into session (id, account, tenant, origin, expires_at)
             select gen_random_uuid(), account, $1, $2, now() + interval '1 day' from membership where tenant = $1",
            "insert into api_key (id, tenant, name, role, hash, created_by)
             values (gen_random_uuid(), $1, $2, 'viewer', sha256(convert_to($2, 'UTF8')), $2)",
            "update operation set input = jsonb_build_object('asked', $2::text), error = $2 where tenant = $1",
            "insert into overlay_base (slug, version, checksum, fleet_version) select slug, 1, $2, 1 from tenant where id = $1",
        ] {
            catalog
                .execute(sql, &[id, &canary])
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        let folder = self.beside.path().join(tenant.id.to_string());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), canary).unwrap();
        ops.create_backup(&operator(), &tenant.id.into()).await.unwrap();
        let day = Some(Duration::from_secs(86_400));
        ops.set_backup_schedule(&operator(), &tenant.id.into(), day)
            .await
            .unwrap();
        tenant
    }

    /// The administrator's connection to the tenant's database.
    async fn administrator(&self, tenant: TenantId) -> Client {
        let catalog = self.fleet.ops.catalog();
        let client = catalog.client().await.unwrap();
        let home = placement::locate(catalog, &client, tenant).await.unwrap().unwrap();
        let mut config: tokio_postgres::Config = home.admin_url.expose_secret().parse().unwrap();
        config.dbname(&home.database.name);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn purge(&self, tenant: TenantId) -> Certificate {
        let ops = &self.fleet.ops;
        ops.delete_tenant(&operator(), &tenant.into()).await.unwrap();
        ops.purge_tenant(&operator(), &tenant.into()).await.unwrap();
        ops.find_erasure(&operator(), &tenant.into()).await.unwrap().certificate
    }

    async fn certify(&self, tenant: TenantId, request: &ErasureRequest) -> Certificate {
        let made = self
            .fleet
            .ops
            .certify_erasure(&operator(), &tenant.into(), request)
            .await;
        made.unwrap().certificate
    }
}

/// As deep as it goes.
fn deepest(canary: &str) -> ErasureRequest {
    let mut request = ErasureRequest::default();
    request.texts = vec![canary.to_owned()];
    request.all_databases = true;
    request.rewrite = true;
    request.read_files = true;
    request
}

/// What is left, and what could not be looked at.
fn wrong(certificate: &Certificate) -> Vec<String> {
    let places = &certificate.places;
    let left = places
        .iter()
        .flat_map(|place| place.left().map(move |trace| format!("{}: {}", place.name, trace.what)));
    let unseen = places.iter().flat_map(|place| place.not_looked_at.iter().cloned());
    left.chain(unseen).collect()
}

/// Which files below a folder hold a text. What holds a test's folder is a pipe, and no file.
fn on_disk(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(on_disk(&path, text));
        } else if path.is_file() && std::fs::read(&path).is_ok_and(|bytes| memory_holds(&bytes, text.as_bytes())) {
            found.push(path);
        }
    }
    found
}

fn memory_holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// The folder of the database in which tenants' rows stand side by side.
async fn folder_of(client: &Client) -> PathBuf {
    let row = client
        .query_one(
            "select current_setting('data_directory') || '/base/' || oid from pg_database where datname = current_database()",
            &[],
        )
        .await
        .unwrap();
    PathBuf::from(row.get::<_, String>(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_canaries_in_every_column_of_everything_a_purge_leaves_the_record_only() {
    let world = World::start().await;
    let neighbour = world.planted("neighbour", Isolation::Shared, "canary5neighbour").await;
    let shared = world.fleet.shared_admin().await;
    let folder = folder_of(&shared).await;
    for isolation in Isolation::ALL {
        let canary = format!("canary7of{isolation}");
        let tenant = world.planted(&format!("gone-{isolation}"), isolation, &canary).await;
        let certificate = world.purge(tenant.id).await;
        assert_eq!(
            certificate.verdict,
            Verdict::Erased,
            "{isolation}: {:?}",
            wrong(&certificate)
        );
        assert_eq!(
            (certificate.tenant, certificate.slug.as_str()),
            (tenant.id, tenant.slug.as_str())
        );
        // What was dropped with the rows is counted, also where the whole database went.
        let removed = certificate.removed.unwrap();
        assert_eq!(
            (removed.jobs, removed.schedules, removed.history),
            (3, 1, Some(1)),
            "{isolation}"
        );
        if isolation == Isolation::Shared {
            // Deleted and vacuumed, no query finds it; but pages keep the bytes of what they no longer list.
            shared.batch_execute("checkpoint").await.unwrap();
            assert_ne!(
                on_disk(&folder, &canary),
                Vec::<PathBuf>::new(),
                "so that what follows shows something"
            );
        }
        let certificate = world.certify(tenant.id, &deepest(&canary)).await;
        assert_eq!(
            certificate.removed,
            Some(removed),
            "{isolation}: whoever looks later says the same"
        );
        assert_eq!(
            certificate.verdict,
            Verdict::Erased,
            "{isolation}: {:?}",
            wrong(&certificate)
        );
        // And with other eyes than its own.
        shared.batch_execute("checkpoint").await.unwrap();
        assert_eq!(on_disk(&folder, &canary), Vec::<PathBuf>::new(), "{isolation}");
        for folder in [&world.beside, &world.backups] {
            assert_eq!(on_disk(folder.path(), &canary), Vec::<PathBuf>::new(), "{isolation}");
            assert!(!folder.path().join(tenant.id.to_string()).exists(), "{isolation}");
        }
        let kept: Vec<&str> = certificate
            .places
            .iter()
            .flat_map(|place| &place.found)
            .map(|trace| trace.what.as_str())
            .collect();
        for record in ["audit_log", "tenant", "operation"] {
            assert!(kept.contains(&record), "{isolation}: {kept:?}");
        }
        // The log of changes has it as long as it is kept: that is said, and not looked at.
        assert!(certificate.not_shown.iter().any(|one| one.contains("WAL")));
    }
    // Whoever stood beside has everything.
    assert_eq!(world.fleet.emails(neighbour.id).await.len(), 301);
    let refused = world
        .fleet
        .ops
        .certify_erasure(&operator(), &neighbour.id.into(), &ErasureRequest::default())
        .await;
    assert!(matches!(refused, Err(ErasureError::State { .. })), "{refused:?}");
}

/// A leftover in one place: how it comes there, and how it goes again.
struct Leftover {
    /// On the catalog, or on the shared tenant database.
    catalog: bool,
    plant: &'static str,
    remove: &'static str,
    told: &'static str,
}

const fn left(catalog: bool, plant: &'static str, remove: &'static str, told: &'static str) -> Leftover {
    Leftover {
        catalog,
        plant,
        remove,
        told,
    }
}

/// With `$1` for the tenant's id and `$2` for a canary.
const LEFTOVERS: &[Leftover] = &[
    left(
        false,
        "insert into app.contacts (tenant_id, email, name) values ('$1', 'x', 'y')",
        "delete from app.contacts where tenant_id = '$1'",
        "app.contacts",
    ),
    left(
        false,
        "insert into tenantry_private.history (tenant, id, at, table_name, row_key, act)
         values ('$1', gen_random_uuid(), now(), 'contacts', '{}', 'delete')",
        "delete from tenantry_private.history where tenant = '$1'",
        "tenantry_private.history",
    ),
    left(
        false,
        "insert into tenantry_private.job (tenant, id, kind, payload, role, state, priority, run_at, attempts_max, kid, mac)
         values ('$1', gen_random_uuid(), 'k', '{}', 0, 2, 0, now(), 1, 1, '\\x00')",
        "delete from tenantry_private.job where tenant = '$1'",
        "tenantry_private.job",
    ),
    left(
        false,
        "insert into tenantry_private.schedule (tenant, everyone, name, cron, zone, missed, kind, payload, role, priority, attempts_max, kid, mac)
         values ('$1', false, 'n', '0 0 * * *', 'UTC', 0, 'k', '{}', 0, 0, 1, 1, '\\x00')",
        "delete from tenantry_private.schedule where tenant = '$1'",
        "tenantry_private.schedule",
    ),
    left(
        false,
        "insert into tenantry_private.migration_tenant (schema, version, tenant) values ('app', 99, '$1')",
        "delete from tenantry_private.migration_tenant where tenant = '$1'",
        "tenantry_private.migration_tenant",
    ),
    left(
        false,
        "insert into tenantry_private.migration (schema, version, name, checksum, engine_version, duration_ms)
         values ('t_' || replace('$1', '-', ''), 99, 'n', 'c', 'e', 1)",
        "delete from tenantry_private.migration where version = 99",
        "tenantry_private.migration",
    ),
    left(
        false,
        "do $$ begin execute 'create schema t_' || replace('$1', '-', ''); end $$",
        "do $$ begin execute 'drop schema t_' || replace('$1', '-', ''); end $$",
        "schema t_",
    ),
    // Another tenant's row that holds what was this one's.
    left(
        false,
        "insert into app.contacts (tenant_id, email, name) values ('00000000-0000-7000-8000-000000000001', 'x', 'by $2 once')",
        "delete from app.contacts where name = 'by $2 once'",
        "app.contacts",
    ),
    left(
        true,
        "insert into usage_day (tenant, day) values ('$1', current_date)",
        "delete from usage_day where tenant = '$1'",
        "usage_day",
    ),
    left(
        true,
        "insert into plan_excess (tenant, limit_name, quota, used) values ('$1', 'rows.x', 1, 2)",
        "delete from plan_excess where tenant = '$1'",
        "plan_excess",
    ),
    left(
        true,
        "insert into idempotency (caller, key, request_hash, tenant) values ('a', 'b', '\\x00', '$1')",
        "delete from idempotency where tenant = '$1'",
        "idempotency",
    ),
    left(
        true,
        "insert into backup_key (tenant, key_sealed) values ('$1', '\\x00')",
        "delete from backup_key where tenant = '$1'",
        "backup_key",
    ),
    left(
        true,
        "update tenant set address = 'Main Street' where id = '$1'",
        "update tenant set address = '' where id = '$1'",
        "tenant: name, address or settings",
    ),
    left(
        true,
        "insert into operation (id, kind, tenant, state, input) values ('00000000-0000-7000-8000-000000000002', 'suspend', '$1', 'done', '{\"a\": 1}')",
        "delete from operation where id = '00000000-0000-7000-8000-000000000002'",
        "operation: what it was asked, or said",
    ),
    left(
        true,
        "insert into app_derived (key, derived) values ('\\x00', 'of tenant $1')",
        "delete from app_derived where key = '\\x00'",
        "app_derived",
    ),
    left(
        true,
        "insert into app_derived (key, derived) values ('\\x00', 'of $2')",
        "delete from app_derived where key = '\\x00'",
        "app_derived: texts",
    ),
    left(
        true,
        "insert into overlay_base (slug, version, checksum, fleet_version) values ('gone', 1, 'c', 1)",
        "delete from overlay_base where slug = 'gone'",
        "overlay_base",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_in_any_place_is_found() {
    let world = World::start().await;
    let tenant = world.fleet.create("gone", Isolation::Shared).await.unwrap();
    let canary = "canary3leftover";
    assert_eq!(world.purge(tenant.id).await.verdict, Verdict::Erased);
    let mut request = ErasureRequest::default();
    request.texts = vec![canary.to_owned()];
    let shared = world.fleet.shared_admin().await;
    let catalog = cluster().await.connect(world.fleet.catalog.name()).await;
    catalog
        .batch_execute("set search_path = tenantry_catalog")
        .await
        .unwrap();
    let filled = |sql: &str| sql.replace("$1", &tenant.id.to_string()).replace("$2", canary);
    for leftover in LEFTOVERS {
        let client = if leftover.catalog { &catalog } else { &shared };
        client.batch_execute(&filled(leftover.plant)).await.unwrap();
        let certificate = world.certify(tenant.id, &request).await;
        client.batch_execute(&filled(leftover.remove)).await.unwrap();
        let found = wrong(&certificate);
        assert_eq!(certificate.verdict, Verdict::Left, "{}: {found:?}", leftover.plant);
        assert!(
            found.iter().any(|one| one.contains(leftover.told)),
            "{}: {found:?}",
            leftover.told
        );
    }
    // Beside the databases.
    for root in [world.beside.path().to_owned(), world.backups.path().join("b")] {
        let folder = root.join(tenant.id.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("left"), "x").unwrap();
        let found = wrong(&world.certify(tenant.id, &request).await);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("objects of the tenant"), "{found:?}");
    }
    // A database of its own.
    let own = tenantry_core::own_database_name(world.fleet.ops.catalog().installation(), tenant.id);
    let server = cluster().await.connect("postgres").await;
    server
        .batch_execute(&format!("create database \"{own}\""))
        .await
        .unwrap();
    let found = wrong(&world.certify(tenant.id, &request).await);
    server.batch_execute(&format!("drop database \"{own}\"")).await.unwrap();
    assert_eq!(found, [format!("one: database {own}")]);
    let certificate = world.certify(tenant.id, &request).await;
    assert_eq!(certificate.verdict, Verdict::Erased, "{:?}", wrong(&certificate));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_that_somebody_still_sees_are_not_shown_to_be_gone_and_a_store_that_is_away_neither() {
    let world = World::start().await;
    let tenant = world.fleet.create("gone", Isolation::Shared).await.unwrap();
    let seer = world.fleet.shared_admin().await;
    seer.batch_execute("begin isolation level repeatable read; select count(*) from app.contacts")
        .await
        .unwrap();
    let certificate = world.purge(tenant.id).await;
    assert_eq!(certificate.verdict, Verdict::NotShown, "{:?}", wrong(&certificate));
    assert!(
        wrong(&certificate)[0].contains("still sees what was deleted"),
        "{:?}",
        wrong(&certificate)
    );
    seer.batch_execute("commit").await.unwrap();
    std::fs::write(world.beside.path().join("away"), "").unwrap();
    let certificate = world.certify(tenant.id, &ErasureRequest::default()).await;
    assert_eq!(certificate.verdict, Verdict::NotShown);
    assert_eq!(wrong(&certificate), ["the store is away"]);
    std::fs::remove_file(world.beside.path().join("away")).unwrap();
    let certificate = world.certify(tenant.id, &ErasureRequest::default()).await;
    assert_eq!(certificate.verdict, Verdict::Erased, "{:?}", wrong(&certificate));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_and_one_that_was_changed_is_refused() {
    let world = World::start().await;
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("gone", Isolation::Schema).await.unwrap();
    let by = operator();
    let slug = tenantry_ops::TenantRef::Slug("gone".to_owned());
    let none = ops.find_erasure(&by, &slug).await;
    assert!(matches!(none, Err(ErasureError::State { .. })), "{none:?}");
    let certificate = world.purge(tenant.id).await;
    // By the slug that it had, too.
    let erasure = ops.find_erasure(&by, &slug).await.unwrap();
    assert_eq!(erasure.certificate, certificate);
    let document = erasure.document();
    assert_eq!(ops.verify_erasure(&document.to_string()).unwrap(), certificate);
    let mut softened = document.clone();
    softened["certificate"]["verdict"] = "left".into();
    let refused = ops.verify_erasure(&softened.to_string());
    assert_eq!(refused, Err(CertificateError::Differs));
    // The audit log knows which certificate it was.
    let entries = ops.list_audit(&by, Some(tenant.id), None, 1).await.unwrap();
    assert_eq!(entries[0].action, "tenant.erasure");
    assert_eq!(
        entries[0].after.as_ref().unwrap()["certificate"],
        certificate.id.to_string()
    );
    for text in ["short", "with \"quotes\"", "a\nline"] {
        let mut request = ErasureRequest::default();
        request.texts = vec![text.to_owned()];
        let refused = ops.certify_erasure(&by, &slug, &request).await;
        assert!(matches!(refused, Err(ErasureError::Text)), "{text}: {refused:?}");
    }
}
