//! What the log holds, and what it never holds.

use std::{fs::File, process::Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tenantry_testing::cluster;

use crate::{
    fleet::{Installation, KEY},
    serve::Serve,
};

/// What must not be found, with what it is.
#[derive(Default)]
struct Canaries(Vec<(String, String)>);

impl Canaries {
    fn text(&mut self, what: &str, text: impl Into<String>) -> String {
        let text = text.into();
        assert!(text.len() >= 8, "{what}: too short to be sure of: {text}");
        self.0.push((what.to_owned(), text.clone()));
        text
    }

    /// In each form in which bytes are shown.
    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        self.text(what, hex(bytes));
        self.text(what, hex(bytes).to_uppercase());
        self.text(what, STANDARD.encode(bytes).trim_end_matches('=').to_owned());
        self.text(what, format!("{bytes:?}").trim_matches(['[', ']']).to_owned());
        self.text(what, bytes.escape_ascii().to_string());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Api<'a> {
    client: Client,
    http: &'a str,
}

impl Api<'_> {
    fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.http));
        if token.is_empty() {
            request
        } else {
            request.bearer_auth(token)
        }
    }

    async fn ask(&self, method: Method, path: &str, token: &str, body: Value) -> (u16, Value) {
        let answer = self.request(method, path, token).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default(),
        )
    }

    async fn made(&self, path: &str, token: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Method::POST, path, token, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }
}

/// Everything is logged that anything in the process logs, and none of it is a secret or what people write and look for.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_at_any_level() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installation = Installation::crm().await;
    let mut canaries = Canaries::default();
    let log = tempfile::NamedTempFile::new().unwrap();
    let file = Stdio::from(File::create(log.path()).unwrap());
    let arguments = [
        "--log",
        "trace",
        "--log-format",
        "json",
        "--slow-statement-ms",
        "1",
        "--drain-timeout-s",
        "5",
    ];
    let operator = installation.json(&["token", "create", "ci"]);
    let operator = canaries.text("an operator key", operator["key"].as_str().unwrap());
    let serve = Serve::start_with(&installation, &arguments, file);
    let api = Api {
        client: Client::new(),
        http: &serve.http,
    };

    let password = canaries.text("a password", "correct-canary-battery-7");
    for isolation in ["shared", "schema", "database"] {
        let email = format!("ann@{isolation}.example");
        let admin = json!({ "email": email, "password": password, "name": "Ann" });
        let body = json!({ "slug": format!("a-{isolation}"), "name": "A", "isolation": isolation, "admin": admin });
        let tenant = api.made("/v1/tenants", &operator, body).await;
        let id = tenant["id"].as_str().unwrap();
        let tokens = api
            .made("/v1/auth/login", "", json!({ "email": email, "password": password }))
            .await;
        let access = canaries.text("an access token", tokens["access_token"].as_str().unwrap());
        let refresh = canaries.text("a refresh token", tokens["refresh_token"].as_str().unwrap());
        let again = api
            .made("/v1/auth/refresh", "", json!({ "refresh_token": refresh }))
            .await;
        canaries.text("an access token", again["access_token"].as_str().unwrap());
        canaries.text("a refresh token", again["refresh_token"].as_str().unwrap());
        let keys = format!("/v1/tenants/{id}/api-keys");
        let key = api.made(&keys, &access, json!({ "name": "k", "role": "member" })).await;
        let key = canaries.text("an API key", key["key"].as_str().unwrap());
        let name = canaries.text("what people write", format!("canary-contact-{isolation}"));
        let contact = api.made("/app/contacts", &key, json!({ "name": name })).await;
        let path = format!("/app/contacts/{}", contact["id"].as_str().unwrap());
        let (status, _) = api.ask(Method::GET, &path, &access, json!({})).await;
        assert_eq!(status, 200);
        let looked_for = canaries.text("what people look for", format!("canary-search-{isolation}"));
        let (status, _) = api
            .ask(
                Method::GET,
                &format!("/app/contacts?q={looked_for}"),
                &access,
                json!({}),
            )
            .await;
        assert_eq!(status, 200);
        let wrong = canaries.text("a wrong password", format!("wrong-canary-{isolation}"));
        let (status, _) = api
            .ask(
                Method::POST,
                "/v1/auth/login",
                "",
                json!({ "email": email, "password": wrong }),
            )
            .await;
        assert_eq!(status, 401);
        let forged = canaries.text("a forged token", format!("{}canary", &access[..access.len() - 8]));
        assert_eq!(api.ask(Method::GET, "/app/contacts", &forged, json!({})).await.0, 401);
        let offer = api
            .made("/v1/password-resets", &operator, json!({ "email": email }))
            .await;
        let reset = canaries.text("a password reset", offer["token"].as_str().unwrap());
        let new = canaries.text("a new password", format!("another-canary-battery-{isolation}"));
        let body = json!({ "token": reset, "new_password": new });
        let (status, answer) = api.ask(Method::POST, "/v1/auth/reset-password", "", body).await;
        assert!(status < 300, "{answer}");
        let database = tenant["placement"]["database"].as_str().unwrap();
        let admin = cluster().await.connect(database).await;
        for row in admin
            .query("select ik, ok from tenantry_private.mac_key", &[])
            .await
            .unwrap()
        {
            let (inner, outer): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
            let secret: Vec<u8> = inner[..32].iter().map(|byte| byte ^ 0x36).collect();
            canaries.bytes("a seal's key", &secret);
            canaries.bytes("a seal's key", &inner[..32]);
            canaries.bytes("a seal's key", &outer[..32]);
        }
    }
    assert_eq!(serve.terminate(), 0);

    canaries.text("the master key", KEY);
    canaries.bytes(
        "the master key",
        &(0..KEY.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&KEY[at..at + 2], 16).unwrap())
            .collect::<Vec<_>>(),
    );
    canaries.text("the catalog's address", installation.catalog_url());
    canaries.text("a server's password", cluster().await.password());
    let catalog = tenantry_catalog::Catalog::connect(
        &installation.catalog_url(),
        &tenantry_catalog::MasterKey::parse(KEY).unwrap(),
    )
    .await
    .unwrap();
    let client = catalog.client().await.unwrap();
    for database in tenantry_catalog::tenant_database::list_ready(&client).await.unwrap() {
        let secrets = tenantry_catalog::tenant_database::secrets(&catalog, &client, database.id)
            .await
            .unwrap();
        let password = secrecy::ExposeSecret::expose_secret(&secrets.app_password).to_owned();
        canaries.text("the application role's password", password);
    }

    let said = std::fs::read_to_string(log.path()).unwrap();
    let mut found = Vec::new();
    for (what, text) in &canaries.0 {
        if let Some(line) = said.lines().find(|line| line.contains(text.as_str())) {
            found.push(format!("{what}: {}", &line[..line.len().min(600)]));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    // What is said at lower levels was looked through, too.
    let lines: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    for level in ["DEBUG", "INFO", "WARN"] {
        assert!(lines.iter().any(|line| line["level"] == level), "{level}");
    }
    assert!(lines.len() > 50, "{}", lines.len());
    // And a line in JSON says whose request it was.
    let answered = lines
        .iter()
        .find(|line| {
            line["message"] == "request answered"
                && line["http.path"] == "/app/contacts"
                && line["isolation"] == "schema"
        })
        .expect("a line of a request");
    for field in ["request.id", "trace.id", "tenant.id", "placement"] {
        assert!(answered[field].is_string(), "{field}: {answered}");
    }
    assert!(
        answered["account.id"].is_string() || answered["api_key.id"].is_string(),
        "{answered}"
    );
}

/// What collectors get: the whole request, as the caller's trace has it.
#[cfg(feature = "otlp")]
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_span_of_each_request() {
    use axum::{Json, Router, extract::State, routing::post};
    use tokio::sync::mpsc;

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (sender, mut got) = mpsc::unbounded_channel();
    let collect = |State(sender): State<mpsc::UnboundedSender<Value>>, Json(body): Json<Value>| async move {
        let _ = sender.send(body);
        Json(json!({}))
    };
    let collector = Router::new().route("/v1/traces", post(collect)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, collector).await });

    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    let operator = installation.json(&["token", "create", "ci"]);
    let serve = Serve::start_with(&installation, &["--otlp-endpoint", &endpoint], Stdio::null());
    let api = Api {
        client: Client::new(),
        http: &serve.http,
    };
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = api.request(
        Method::GET,
        "/v1/tenants/acme/members",
        operator["key"].as_str().unwrap(),
    );
    let answer = request.header("traceparent", traceparent).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let told = answer.headers()["traceresponse"].to_str().unwrap().to_owned();
    let body = tokio::time::timeout(std::time::Duration::from_secs(20), got.recv())
        .await
        .unwrap()
        .unwrap();
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let span = spans
        .iter()
        .find(|span| span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736")
        .unwrap_or_else(|| panic!("{body}"));
    assert_eq!(
        (&span["parentSpanId"], &span["name"], &span["kind"]),
        (&json!("00f067aa0ba902b7"), &json!("GET"), &json!(2))
    );
    assert!(told.contains(span["spanId"].as_str().unwrap()), "{told} {span}");
    let attributes = span["attributes"].as_array().unwrap();
    let names: Vec<_> = attributes
        .iter()
        .map(|attribute| attribute["key"].as_str().unwrap())
        .collect();
    for name in [
        "http.request.method",
        "url.path",
        "tenantry.request.id",
        "tenantry.tenant.id",
        "tenantry.operator.id",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let nanoseconds = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanoseconds("endTimeUnixNano") > nanoseconds("startTimeUnixNano"));
    // A trace that begins here goes on as one that is recorded.
    let request = api.request(Method::GET, "/v1/tenants", operator["key"].as_str().unwrap());
    let answer = request.send().await.unwrap();
    let told = answer.headers()["traceresponse"].to_str().unwrap().to_owned();
    assert!(told.ends_with("-01"), "{told}");
    assert_eq!(serve.terminate(), 0);
}
