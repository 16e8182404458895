//! Tenants as archives: out of any isolation and into any, verified, and nothing of anybody else.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tenantry_core::{Isolation, TenantId, TenantState};
use tenantry_engine::migrate::Files;
use tenantry_ops::{
    CloneRequest, ExportOptions, Exported, FleetConfig, ImportRequest, PortError, ServerRequest, Signer, Tenant,
    TenantError,
};
use tenantry_testing::{TestFolder, cluster, database_on, test_folder};

use crate::{
    child::Process,
    fleet::{Fleet, config, operator, ops_on},
    migrate::with,
};

/// Every kind of column that values may be lost in.
const KINDS: &str = r#"
    create type mood as enum ('calm', 'wild, "very"');
    create domain percent as numeric check (value between 0 and 100);
    create table parents (
        id uuid primary key default gen_random_uuid(),
        email text unique,
        "odd Name,""quoted""" text);
    create table kinds (
        id bigint generated always as identity primary key,
        parent uuid references parents (id),
        up bigint references kinds (id),
        small smallint, big bigint, exact numeric, single real, double double precision,
        flag boolean, mood mood, share percent, short varchar(20), padded char(5),
        day date, moment timestamptz, plain timestamp, clock timetz, span interval,
        address inet, bits bit varying(16), spot point, price money,
        document jsonb, source json, page xml, bytes bytea, texts text[], grid int[], around int4range,
        long text, twice bigint generated always as (big * 2) stored);
    create table counted (id serial primary key, note text not null);
    create table split (id uuid not null default gen_random_uuid(), day date not null, note text, primary key (id, day)) partition by range (day);
    create table split_old partition of split for values from (minvalue) to ('2020-01-01');
    create table split_new partition of split for values from ('2020-01-01') to (maxvalue);
    create table keyless (note text, number int);
    create table accounts (id int not null primary key, balance bigint not null);
"#;

const FILL: &str = r#"
    insert into parents (id, email, "odd Name,""quoted""") values
        ('00000000-0000-0000-0000-000000000001', 'a@b.example', E'tab\there'),
        ('00000000-0000-0000-0000-000000000002', null, E'line\nbreak \\ backslash \\N \\. ende');
    insert into kinds (parent, small, big, exact, single, double, flag, mood, share, short, padded, day, moment, plain, clock, span,
                       address, bits, spot, price, document, source, page, bytes, texts, grid, around, long) values
        ('00000000-0000-0000-0000-000000000001', -32768, 4611686018427387903, 'NaN', 'NaN', 'Infinity', true, 'wild, "very"', 99.9, 'käse €', 'ab',
         'infinity', '-infinity', '2024-02-29 23:59:59.999999', '12:00:00.000001+05:30', '1 year 2 mons -3 days 04:05:06.7',
         '2001:db8::/32', B'10101', '(1.5,-2.25)', '12.34', '{"a": [1, null, "\u00e9\n"], "b": 1e400}', '{"z":1,  "a":2}', '<a b="1">x</a>',
         '\x00ff5c0a09', array['a,b', null, 'NULL', '"', E'\t\\'], '{{1,2},{3,null}}', '[1,10)', repeat('long ', 20000)),
        (null, null, null, null, '-Infinity', '-0', null, null, null, '', '', '-infinity', '0044-03-15 12:00:00+00 BC', 'infinity', null, '-1 us',
         null, null, null, null, 'null', null, null, '', '{}', null, 'empty', ''),
        ('00000000-0000-0000-0000-000000000002', 1, 2, 1e-300, 1e-45, 4.9e-324, false, 'calm', 0, E'\b\f\r\v', ' ', '2024-01-01', '2024-01-01', '2024-01-01',
         '00:00', '0', '10.0.0.1', B'', '(0,0)', '-0.01', '{}', '[]', null, '\xdeadbeef', array[''], '{}', '(,)', null);
    update kinds set up = (select min(id) from kinds) where small = 1;
    insert into counted (note) select 'note ' || n from generate_series(1, 50) n;
    insert into split (day, note) values ('2019-12-31', 'old'), ('2020-01-01', 'new');
    insert into keyless values ('same', 1), ('same', 1), (null, null);
    insert into accounts select n, 1000 from generate_series(1, 20) n;
"#;

fn kinds() -> FleetConfig {
    let mut config = config();
    config.migrations = Some(Arc::new(Files::from_embedded([("0001_kinds.sql", KINDS)]).unwrap()));
    config
}

struct World {
    fleet: Fleet,
    folder: TestFolder,
}

impl World {
    async fn start() -> Self {
        Self::start_with(kinds()).await
    }

    async fn start_with(config: FleetConfig) -> Self {
        Self {
            fleet: Fleet::start_with(config).await,
            folder: test_folder(),
        }
    }

    async fn filled(&self, slug: &str, isolation: Isolation) -> Tenant {
        let tenant = self.fleet.create(slug, isolation).await.unwrap();
        let client = self.fleet.enter(tenant.id).await.unwrap();
        client.batch_execute(FILL).await.unwrap();
        tenant
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn export(&self, tenant: TenantId, name: &str) -> (PathBuf, Exported) {
        let path = self.path(name);
        let file = std::fs::File::create(&path).unwrap();
        let ops = &self.fleet.ops;
        let options = ExportOptions { csv: true };
        let exported = ops
            .export_tenant(&operator(), &tenant.into(), file, options, &mut |_, _, _| {})
            .await;
        (path, exported.unwrap().1)
    }

    async fn import(&self, path: &Path, slug: &str, isolation: Isolation) -> Result<Tenant, PortError> {
        self.fleet
            .ops
            .import_tenant(&operator(), &request(path, slug, isolation))
            .await
    }

    async fn is_same(&self, a: TenantId, b: TenantId) -> bool {
        let compared = self
            .fleet
            .ops
            .compare_tenants(&operator(), &a.into(), &b.into(), 5)
            .await
            .unwrap();
        compared.is_same()
    }

    /// How many tenants the catalog was ever told of.
    async fn tenants(&self) -> i64 {
        let client = self.fleet.ops.catalog().client().await.unwrap();
        client
            .query_one("select count(*) from tenant", &[])
            .await
            .unwrap()
            .get(0)
    }
}

fn request(path: &Path, slug: &str, isolation: Isolation) -> ImportRequest {
    let mut request = ImportRequest::new(path);
    request.slug = Some(slug.parse().unwrap());
    request.isolation = Some(isolation);
    request
}

/// Table, rows and checksum of each.
fn sums(exported: &Exported) -> Vec<(String, u64, String)> {
    let tables = exported.manifest.tables.iter();
    tables
        .map(|table| (table.head.name.clone(), table.rows, table.checksum.clone()))
        .collect()
}

/// All that is in an archive, as `zstd -d` gives it.
fn plain(path: &Path) -> Vec<u8> {
    let mut plain = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    zstd::stream::read::Decoder::new(file)
        .unwrap()
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_goes_through_every_isolation_and_is_the_same() {
    let world = World::start().await;
    let first = world.filled("first", Isolation::Shared).await;
    let other = world.filled("other", Isolation::Shared).await;
    let canary = world.fleet.enter(other.id).await.unwrap();
    canary
        .batch_execute("insert into keyless values ('canary of the other', 7)")
        .await
        .unwrap();
    let (_, before) = world.export(other.id, "other.before").await;
    let noted = format!(
        "insert into tenantry_private.history (tenant, id, at, table_name, row_key, act)
         values ('{}', gen_random_uuid(), now(), 'counted', '{{}}', 'delete')",
        first.id
    );
    let admin = world.fleet.shared_admin().await;
    admin.batch_execute(&noted).await.unwrap();
    let (mut path, original) = world.export(first.id, "first.archive").await;
    let left_out = |exported: &Exported| exported.manifest.left_out.history;
    assert_eq!((left_out(&original), left_out(&before)), (Some(1), Some(0)));
    assert_eq!(original.manifest.rows(), 2 + 3 + 50 + 2 + 3 + 20);
    assert!(original.manifest.tables.iter().all(|table| !table.checksum.is_empty()));
    let text = plain(&path);
    let holds = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"line\\nbreak") && holds(b"manifest.json") && holds(b"csv/"));
    assert!(!holds(b"canary of the other"));
    assert!(!holds(other.id.to_string().as_bytes()));
    for (number, isolation) in [Isolation::Schema, Isolation::Database, Isolation::Shared]
        .into_iter()
        .enumerate()
    {
        let slug = format!("stop-{}", ["a", "b", "c"][number]);
        let imported = world.import(&path, &slug, isolation).await.unwrap();
        assert_eq!(imported.state, TenantState::Active);
        assert_ne!(imported.id, first.id);
        assert_eq!(imported.placement.unwrap().isolation, isolation);
        assert!(world.is_same(first.id, imported.id).await, "{isolation}");
        let (next, exported) = world.export(imported.id, &format!("{slug}.archive")).await;
        assert_eq!(sums(&exported), sums(&original), "{isolation}");
        path = next;
        // What draws from a sequence goes on, and generated columns are there.
        let client = world.fleet.enter(imported.id).await.unwrap();
        let twice: i64 = client
            .query_one("select max(twice) from kinds", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(twice, 4_611_686_018_427_387_903 * 2);
        client
            .batch_execute("insert into counted (note) values ('next'); insert into kinds (big) values (1)")
            .await
            .unwrap();
        let refused = client
            .execute("insert into kinds (parent) values (gen_random_uuid())", &[])
            .await
            .unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "23503");
    }
    let (_, after) = world.export(other.id, "other.after").await;
    assert_eq!(sums(&after), sums(&before), "another tenant's rows are as they were");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_cut_off_or_signed_by_nobody_known_is_refused_before_anything_is_made() {
    let world = World::start_with(config()).await;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap();
    world.fleet.add_contact(tenant.id, "a@b.example").await;
    let (path, exported) = world.export(tenant.id, "acme.archive").await;
    let whole = std::fs::read(&path).unwrap();
    let (tenants, objects) = (world.tenants().await, world.fleet.objects().await.len());
    let end = whole.len();
    // The first frame's head and data, the manifest's frame, each part of the signature's frame.
    let mut flips: Vec<usize> = (0..12).chain((12..end - 122).step_by(97)).collect();
    flips.extend(end - 122..end);
    let mut broken: Vec<(String, Vec<u8>)> = flips
        .into_iter()
        .map(|at| {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            (format!("byte {at}"), changed)
        })
        .collect();
    for cut in [0, 3, 100, 122, end / 2, end - 122, end - 1] {
        broken.push((format!("cut at {cut}"), whole[..cut].to_vec()));
    }
    broken.push(("appended".to_owned(), [&whole[..], b"x"].concat()));
    broken.push(("twice".to_owned(), [&whole[..], &whole].concat()));
    broken.push((
        "a skippable frame in front".to_owned(),
        [b"\x50\x2a\x4d\x18\x01\0\0\0x", &whole[..]].concat(),
    ));
    for (what, bytes) in broken {
        let path = world.path("broken");
        std::fs::write(&path, bytes).unwrap();
        let error = world.import(&path, "broken", Isolation::Schema).await.unwrap_err();
        assert!(matches!(error, PortError::Archive(_)), "{what}: {error}");
    }
    // Another installation's, until it is trusted by name.
    let elsewhere = World::start_with(config()).await;
    let error = elsewhere.import(&path, "acme", Isolation::Schema).await.unwrap_err();
    assert!(error.to_string().contains(&exported.signer.to_string()), "{error}");
    let mut trusting = request(&path, "acme", Isolation::Schema);
    trusting.signed_by = vec![exported.signer.to_string().parse::<Signer>().unwrap()];
    let imported = elsewhere.fleet.ops.import_tenant(&operator(), &trusting).await.unwrap();
    let (_, again) = elsewhere.export(imported.id, "acme.again").await;
    assert_eq!(sums(&again), sums(&exported));
    assert_eq!(
        (world.tenants().await, world.fleet.objects().await.len()),
        (tenants, objects)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_what_is_older_is_migrated_forward() {
    let files = |later: &[(&str, &str)]| {
        let all = [("0001_kinds.sql", KINDS)].into_iter().chain(later.iter().copied());
        Some(Arc::new(Files::from_embedded(all).unwrap()))
    };
    let world = World::start().await;
    let tenant = world.filled("acme", Isolation::Schema).await;
    let (path, exported) = world.export(tenant.id, "acme.archive").await;
    let refused = async |migrations, isolation| {
        let mut config = kinds();
        config.migrations = migrations;
        let ops = ops_on(&world.fleet.catalog.url(), config).await;
        ops.import_tenant(&operator(), &request(&path, "unfit", isolation))
            .await
            .unwrap_err()
            .to_string()
    };
    let tenants = world.tenants().await;
    let none = Some(Arc::new(
        Files::from_embedded([("0009_x.sql", "create table x (id int primary key)")]).unwrap(),
    ));
    assert!(
        refused(none, Isolation::Schema)
            .await
            .contains("not among this application's")
    );
    let edited = Some(Arc::new(
        Files::from_embedded([("0001_kinds.sql", "create table parents (id uuid primary key)")]).unwrap(),
    ));
    assert!(refused(edited, Isolation::Schema).await.contains("another text"));
    let later = [
        (
            "0002_score.sql",
            "alter table counted add column score int not null default 5",
        ),
        (
            "0003_score.sql",
            "-- tenantry: each tenant\nupdate counted set score = id where score = 5",
        ),
    ];
    let old = refused(files(&later), Isolation::Shared).await;
    assert!(
        old.contains("0002_score") && old.contains("--isolation schema"),
        "{old}"
    );
    assert_eq!(world.tenants().await, tenants);
    let mut config = kinds();
    config.migrations = files(&later);
    config.spare_schemas = 1;
    let ops = ops_on(&world.fleet.catalog.url(), config).await;
    for (slug, isolation) in [("forward-a", Isolation::Schema), ("forward-b", Isolation::Database)] {
        let imported = ops
            .import_tenant(&operator(), &request(&path, slug, isolation))
            .await
            .unwrap();
        let client = world.fleet.enter(imported.id).await.unwrap();
        let row = client
            .query_one("select count(*), sum(score) from counted", &[])
            .await
            .unwrap();
        assert_eq!(
            (row.get::<_, i64>(0), row.get::<_, i64>(1)),
            (50, (1..=50).sum::<i64>()),
            "{slug}"
        );
    }
    // The id that it had is free in another installation only.
    let mut same = request(&path, "same-id", Isolation::Schema);
    same.same_id = true;
    let error = world.fleet.ops.import_tenant(&operator(), &same).await.unwrap_err();
    assert!(matches!(error, PortError::IdTaken(TenantState::Active)), "{error}");
    let elsewhere = World::start().await;
    same.signed_by = vec![exported.signer];
    let imported = elsewhere.fleet.ops.import_tenant(&operator(), &same).await.unwrap();
    assert_eq!(imported.id, tenant.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_at_any_step_is_finished_or_leaves_nothing() {
    let world = World::start_with(config()).await;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap();
    world.fleet.add_contact(tenant.id, "a@b.example").await;
    let (path, exported) = world.export(tenant.id, "acme.archive").await;
    let before = world.fleet.objects().await;
    let places = ["before_load", "in_turn", "after_load", "before_activate"];
    let mut killed = Vec::new();
    for (number, place) in places.into_iter().enumerate() {
        for (letter, isolation) in [("s", Isolation::Shared), ("o", Isolation::Schema)] {
            // Shared tables are filled without a turn before that.
            if place == "in_turn" && isolation == Isolation::Schema {
                continue;
            }
            let slug = format!("killed-{letter}-{}", (b'a' + number as u8) as char);
            let copy = world.path(&format!("{slug}.archive"));
            std::fs::copy(&path, &copy).unwrap();
            let act = format!("import-{isolation} {}", copy.display());
            let place = format!("provision.{place}");
            let child = Process::start(&world.fleet.catalog.url(), &act, &slug, &format!("{place}=stop"));
            child.gets_killed_at(&place).await;
            killed.push((slug, copy, place));
        }
    }
    // Every second archive is gone when somebody goes on.
    for (number, (_, copy, _)) in killed.iter().enumerate() {
        if number % 2 == 1 {
            std::fs::remove_file(copy).unwrap();
        }
    }
    let runner = tokio::spawn({
        let ops = world.fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    for (slug, copy, place) in killed {
        let settled = world.fleet.settled(&slug).await;
        if copy.exists() {
            assert_eq!(settled.state, TenantState::Active, "{slug} killed at {place}");
            let (_, again) = world.export(settled.id, &format!("{slug}.again")).await;
            assert_eq!(sums(&again), sums(&exported), "{slug} killed at {place}");
            world
                .fleet
                .ops
                .delete_tenant(&operator(), &settled.id.into())
                .await
                .unwrap();
            world
                .fleet
                .ops
                .purge_tenant(&operator(), &settled.id.into())
                .await
                .unwrap();
        } else {
            assert_eq!(settled.state, TenantState::Purged, "{slug} killed at {place}");
            assert!(settled.placement.is_none());
        }
    }
    runner.abort();
    assert_eq!(world.fleet.objects().await, before);
}

/// The process that was asked had other files than the one that goes on: what a migration does to rows would not be done to these.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_not_loaded_into_tables_that_a_deployment_has_made_newer() {
    let world = World::start_with(config()).await;
    let tenant = world.fleet.create("acme", Isolation::Schema).await.unwrap();
    let (path, _) = world.export(tenant.id, "acme.archive").await;
    let before = world.fleet.objects().await;
    let place = "provision.before_tables";
    let act = format!("import-schema {}", path.display());
    let child = Process::start(&world.fleet.catalog.url(), &act, "deployed", &format!("{place}=stop"));
    child.gets_killed_at(place).await;
    let newer = with("-- tenantry: each tenant\nupdate contacts set name = 'new ' || name;");
    let ops = ops_on(&world.fleet.catalog.url(), newer).await;
    let runner = tokio::spawn(async move { ops.run_operations().await });
    let settled = world.fleet.settled("deployed").await;
    runner.abort();
    assert_eq!(settled.state, TenantState::Purged);
    assert_eq!(world.fleet.objects().await, before);
}

/// A migration of data that fails at one tenant has been done to the rows of others, and no ledger says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_rows_have_of_a_migration_that_has_not_ended_is_not_done_to_their_copies_again() {
    let world = World::start().await;
    let first = world.filled("first", Isolation::Shared).await;
    let other = world.filled("other", Isolation::Shared).await;
    let set_balance = async |balance: i64| {
        let client = world.fleet.enter(other.id).await.unwrap();
        let sql = "update accounts set balance = $1 where id = 1";
        client.execute(sql, &[&balance]).await.unwrap();
    };
    let balances = async |tenant: TenantId| -> (i64, i64) {
        let client = world.fleet.enter(tenant).await.unwrap();
        let sql = "select min(balance), max(balance) from accounts";
        let row = client.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    // Nothing can be divided by this one.
    set_balance(0).await;
    let more = "-- tenantry: each tenant\nupdate accounts set balance = balance + 1 + 1 / balance;";
    let files = [("0001_kinds.sql", KINDS), ("0002_more.sql", more)];
    let mut config = kinds();
    config.migrations = Some(Arc::new(Files::from_embedded(files).unwrap()));
    let ops = ops_on(&world.fleet.catalog.url(), config).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (0, 1), "{report:?}");
    assert_eq!(balances(first.id).await, (1001, 1001));

    let (path, exported) = world.export(first.id, "first.archive").await;
    assert_eq!(exported.manifest.ahead, [2]);
    let imported = ops
        .import_tenant(&operator(), &request(&path, "imported", Isolation::Schema))
        .await
        .unwrap();
    assert_eq!(balances(imported.id).await, (1001, 1001), "recorded, and not run");
    let mut copy = CloneRequest::new("cloned".parse().unwrap());
    copy.isolation = Some(Isolation::Shared);
    let before = &world.fleet.ops;
    let cloned = before.clone_tenant(&operator(), &first.id.into(), &copy).await;
    let cloned = cloned.unwrap();
    set_balance(5).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (1, 0), "{report:?}");
    assert_eq!(balances(other.id).await, (6, 1001));
    for tenant in [first.id, cloned.id] {
        assert_eq!(balances(tenant).await, (1001, 1001));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_under_writes_is_of_one_moment() {
    let world = World::start().await;
    let tenant = world.filled("busy", Isolation::Shared).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..3_i32 {
        let client = world.fleet.enter(tenant.id).await.unwrap();
        let stop = Arc::clone(&stop);
        writers.push(tokio::spawn(async move {
            let mut moved = 0_i32;
            while !stop.load(Ordering::Relaxed) {
                let (from, to) = ((moved * 7 + number) % 20 + 1, (moved * 3 + number * 5) % 20 + 1);
                let (low, high) = (from.min(to), from.max(to));
                let transfer = format!(
                    "begin; update accounts set balance = balance - 5 where id = {low};
                     update accounts set balance = balance + 5 where id = {high};
                     insert into counted (note) values ('moved'); insert into keyless values ('moved', 0); commit"
                );
                client.batch_execute(&transfer).await.unwrap();
                moved += 1;
            }
            moved
        }));
    }
    for round in ["a", "b", "c"] {
        let (path, exported) = world.export(tenant.id, &format!("busy-{round}.archive")).await;
        let rows = |name: &str| {
            exported
                .manifest
                .tables
                .iter()
                .find(|table| table.head.name == name)
                .unwrap()
                .rows
        };
        assert_eq!(
            rows("counted") - 50,
            rows("keyless") - 3,
            "both rows of a transaction are there, or none"
        );
        let imported = world
            .import(&path, &format!("busy-{round}"), Isolation::Schema)
            .await
            .unwrap();
        let client = world.fleet.enter(imported.id).await.unwrap();
        let sum: i64 = client
            .query_one("select sum(balance)::int8 from accounts", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(sum, 20 * 1000);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_takes_little_memory_whatever_its_size() {
    let world = World::start_with(config()).await;
    let tenant = world.fleet.create("large", Isolation::Shared).await.unwrap();
    let client = world.fleet.enter(tenant.id).await.unwrap();
    let fill = "insert into contacts (email, name)
                select md5(n::text), (select string_agg(md5(n::text || m), '') from generate_series(1, 12) m) from generate_series(1, 150000) n";
    client.batch_execute(fill).await.unwrap();
    let path = world.path("large.archive");
    let act = format!("export {}", path.display());
    Process::start(&world.fleet.catalog.url(), &act, "large", "")
        .ends()
        .await;
    let opened = world.fleet.ops.inspect_archive(&operator(), &path, &[]).await.unwrap();
    assert!(opened.bytes() > 60 << 20, "{}", opened.bytes());
    let peak_kb: u64 = std::fs::read_to_string(path.with_extension("peak"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(peak_kb < 64 << 10, "{peak_kb} kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_has_the_rows_with_what_is_masked_replaced_and_differences_are_named() {
    let world = World::start().await;
    let tenant = world.filled("acme", Isolation::Shared).await;
    let ops = &world.fleet.ops;
    let clone = async |slug: &str, isolation, masks: serde_json::Value| {
        let mut request = CloneRequest::new(slug.parse().unwrap());
        request.isolation = Some(isolation);
        request.masks = serde_json::from_value(masks).unwrap();
        ops.clone_tenant(&operator(), &tenant.id.into(), &request).await
    };
    for (slug, isolation) in [
        ("clone-a", Isolation::Schema),
        ("clone-b", Isolation::Database),
        ("clone-c", Isolation::Shared),
    ] {
        let cloned = clone(slug, isolation, serde_json::json!({})).await.unwrap();
        assert!(world.is_same(tenant.id, cloned.id).await, "{slug}");
    }
    let tenants = world.tenants().await;
    let error = clone(
        "bad",
        Isolation::Schema,
        serde_json::json!({"parents": {"mail": "null"}}),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, PortError::Mask(_)), "{error}");
    assert_eq!(world.tenants().await, tenants);
    let rules = serde_json::json!({"parents": {"email": "email"}, "counted": {"note": {"fixed": "x"}}, "kinds": {"long": "null"}});
    let masked = clone("masked", Isolation::Schema, rules).await.unwrap();
    let client = world.fleet.enter(masked.id).await.unwrap();
    let row = client
        .query_one(
            "select (select string_agg(email, ',') from parents), (select count(distinct note) from counted),
                    (select count(*) from kinds where long is not null), (select count(*) from kinds)",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, String>(0).ends_with("@masked.invalid"));
    assert_eq!(
        (row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i64>(3)),
        (1, 0, 3)
    );
    client
        .batch_execute(
            "delete from split where note = 'old'; insert into keyless values ('same', 1);
             insert into parents (id, email) values ('00000000-0000-0000-0000-00000000000a', 'n@e.w')",
        )
        .await
        .unwrap();
    let compared = ops
        .compare_tenants(&operator(), &tenant.id.into(), &masked.id.into(), 5)
        .await
        .unwrap();
    let of = |name: &str| {
        let found = compared.tables.iter().find(|found| found.table == name).unwrap();
        (
            found.same,
            found.only_in_a,
            found.only_in_b,
            found.differing,
            found.examples.len(),
        )
    };
    assert_eq!(of("parents"), (1, 0, 1, 1, 2));
    assert_eq!(of("counted"), (0, 0, 0, 50, 5));
    assert_eq!(of("kinds"), (1, 0, 0, 2, 2));
    assert_eq!(of("split"), (1, 1, 0, 0, 1));
    assert_eq!(of("keyless"), (3, 0, 1, 0, 1));
    assert_eq!(of("accounts"), (20, 0, 0, 0, 0));
    assert!(!compared.is_same());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_has_no_rows_any_more_is_not_exported() {
    let mut config = config();
    config.retention = std::time::Duration::ZERO;
    let world = World::start_with(config).await;
    let gone = world.fleet.create("gone", Isolation::Shared).await.unwrap();
    world
        .fleet
        .ops
        .delete_tenant(&operator(), &gone.id.into())
        .await
        .unwrap();
    world
        .fleet
        .ops
        .purge_tenant(&operator(), &gone.id.into())
        .await
        .unwrap();
    let ops = &world.fleet.ops;
    let (to, options) = (Vec::new(), ExportOptions::default());
    let exported = ops
        .export_tenant(&operator(), &gone.id.into(), to, options, &mut |_, _, _| {})
        .await;
    let error = exported.unwrap_err();
    assert!(matches!(error, PortError::Tenant(TenantError::State { .. })), "{error}");
}

/// What managed services give: an administrator who may not act as the mover acts as the owner, in the tenant's context.
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_without_superuser_exports_imports_and_restores() {
    let store = test_folder();
    let mut config = config();
    config.backups = Some(tenantry_ops::BackupStore::in_folder(store.path()).unwrap());
    let home = database_on(cluster().await).await;
    let admin = home.restricted_admin().await;
    let world = World {
        fleet: Fleet::empty(config).await,
        folder: test_folder(),
    };
    let ops = &world.fleet.ops;
    let server = ServerRequest {
        name: "managed".to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url: admin.url().to_owned().into(),
    };
    ops.add_server(&operator(), &server).await.unwrap();
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap();
    let other = world.fleet.create("other", Isolation::Shared).await.unwrap();
    let (_, before) = world.export(other.id, "other.before").await;
    let (path, exported) = world.export(tenant.id, "acme.archive").await;
    assert_eq!(exported.manifest.rows(), 1, "of two tenants with a row each");
    assert_eq!(
        exported.manifest.left_out.history, None,
        "this administrator may not count it"
    );
    for isolation in Isolation::ALL {
        let imported = world
            .import(&path, &format!("on-{isolation}"), isolation)
            .await
            .unwrap();
        assert!(world.is_same(tenant.id, imported.id).await, "{isolation}");
        let made = ops.create_backup(&operator(), &imported.id.into()).await.unwrap();
        let back = ops.restore_backup_in_place(&operator(), made.id).await.unwrap();
        assert_eq!(back.state, TenantState::Active);
        assert!(world.is_same(tenant.id, imported.id).await, "{isolation}");
        ops.suspend_tenant(&operator(), &imported.id.into()).await.unwrap();
        let (_, suspended) = world.export(imported.id, &format!("on-{isolation}.archive")).await;
        assert_eq!(sums(&suspended), sums(&exported), "{isolation}");
        let still = ops.get_tenant(&operator(), &imported.id.into()).await.unwrap();
        assert_eq!(still.state, TenantState::Suspended);
    }
    let (_, after) = world.export(other.id, "other.after").await;
    assert_eq!(sums(&after), sums(&before));
}
