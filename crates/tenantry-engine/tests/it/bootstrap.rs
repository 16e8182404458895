//! Making servers and databases ready.

use secrecy::ExposeSecret;
use tenantry_core::{TenantDatabaseId, Tier};
use tenantry_engine::{
    Roles,
    admin::ServerAdmin,
    bootstrap::{self, BootstrapError, Bootstrapped, Credentials, DatabaseRequest},
    check, home, keys,
};
use tenantry_testing::change_shared_rows;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::seal_support::{Fixture, Session, connect, in_each_tier, installation, new_tenant, refusal, sealed};

in_each_tier! {
    running_it_again_changes_nothing
    two_at_once_make_one
    without_credentials_everything_starts_over
    the_application_role_connects_to_its_database_only
    a_clone_does_not_take_its_originals_tokens
    a_restored_database_gets_new_keys_before_it_serves
    a_renamed_database_keeps_its_keys
    nobody_is_left_a_member_of_the_mechanisms_owner
}

impl Fixture {
    fn request(&self) -> DatabaseRequest<'_> {
        DatabaseRequest {
            installation: &self.installation,
            database: self.id,
            name: self.database.name(),
            credentials: Some(Credentials {
                app_password: self.made.app_password.clone(),
                key: self.made.key.clone(),
            }),
            force_signed: false,
        }
    }

    async fn again(&self) -> Bootstrapped {
        bootstrap::database(&self.admin, &self.request()).await.unwrap()
    }
}

/// Everything that bootstrap makes, as the catalogs show it.
async fn picture(client: &Client) -> Vec<String> {
    let rows = client
        .query(
            "select 'function ' || pg_get_functiondef(p.oid) || ' ' || coalesce(p.proacl::text, '') || p.proowner
               from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname ~ '^tenantry' and p.prokind = 'f'
             union all
             select 'schema ' || n.nspname || ' ' || n.nspowner || ' ' || coalesce(n.nspacl::text, '') from pg_namespace n where n.nspname !~ '^pg_'
             union all
             select 'table ' || c.oid::regclass || ' ' || c.relowner || ' ' || coalesce(c.relacl::text, '')
               from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname ~ '^(tenantry|app)' and c.relkind = 'r'
             union all
             select 'key ' || encode(sha256(ik || ok), 'hex') || ' ' || kid from tenantry_private.mac_key
             union all
             select 'fence ' || f::text from tenantry_private.fence f
             union all
             select 'database ' || (to_jsonb(d) - 'bootstrapped_at')::text from tenantry_private.tenant_database d
             union all
             select 'rights ' || coalesce(datacl::text, '') from pg_database where datname = current_database()
             union all
             select 'defaults ' || d.defaclrole::text || d.defaclobjtype::text || d.defaclacl::text from pg_default_acl d
             union all
             select 'setting ' || setconfig::text from pg_db_role_setting where setdatabase = (select oid from pg_database where datname = current_database())
             order by 1",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn running_it_again_changes_nothing(fixture: Fixture) {
    let superuser = fixture.superuser().await;
    let before = picture(&superuser).await;
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    for _ in 0..2 {
        bootstrap::server(&fixture.admin, &fixture.installation, None)
            .await
            .unwrap();
        let again = fixture.again().await;
        assert_eq!((again.tier, again.was_copy), (fixture.made.tier, false));
        assert_eq!(again.key.blocks(), fixture.made.key.blocks());
        assert_eq!(picture(&superuser).await, before);
    }
    // and who was in goes on
    assert_eq!(bound.notes_as(fixture.a).await.unwrap(), [format!("of {}", fixture.a)]);
    fixture.app_client().await;
}

async fn two_at_once_make_one(fixture: Fixture) {
    let server = || bootstrap::server(&fixture.admin, &fixture.installation, None);
    let (one, two) = tokio::join!(server(), server());
    assert_eq!(one.unwrap().tier, two.unwrap().tier);
    let request = fixture.request();
    let (one, two) = tokio::join!(
        bootstrap::database(&fixture.admin, &request),
        bootstrap::database(&fixture.admin, &request)
    );
    one.unwrap();
    two.unwrap();
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
}

async fn without_credentials_everything_starts_over(fixture: Fixture) {
    let mut before = fixture.session().await;
    let request = DatabaseRequest {
        credentials: None,
        ..fixture.request()
    };
    let made = bootstrap::database(&fixture.admin, &request).await.unwrap();
    assert_ne!(made.key.blocks(), fixture.made.key.blocks());
    assert_ne!(made.key.id(), fixture.made.key.id());
    let stale = before.key.sign(&before.token(fixture.a));
    assert_eq!(refusal(&before.try_enter(&stale).await.unwrap_err()).0, "28000");
    let refused = fixture.app_config().connect(NoTls).await.map(drop).unwrap_err();
    assert_eq!(refusal(&refused).0, "28P01");
    let config = fixture.database.cluster().config_for(
        fixture.database.name(),
        &made.app_role,
        made.app_password.expose_secret(),
    );
    let mut session = Session::of(connect(&config).await, made.key, made.tier).await;
    session.enter(fixture.a).await;
}

async fn the_application_role_connects_to_its_database_only(fixture: Fixture) {
    let other = Fixture::on(fixture.database.cluster()).await;
    let refused = fixture
        .app_config_for(other.database.name())
        .connect(NoTls)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(refusal(&refused).0, "42501");
    let reachable = check::reachable_databases(&fixture.superuser().await, &fixture.made.app_role)
        .await
        .unwrap();
    assert!(!reachable.contains(&other.database.name().to_owned()));
    assert!(reachable.contains(&fixture.database.name().to_owned()));
}

/// `create database … template` copies keys, fence and rights with everything else.
async fn a_clone_does_not_take_its_originals_tokens(fixture: Fixture) {
    // The signed tier's administrator may not clone a database it does not own alone; who clones does not matter here.
    let maintenance = fixture.database.cluster().connect("postgres").await;
    let name = format!("clone_{}", new_tenant().as_uuid().simple());
    let original = fixture.database.name();
    fixture.client.batch_execute("select 1").await.unwrap();
    let administrator = fixture.admin.config().get_user().unwrap().to_owned();
    let Fixture { client, .. } = &fixture;
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    maintenance
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            &[&original],
        )
        .await
        .unwrap();
    let gone = "select from pg_stat_activity where datname = $1 or pid = $2";
    while !maintenance.query(gone, &[&original, &pid]).await.unwrap().is_empty() {}
    maintenance
        .batch_execute(&format!(
            "create database {name} template {original} owner \"{administrator}\""
        ))
        .await
        .unwrap();

    // Database rights are not copied, so the original's role gets in by PUBLIC; its tokens do not.
    let client = connect(&fixture.app_config_for(&name)).await;
    let mut session = Session::of(client, fixture.made.key.clone(), fixture.made.tier).await;
    let signed = session.key.sign(&session.token(fixture.a));
    assert_eq!(refusal(&session.try_enter(&signed).await.unwrap_err()).0, "28000");
    let copy = keys::check_identity(&session.client).await.unwrap_err();
    assert_eq!(copy.code(), Some("28000"));
    drop(session);

    // As a tenant database of its own: new key, new role, the original's role out, nobody's tenant open.
    let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
    let request = DatabaseRequest {
        database: id,
        name: &name,
        ..fixture.request()
    };
    let made = bootstrap::database(&fixture.admin, &request).await.unwrap();
    assert!(made.was_copy);
    assert_ne!(made.key.blocks(), fixture.made.key.blocks());
    let refused = fixture
        .app_config_for(&name)
        .connect(NoTls)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(refusal(&refused).0, "42501");
    let config = fixture
        .database
        .cluster()
        .config_for(&name, &made.app_role, made.app_password.expose_secret());
    let mut session = Session::of(connect(&config).await, made.key.clone(), made.tier).await;
    keys::check_identity(&session.client).await.unwrap();
    let signed = session.key.sign(&session.token(fixture.a));
    assert_eq!(refusal(&session.try_enter(&signed).await.unwrap_err()).0, "TN003");
    let original_role = &fixture.made.app_role;
    let left: i64 = fixture
        .database
        .cluster()
        .connect(&name)
        .await
        .query_one(
            "select count(*) from pg_class c where has_any_column_privilege($1, c.oid, 'select, insert, update') and c.relnamespace = 'app'::regnamespace",
            &[original_role],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
    drop(session);
    maintenance
        .batch_execute(&format!("drop database {name} with (force)"))
        .await
        .unwrap();
}

/// Another cluster's system identifier, as after a restore from a dump.
async fn a_restored_database_gets_new_keys_before_it_serves(fixture: Fixture) {
    let superuser = fixture.superuser().await;
    for change in ["system_identifier = system_identifier + 1", "database_oid = 1"] {
        superuser
            .batch_execute(&format!("update tenantry_private.tenant_database set {change}"))
            .await
            .unwrap();
        let session = fixture.session().await;
        assert_eq!(
            keys::check_identity(&session.client).await.unwrap_err().code(),
            Some("28000")
        );
        let made = fixture.again().await;
        assert!(made.was_copy);
        assert_ne!(made.key.blocks(), fixture.made.key.blocks());
        keys::check_identity(&session.client).await.unwrap();
        let mut session = session;
        let old = session.key.sign(&session.token(fixture.a));
        assert_eq!(refusal(&session.try_enter(&old).await.unwrap_err()).0, "28000");
        session.key = made.key;
        session.enter(fixture.a).await;
        assert_eq!(
            session.notes_as(fixture.a).await.unwrap(),
            [format!("of {}", fixture.a)]
        );
    }
}

async fn a_renamed_database_keeps_its_keys(fixture: Fixture) {
    let superuser = fixture.superuser().await;
    superuser
        .batch_execute("update tenantry_private.mac_key set database_name = 'before'")
        .await
        .unwrap();
    let mut session = fixture.session().await;
    let signed = session.key.sign(&session.token(fixture.a));
    assert_eq!(refusal(&session.try_enter(&signed).await.unwrap_err()).0, "28000");
    let made = fixture.again().await;
    assert!(!made.was_copy);
    session.enter(fixture.a).await;
}

async fn nobody_is_left_a_member_of_the_mechanisms_owner(fixture: Fixture) {
    let superuser = fixture.superuser().await;
    let Roles { seal, owner, .. } = Roles::of(&fixture.installation);
    let usable: Vec<String> = superuser
        .query(
            "select r.rolname::text from pg_roles r where r.rolname <> $1 and not r.rolsuper and pg_has_role(r.oid, $1, 'usage')",
            &[&seal.as_str()],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(usable.is_empty(), "{usable:?}");
    let administrator = fixture.admin.config().get_user().unwrap();
    let row = superuser
        .query_one(
            "select pg_has_role($1, $2, 'usage')",
            &[&administrator, &owner.as_str()],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    fixture
        .client
        .batch_execute(&format!("set role {owner}; reset role"))
        .await
        .unwrap();
}

#[tokio::test]
async fn two_installations_share_a_server() {
    let one = sealed().await;
    let two = sealed().await;
    assert_ne!(one.installation, two.installation);
    // at once, from different maintenance databases, where no lock of ours is common
    let (first, second) = (installation(), installation());
    let (made, other) = tokio::join!(
        bootstrap::server(&one.admin, &first, None),
        bootstrap::server(&two.admin, &second, None)
    );
    assert_eq!((made.unwrap().tier, other.unwrap().tier), (Tier::Sealed, Tier::Sealed));
    // but no database
    let request = DatabaseRequest {
        name: one.database.name(),
        ..two.request()
    };
    let refused = bootstrap::database(&two.admin, &request).await.unwrap_err();
    assert!(
        matches!(&refused, BootstrapError::AnotherInstallation { owner, .. } if owner == one.installation.as_str()),
        "{refused}"
    );
}

#[tokio::test]
async fn a_schema_of_somebody_elses_is_left_alone() {
    let database = tenantry_testing::database().await;
    let client = database.connect().await;
    client
        .batch_execute("create schema app; create table app.theirs (id int)")
        .await
        .unwrap();
    let admin = ServerAdmin::new(database.config()).unwrap();
    let installation = installation();
    bootstrap::server(&admin, &installation, None).await.unwrap();
    let request = DatabaseRequest {
        installation: &installation,
        database: TenantDatabaseId::from_uuid(Uuid::now_v7()),
        name: database.name(),
        credentials: None,
        force_signed: false,
    };
    let refused = bootstrap::database(&admin, &request).await.unwrap_err();
    assert!(
        matches!(refused, BootstrapError::SchemaTaken { schema: "app", .. }),
        "{refused}"
    );
    let left = client
        .query("select nspname from pg_namespace where nspname ~ '^tenantry'", &[])
        .await
        .unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let fixture = sealed().await;
    let superuser = fixture.superuser().await;
    superuser
        .batch_execute("update tenantry_private.tenant_database set version = 1000")
        .await
        .unwrap();
    let refused = bootstrap::database(&fixture.admin, &fixture.request())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BootstrapError::Newer { found: 1000, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_ready_says_so() {
    let database = tenantry_testing::database().await;
    let admin = ServerAdmin::new(database.config()).unwrap();
    let installation = installation();
    let request = DatabaseRequest {
        installation: &installation,
        database: TenantDatabaseId::from_uuid(Uuid::now_v7()),
        name: database.name(),
        credentials: None,
        force_signed: false,
    };
    let refused = bootstrap::database(&admin, &request).await.unwrap_err();
    assert!(matches!(refused, BootstrapError::ServerNotReady(_)), "{refused}");
    let nowhere = DatabaseRequest {
        name: "no_such_database",
        ..request
    };
    let refused = bootstrap::database(&admin, &nowhere).await.unwrap_err();
    assert!(
        matches!(&refused, BootstrapError::Admin(error) if error.is_no_such_database()),
        "{refused}"
    );
}

#[tokio::test]
async fn an_administrator_who_may_create_no_roles_is_told_so() {
    let database = tenantry_testing::database().await;
    let superuser = database.connect().await;
    let name = format!("weak_{}", new_tenant().as_uuid().simple());
    superuser
        .batch_execute(&format!("create role {name} login password 'x'"))
        .await
        .unwrap();
    let config = database.cluster().config_for(database.name(), &name, "x");
    let admin = ServerAdmin::new(config).unwrap();
    let refused = bootstrap::server(&admin, &installation(), None).await.unwrap_err();
    assert!(matches!(refused, BootstrapError::NotAllowed { .. }), "{refused}");
    superuser.batch_execute(&format!("drop role {name}")).await.unwrap();
}

/// The tier follows what the server allows: granted later, the next bootstrap seals.
#[tokio::test]
async fn the_signed_tier_becomes_the_sealed_one_when_the_carrier_is_granted() {
    let fixture = Fixture::signed_on(tenantry_testing::cluster().await).await;
    let superuser = fixture.superuser().await;
    let seal = Roles::of(&fixture.installation).seal;
    let carrier = tenantry_engine::seal::CARRIER;
    change_shared_rows(&superuser, &format!("grant set on parameter {carrier} to {seal}"))
        .await
        .unwrap();
    let made = fixture.again().await;
    assert_eq!(made.tier, Tier::Sealed);
    let mut session = Session::of(fixture.app_client().await, made.key, made.tier).await;
    session.enter(fixture.a).await;
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
    // and back, where it is asked for
    let request = DatabaseRequest {
        force_signed: true,
        ..fixture.request()
    };
    let made = bootstrap::database(&fixture.admin, &request).await.unwrap();
    assert_eq!(made.tier, Tier::Signed);
    let mut session = Session::of(fixture.app_client().await, made.key, made.tier).await;
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
    change_shared_rows(&superuser, &format!("revoke set on parameter {carrier} from {seal}"))
        .await
        .unwrap();
}

/// What the application role stored for itself does not outlive the next bootstrap.
#[tokio::test]
async fn settings_that_the_application_role_left_are_refused_and_reset() {
    let fixture = sealed().await;
    let app = fixture.app_client().await;
    app.batch_execute("alter role current_user set search_path = public")
        .await
        .unwrap();
    let findings = check::application_role(&app, &fixture.made.app_role).await.unwrap();
    assert_eq!(findings.found.len(), 1, "{findings}");
    fixture.again().await;
    let findings = check::application_role(&app, &fixture.made.app_role).await.unwrap();
    assert!(findings.found.is_empty(), "{findings}");
}

#[tokio::test]
async fn an_own_database_can_be_made_ready_and_dropped() {
    for fixture in [
        sealed().await,
        Fixture::signed_on(tenantry_testing::cluster().await).await,
        Fixture::signed_on(tenantry_testing::second_cluster().await).await,
    ] {
        let tenant = new_tenant();
        let name = tenantry_core::own_database_name(&fixture.installation, tenant);
        let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
        let create = || home::create_database(&fixture.admin, &fixture.installation, &name);
        assert_eq!(create().await.unwrap(), home::Outcome::Done);
        assert_eq!(create().await.unwrap(), home::Outcome::AlreadySo);
        let request = DatabaseRequest {
            database: id,
            name: &name,
            ..fixture.request()
        };
        let made = bootstrap::database(&fixture.admin, &request).await.unwrap();
        assert_eq!(made.tier, fixture.made.tier);
        let config = fixture
            .database
            .cluster()
            .config_for(&name, &made.app_role, made.app_password.expose_secret());
        // one that is still there when it is dropped
        let _connected = connect(&config).await;
        let drop = || home::drop_database(&fixture.admin, &fixture.installation, id, &name);
        assert_eq!(drop().await.unwrap(), home::Outcome::Done);
        assert_eq!(drop().await.unwrap(), home::Outcome::AlreadySo);
        let left = fixture
            .superuser()
            .await
            .query("select from pg_roles where rolname = $1", &[&made.app_role])
            .await
            .unwrap();
        assert!(left.is_empty());
    }
}
