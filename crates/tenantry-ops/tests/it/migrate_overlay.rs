//! Files of single tenants on top of the fleet's.

use std::sync::Arc;

use tenantry_core::Isolation;
use tenantry_engine::migrate::Files;
use tenantry_ops::{FleetConfig, MigrationError, Ops, TenantError, TenantPatch, VerifiedSite, Verify};

use crate::fleet::{Fleet, config, files, operator, ops_on};

const OWN: (&str, &str) = (
    "0001_fax.sql",
    "alter table contacts add column fax text; create table faxes (id int primary key, contact uuid references contacts);",
);

/// The usual files, some more, and these of the tenant `special`.
pub(crate) fn with(more: &[(&str, &str)], own: &[(&str, &str)]) -> FleetConfig {
    with_own_of("special", more, own)
}

fn with_own_of(slug: &str, more: &[(&str, &str)], own: &[(&str, &str)]) -> FleetConfig {
    let all = files()
        .as_slice()
        .iter()
        .map(|file| (file.name.clone(), file.text.clone()))
        .collect::<Vec<_>>();
    let more = more.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let all = Files::from_embedded(all.into_iter().chain(more)).unwrap();
    let mut config = config();
    config.migrations = Some(Arc::new(
        all.with_overlay(slug, Files::from_embedded(own.iter().copied()).unwrap()),
    ));
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_is_customised_and_stays_so_across_the_fleets_migrations() {
    for isolation in [Isolation::Schema, Isolation::Database] {
        let fleet = Fleet::start().await;
        let special = fleet.create("special", isolation).await.unwrap();
        let usual = fleet.create("usual", Isolation::Schema).await.unwrap();
        let ops = ops_on(&fleet.catalog.url(), with(&[], &[OWN])).await;
        let status = ops.migration_status(&operator()).await.unwrap();
        let pending: Vec<_> = status
            .iter()
            .map(|site| (site.slug.as_deref(), site.pending.clone()))
            .collect();
        let own = vec!["tenants/special/0001_fax.sql".to_owned()];
        assert!(pending.contains(&(Some("special"), own)), "{pending:?}");
        assert!(pending.contains(&(Some("usual"), Vec::new())), "{pending:?}");

        let report = ops.apply_migrations(&operator()).await.unwrap();
        assert_eq!((report.applied.len(), report.failed.len()), (1, 0), "{report:?}");
        let report = ops.apply_migrations(&operator()).await.unwrap();
        assert_eq!(report.applied.len(), 0, "{report:?}");
        let client = fleet.enter(special.id).await.unwrap();
        client.execute("update contacts set fax = '1'", &[]).await.unwrap();
        client.execute("insert into faxes (id) values (1)", &[]).await.unwrap();
        let theirs = fleet.enter(usual.id).await.unwrap();
        assert!(theirs.execute("update contacts set fax = '1'", &[]).await.is_err());

        // The fleet goes on, the tenant's own is kept, and both are tracked.
        let more = [("0003_phone.sql", "alter table contacts add column phone text;")];
        let later = [
            OWN,
            (
                "0002_pager.sql",
                "-- tenantry: each tenant\nupdate contacts set fax = '2';",
            ),
        ];
        let ops = ops_on(&fleet.catalog.url(), with(&more, &later)).await;
        let report = ops.apply_migrations(&operator()).await.unwrap();
        assert!(report.failed.is_empty() && report.applied.len() >= 3, "{report:?}");
        let fax: String = client
            .query_one("select fax from contacts where phone is null", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(fax, "2");
        // What is its own is no drift, and a difference in it is.
        let verified = ops
            .verify_migrations(&operator(), &Verify::default(), &|_| {})
            .await
            .unwrap();
        assert!(verified.iter().all(VerifiedSite::is_right), "{verified:#?}");
        let home = special.placement.unwrap();
        let admin = tenantry_testing::cluster().await.connect(&home.database).await;
        admin
            .batch_execute(&format!("drop policy tenantry_floor on {}.faxes", home.schema))
            .await
            .unwrap();
        let verified = ops
            .verify_migrations(&operator(), &Verify::default(), &|_| {})
            .await
            .unwrap();
        let wrong: Vec<_> = verified.iter().filter(|site| !site.is_right()).collect();
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].differences[0].object, "policy tenantry_floor on table faxes");

        let edited = with(&more, &[("0001_fax.sql", "alter table contacts add column fax int;")]);
        let ops = ops_on(&fleet.catalog.url(), edited).await;
        // The catalog's copy and the texts that it keeps tell; it is not pending, and no run has to find out.
        let status = ops.migration_status(&operator()).await.unwrap();
        let odd = status
            .iter()
            .find(|site| site.slug.as_deref() == Some("special"))
            .unwrap();
        assert!(odd.pending.is_empty(), "{odd:?}");
        assert_eq!(
            status.iter().filter(|site| site.error.is_some()).count(),
            1,
            "{status:?}"
        );
        let report = ops.apply_migrations(&operator()).await.unwrap();
        assert_eq!(report.failed.len(), 1, "{report:?}");
        for error in [&odd.error, &report.failed[0].error] {
            let error = error.as_ref().unwrap();
            assert!(
                error.contains("`tenants/special/0001_fax.sql` was changed after it had been applied"),
                "{error}"
            );
            let has = |start: &str, end: &str| error.lines().any(|line| line.starts_with(start) && line.contains(end));
            assert!(has("-alter", "fax text") && has("+alter", "fax int"), "{error}");
        }
    }
}

/// An index over a column that the fleet renames later.
const ON_TEXT: (&str, &str) = (
    "0001_search.sql",
    "create index notes_search on notes (lower(text)); alter table notes add column mood text;",
);
const RENAMED: (&str, &str) = ("0003_body.sql", "alter table notes rename column text to body;");

async fn all_right(ops: &Ops) {
    let verified = ops
        .verify_migrations(&operator(), &Verify::default(), &|_| {})
        .await
        .unwrap();
    assert!(verified.iter().all(VerifiedSite::is_right), "{verified:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_has_of_its_own_stays_as_it_was_written_whatever_the_fleet_gets_later() {
    let fleet = Fleet::start().await;
    let special = fleet.create("special", Isolation::Schema).await.unwrap();
    fleet.create("usual", Isolation::Schema).await.unwrap();
    let ops = ops_on(&fleet.catalog.url(), with(&[], &[ON_TEXT])).await;
    assert_eq!(ops.apply_migrations(&operator()).await.unwrap().applied.len(), 1);

    // It would not fit on top of what the fleet gets now, and need not.
    let ops = ops_on(&fleet.catalog.url(), with(&[RENAMED], &[ON_TEXT])).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (3, 0), "{report:?}");
    all_right(&ops).await;
    // What is written from now on is on top of that.
    let later = ("0002_body.sql", "create index notes_body on notes (lower(body));");
    let ops = ops_on(&fleet.catalog.url(), with(&[RENAMED], &[ON_TEXT, later])).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (1, 0), "{report:?}");
    all_right(&ops).await;
    let client = fleet.enter(special.id).await.unwrap();
    client.execute("update notes set mood = body", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_says_what_it_was_written_for_and_a_new_tenant_gets_it_there() {
    let named = format!("-- tenantry: after 2\n{}", ON_TEXT.1);
    let own = [(ON_TEXT.0, named.as_str())];
    for isolation in [Isolation::Schema, Isolation::Database] {
        let mut config = with(&[RENAMED], &own);
        config.spare_schemas = 1;
        let fleet = Fleet::start_with(config).await;
        fleet.ops.make_spare_schemas().await.unwrap();
        let special = fleet.create("special", isolation).await.unwrap();
        let client = fleet.enter(special.id).await.unwrap();
        client.execute("update notes set mood = body", &[]).await.unwrap();
        assert_eq!(fleet.emails(special.id).await, ["help@example.com"]);
        assert_eq!(fleet.ops.apply_migrations(&operator()).await.unwrap().applied.len(), 0);
        all_right(&fleet.ops).await;
    }
    let fleet = Fleet::start().await;
    fleet.create("special", Isolation::Schema).await.unwrap();
    let of_the_fleet = (RENAMED.0, "-- tenantry: after 2\nselect 1;");
    let ops = ops_on(&fleet.catalog.url(), with(&[of_the_fleet], &[OWN])).await;
    let refused = ops.apply_migrations(&operator()).await.unwrap_err().to_string();
    assert!(refused.contains("0003_body.sql"), "{refused}");
}

/// It is one tenant's: whatever is wrong with it, the fleet is migrated, asked and compared.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_one_tenant_that_is_refused_keeps_nobody_else_back() {
    let fleet = Fleet::start().await;
    fleet.create("special", Isolation::Schema).await.unwrap();
    fleet.create("usual", Isolation::Schema).await.unwrap();
    let unknown = ("0001_x.sql", "-- tenantry: after 9\nselect 1;");
    let forbidden = ("0001_x.sql", "create materialized view m as select 1 as x;");
    let file = "tenants/special/0001_x.sql";
    for (own, applied) in [(unknown, 2), (forbidden, 0)] {
        let ops = ops_on(&fleet.catalog.url(), with(&[RENAMED], &[own])).await;
        let rehearsals = ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap();
        let told = rehearsals.iter().find(|of| of.tenant.as_deref() == Some("special"));
        let told = told.and_then(|of| of.error.clone()).unwrap_or_default();
        assert!(told.contains(file), "{rehearsals:?}");
        let report = ops.apply_migrations(&operator()).await.unwrap();
        assert_eq!((report.applied.len(), report.failed.len()), (applied, 1), "{report:?}");
        let status = ops.migration_status(&operator()).await.unwrap();
        for site in &status {
            let is_special = site.slug.as_deref() == Some("special");
            let names_it = site.error.as_ref().is_some_and(|error| error.contains(file));
            assert_eq!((site.error.is_some(), names_it), (is_special, is_special), "{site:?}");
            assert_eq!(site.pending.contains(&file.to_owned()), is_special, "{site:?}");
            assert_eq!(site.version, if is_special { 2 } else { 3 }, "{site:?}");
        }
        all_right(&ops).await;
    }
    // Mended, it is as every other.
    let ops = ops_on(&fleet.catalog.url(), with(&[RENAMED], &[OWN])).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (1, 0), "{report:?}");
    let status = ops.migration_status(&operator()).await.unwrap();
    assert!(status.iter().all(|site| site.error.is_none()), "{status:?}");
}

/// Its folder is renamed with it, long after the files were written.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_renamed_keeps_what_its_files_were_written_for() {
    let fleet = Fleet::start().await;
    let special = fleet.create("special", Isolation::Schema).await.unwrap();
    let ops = ops_on(&fleet.catalog.url(), with(&[], &[ON_TEXT])).await;
    assert_eq!(ops.apply_migrations(&operator()).await.unwrap().applied.len(), 1);
    let patch = TenantPatch {
        slug: Some("peculiar".parse().unwrap()),
        ..TenantPatch::default()
    };
    ops.update_tenant(&operator(), &special.id.into(), &patch)
        .await
        .unwrap();

    // On top of what the fleet has now it would not go.
    let ops = ops_on(&fleet.catalog.url(), with_own_of("peculiar", &[RENAMED], &[ON_TEXT])).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (2, 0), "{report:?}");
    all_right(&ops).await;
    let status = ops.migration_status(&operator()).await.unwrap();
    assert!(
        status
            .iter()
            .all(|site| site.error.is_none() && site.pending.is_empty()),
        "{status:?}"
    );
}

/// Where both have the same column, the plan says so before; and only this tenant stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_clashes_with_a_tenants_own_is_planned_and_keeps_nobody_else_behind() {
    let fleet = Fleet::start().await;
    fleet.create("special", Isolation::Schema).await.unwrap();
    fleet.create("usual", Isolation::Schema).await.unwrap();
    let ops = ops_on(&fleet.catalog.url(), with(&[], &[OWN])).await;
    let rehearsals = ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap();
    let [own] = rehearsals.as_slice() else {
        panic!("{rehearsals:?}")
    };
    assert_eq!((own.tenant.as_deref(), own.from, own.sites), (Some("special"), 2, 1));
    assert_eq!(own.files[0].name, "tenants/special/0001_fax.sql");
    assert!(
        own.files[0].locks.iter().any(|lock| lock.table == "contacts"),
        "{own:?}"
    );
    ops.apply_migrations(&operator()).await.unwrap();

    let more = [("0003_fax.sql", "alter table contacts add column fax text;")];
    let ops = ops_on(&fleet.catalog.url(), with(&more, &[OWN])).await;
    let rehearsals = ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap();
    let failing: Vec<_> = rehearsals
        .iter()
        .map(|of| {
            (
                of.tenant.as_deref(),
                of.error.as_ref().is_some_and(|error| error.contains("0003_fax.sql")),
            )
        })
        .collect();
    assert_eq!(failing, [(None, false), (Some("special"), true)], "{rehearsals:?}");
    let report = ops.apply_migrations(&operator()).await.unwrap();
    let behind: Vec<_> = report.failed.iter().map(|site| site.slug.as_deref()).collect();
    assert_eq!((report.applied.len(), behind), (2, vec![Some("special")]), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_gets_its_own_files_and_one_in_shared_tables_is_refused() {
    let fleet = Fleet::start_with(with(&[], &[OWN])).await;
    let refused = fleet.create("special", Isolation::Shared).await;
    let Err(TenantError::Failed { message, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains("`schema` or `database`"), "{message}");
    let special = fleet.create("special", Isolation::Schema).await.unwrap();
    let client = fleet.enter(special.id).await.unwrap();
    client.execute("insert into faxes (id) values (1)", &[]).await.unwrap();
    let report = fleet.ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!(report.applied.len(), 0, "{report:?}");
    // Purged, it leaves no trace in the ledger.
    drop(client);
    fleet.ops.delete_tenant(&operator(), &special.id.into()).await.unwrap();
    fleet.ops.purge_tenant(&operator(), &special.id.into()).await.unwrap();
    let admin = fleet.shared_admin().await;
    let left = admin
        .query_one(
            "select count(*) from tenantry_private.migration where schema <> 'app'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_lives_in_shared_tables_already_stops_a_run_with_a_sentence() {
    let fleet = Fleet::start().await;
    fleet.create("special", Isolation::Shared).await.unwrap();
    let ops = ops_on(&fleet.catalog.url(), with(&[], &[OWN])).await;
    let refused = ops.apply_migrations(&operator()).await.unwrap_err();
    assert!(matches!(refused, MigrationError::SharedOverlay(_)), "{refused:?}");
    assert!(refused.to_string().contains("`schema` or `database`"), "{refused}");
}
