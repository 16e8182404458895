//! `tenantry dev` from start to end, on a PostgreSQL of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};

use reqwest::{Client, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use tenantry::{Config, Tenantry, axum::TenantLayer};

use crate::{
    init::notes,
    support::{Dev, Folder},
};

struct Api {
    client: Client,
    http: String,
}

impl Api {
    fn of(dev: &Dev) -> Self {
        // What the binary does in main; the client under test has none of its own.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self {
            client: Client::new(),
            http: dev.http().to_owned(),
        }
    }

    async fn log_in(&self, tenant: &Value) -> String {
        let body = json!({"email": tenant["email"], "password": tenant["password"]});
        let answer = self
            .client
            .post(format!("{}/v1/auth/login", self.http))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn contacts(&self, token: &str) -> Vec<Value> {
        let answer = self
            .client
            .get(format!("{}/app/contacts", self.http))
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json::<Value>().await.unwrap()["items"]
            .as_array()
            .unwrap()
            .clone()
    }

    async fn create_contact(&self, token: &str, name: &str) -> Value {
        let create = self
            .client
            .post(format!("{}/app/contacts", self.http))
            .bearer_auth(token);
        let answer = create.json(&json!({"name": name})).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_serves_three_tenants_and_leaves_nothing_behind() {
    let folder = Folder::named("tenantry dev ");
    let dev = Dev::start(&folder, &[]);
    dev_json_is_as_documented(&folder, &dev);
    let api = Api::of(&dev);
    for tenant in dev.tenants() {
        let slug = tenant["slug"].as_str().unwrap();
        assert!(dev.greeting.contains(slug) && dev.greeting.contains(tenant["password"].as_str().unwrap()));
        let token = api.log_in(tenant).await;
        let before = api.contacts(&token).await;
        assert!(before.len() >= 3, "{slug} has demo data");
        let made = api.create_contact(&token, slug).await;
        let after = api.contacts(&token).await;
        assert_eq!(after.len(), before.len() + 1);
        assert_eq!(after[0]["id"], made["id"]);
        app_role_sees_nothing_without_a_context(tenant).await;
    }
    operator_key_lists_the_tenants(&api, &dev).await;
    commands_in_the_folder_use_the_running_catalog(&folder);
    second_dev_is_refused(&folder);

    assert_eq!(dev.stop(), 0);
    assert_eq!(folder.servers(), 0, "PostgreSQL has stopped");
    assert!(!folder.dev_json().exists());
}

fn dev_json_is_as_documented(folder: &Folder, dev: &Dev) {
    let mode = std::fs::metadata(folder.dev_json()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(&dev.json),
        [
            "admin_url",
            "app_url",
            "catalog_url",
            "http",
            "operator_key",
            "pid",
            "tenants"
        ]
    );
    let isolations: Vec<_> = dev
        .tenants()
        .iter()
        .map(|tenant| tenant["isolation"].as_str().unwrap())
        .collect();
    assert_eq!(isolations, ["shared", "schema", "database"]);
    for tenant in dev.tenants() {
        assert_eq!(
            keys(tenant),
            ["app_url", "email", "id", "isolation", "password", "schema", "slug"]
        );
    }
    assert_eq!(dev.json["app_url"], dev.tenants()[0]["app_url"]);
    assert_eq!(dev.tenants()[0]["schema"], "app");
}

async fn app_role_sees_nothing_without_a_context(tenant: &Value) {
    let (client, connection) = tokio_postgres::connect(tenant["app_url"].as_str().unwrap(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let table = format!("{}.contacts", tenant["schema"].as_str().unwrap());
    let count: i64 = client
        .query_one(&format!("select count(*) from {table}"), &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 0);
    let refused = client
        .execute(&format!("insert into {table} (name) values ('x')"), &[])
        .await;
    assert!(refused.is_err(), "a write without a context is refused");
}

async fn operator_key_lists_the_tenants(api: &Api, dev: &Dev) {
    let key = dev.json["operator_key"].as_str().unwrap();
    let answer = api
        .client
        .get(format!("{}/v1/tenants", api.http))
        .bearer_auth(key)
        .send()
        .await
        .unwrap();
    let tenants: Value = answer.json().await.unwrap();
    assert_eq!(tenants["items"].as_array().unwrap().len(), 3);
}

fn commands_in_the_folder_use_the_running_catalog(folder: &Folder) {
    let listed = folder.run(["tenant", "list", "--json"]).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    let found = folder.run(["doctor"]);
    assert_eq!(found.code, 0, "{found:?}");
}

fn second_dev_is_refused(folder: &Folder) {
    let second = folder.run(["dev", "--port", "0"]);
    let error = second.fails(1);
    assert!(error.contains("already runs"), "{error}");
    assert!(folder.dev_json().exists(), "the first one's file stays");
}

/// The application says in its configuration what it can't do without; the control plane serves all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_below_the_configured_minimum_is_answered_that_it_is_migrated() {
    let folder = Folder::new();
    assert_eq!(Dev::start(&folder, &[]).stop(), 0);
    folder.write("tenantry.toml", "minimum_version = 99\n");
    let dev = Dev::start(&folder, &[]);
    let api = Api::of(&dev);
    for tenant in dev.tenants() {
        let token = api.log_in(tenant).await;
        let contacts = format!("{}/app/contacts", api.http);
        let answer = api.client.get(contacts).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "tenant-migrating");
    }
    assert_eq!(dev.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_outlives_a_kill_and_fresh_starts_over() {
    let folder = Folder::new();
    let dev = Dev::start(&folder, &[]);
    let api = Api::of(&dev);
    let token = api.log_in(&dev.tenants()[1]).await;
    let made = api.create_contact(&token, "Kept").await;
    let first = dev.json.clone();
    dev.kill();
    assert!(folder.servers() > 0, "PostgreSQL is orphaned");
    assert!(folder.dev_json().exists(), "nobody could remove the file");

    let dev = Dev::start(&folder, &[]);
    let api = Api::of(&dev);
    for (again, before) in dev.tenants().iter().zip(first["tenants"].as_array().unwrap()) {
        assert_eq!((&again["id"], &again["password"]), (&before["id"], &before["password"]));
    }
    assert_eq!(dev.json["operator_key"], first["operator_key"]);
    let token = api.log_in(&dev.tenants()[1]).await;
    let contacts = api.contacts(&token).await;
    assert_eq!(contacts[0]["id"], made["id"]);
    assert_eq!(
        contacts
            .iter()
            .filter(|contact| contact["name"] == "Mia Moreno")
            .count(),
        1,
        "filled once"
    );
    dev.signal(Signal::TERM);
    assert_eq!(dev.stop(), 0);

    let dev = Dev::start(&folder, &["--fresh"]);
    assert_ne!(dev.tenants()[1]["id"], first["tenants"][1]["id"]);
    assert_eq!(dev.stop(), 0);
    assert_eq!(folder.servers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_ones_own_serves_the_same_tenants() {
    let folder = Folder::new();
    folder.run(["init", "shop"]);
    let project = folder.path().join("shop");
    let dev = Dev::start_in(&folder, &project, &[]);
    let api = Api::of(&dev);
    let shop = shop(&project, &dev).await;
    for tenant in dev.tenants() {
        let token = api.log_in(tenant).await;
        let notes = format!("{shop}/notes");
        let create = api
            .client
            .post(&notes)
            .bearer_auth(&token)
            .json(&json!({"title": tenant["slug"]}));
        assert_eq!(create.send().await.unwrap().status(), StatusCode::CREATED);
        let listed = api.client.get(&notes).bearer_auth(&token).send().await.unwrap();
        let listed: Value = listed.json().await.unwrap();
        let titles: Vec<_> = listed.as_array().unwrap().iter().map(|note| &note["title"]).collect();
        assert_eq!(titles, [&tenant["slug"]], "its own notes and no others");
    }
    let nobody = api.client.get(format!("{shop}/notes")).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    let environment = std::fs::read_to_string(project.join(".tenantry/dev.env")).unwrap();
    assert!(environment.contains("TENANTRY_CATALOG_URL") && environment.contains("TENANTRY_MASTER_KEY_FILE"));
    assert_eq!(dev.stop(), 0);
}

/// The generated application, as its `main` runs it.
async fn shop(project: &Path, dev: &Dev) -> String {
    let catalog = dev.json["catalog_url"].as_str().unwrap();
    let config = Config::with_key_file(catalog, &project.join(".tenantry/master.key")).unwrap();
    let tenantry = Tenantry::connect(config).await.unwrap();
    let application = notes::router().layer(TenantLayer::new(tenantry));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = format!("http://{}", listener.local_addr().unwrap());
    let service = application.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    http
}

#[test]
fn a_start_that_was_killed_half_way_is_gone_on_with() {
    let folder = Folder::new();
    for place in ["prepare_database.before_bootstrap", "provision.before_tables"] {
        let mut child = folder
            .command()
            .args(["dev", "--port", "0"])
            .env("TENANTRY_FAILPOINT", format!("{place}=stop"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let reached = said.into_iter().any(|line| line.contains("failpoint"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reached, "{place} was not reached");
    }
    let dev = Dev::start(&folder, &[]);
    assert_eq!(dev.tenants().len(), 3);
    assert_eq!(dev.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_postgresql_it_answers_unavailable_and_goes_on() {
    let folder = Folder::new();
    let dev = Dev::start(&folder, &[]);
    let api = Api::of(&dev);
    let token = api.log_in(&dev.tenants()[0]).await;
    api.contacts(&token).await;
    folder.kill_servers();
    let contacts = api.client.get(format!("{}/app/contacts", api.http)).bearer_auth(&token);
    let refused = contacts.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let live = api
        .client
        .get(format!("{}/health/live", api.http))
        .send()
        .await
        .unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    let command = folder.run(["tenant", "list"]);
    assert!(command.fails(1).contains("start it again"), "{command:?}");
    assert_eq!(dev.stop(), 0);
}

#[test]
fn a_port_that_is_taken_is_told_and_leaves_nothing_running() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = folder.run(["dev", "--port", &port]);
    let error = run.fails(1);
    assert!(error.contains(&port) && error.contains("--port 0"), "{error}");
    assert_eq!(folder.servers(), 0);
}

/// `mktemp -d` and `/root` are closed to PostgreSQL's user.
#[test]
fn root_may_work_in_a_folder_that_postgresql_may_not_enter() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = Folder::new();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let dev = Dev::start(&folder, &[]);
    let data = folder.path().join(".tenantry/postgres").canonicalize().unwrap();
    assert_eq!(dev.stop(), 0);
    assert!(!data.starts_with(folder.path()), "{}", data.display());
    let mode = std::fs::metadata(folder.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the folder's mode is the user's business");
    assert!(tenantry_postgres::servers_below(&data).is_empty());
    std::fs::remove_dir_all(&data).unwrap();
}
