//! Who may do what: every route of the contract, times everybody who should not get through.
//!
//! The routes come from the OpenAPI document; one that has no place in [`ACCESS`] fails the test, so that nobody forgets to
//! say who may use it.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, App, Client, PASSWORD, Tenant};

/// Who may use a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// Operators.
    Operator,
    /// Owners and admins of the tenant that the path names, and operators.
    Admin,
    /// Whoever is logged in, about themselves.
    Account,
    /// Members of the tenant, viewers too.
    Read,
    /// Members of the tenant but viewers.
    Write,
    /// Owners and admins of the caller's tenant.
    Manage,
}

use Access::{Account, Admin, Manage, Operator, Public, Read, Write};

pub(crate) const ACCESS: &[(&str, &str, Access)] = &[
    ("GET", "/health/live", Public),
    ("GET", "/health/ready", Public),
    ("GET", "/metrics", Public),
    ("GET", "/openapi.json", Public),
    ("GET", "/.well-known/jwks.json", Public),
    ("POST", "/v1/auth/login", Public),
    ("POST", "/v1/auth/refresh", Public),
    ("POST", "/v1/auth/reset-password", Public),
    ("POST", "/v1/password-resets", Operator),
    ("GET", "/health/tenants", Operator),
    ("POST", "/v1/tenants", Operator),
    ("GET", "/v1/tenants", Operator),
    ("GET", "/v1/tenants/{id}", Operator),
    ("PATCH", "/v1/tenants/{id}", Operator),
    ("DELETE", "/v1/tenants/{id}", Operator),
    ("POST", "/v1/tenants/{id}/suspend", Operator),
    ("PUT", "/v1/tenants/{id}/legal-hold", Operator),
    ("DELETE", "/v1/tenants/{id}/legal-hold", Operator),
    ("POST", "/v1/tenants/{id}/resume", Operator),
    ("POST", "/v1/tenants/{id}/moves", Operator),
    ("GET", "/v1/tenants/{id}/erasure", Operator),
    ("GET", "/v1/tenants/{id}/backups", Operator),
    ("POST", "/v1/tenants/{id}/backups", Operator),
    ("GET", "/v1/tenants/{id}/backup-schedule", Operator),
    ("PUT", "/v1/tenants/{id}/backup-schedule", Operator),
    ("DELETE", "/v1/tenants/{id}/backup-schedule", Operator),
    ("POST", "/v1/tenants/{id}/exports", Operator),
    ("POST", "/v1/backups/{backup}/restore", Operator),
    ("POST", "/v1/tenants/{id}/restore", Operator),
    ("GET", "/v1/servers", Operator),
    ("POST", "/v1/servers/{name}/check", Operator),
    ("PUT", "/v1/servers/{name}/replicas", Operator),
    ("PUT", "/v1/servers/{name}/spares", Operator),
    ("POST", "/v1/servers/{name}/drain", Operator),
    ("POST", "/v1/servers/rebalance", Operator),
    ("GET", "/v1/operations/{id}", Operator),
    ("GET", "/v1/operations/{id}/certificate", Operator),
    ("POST", "/v1/operations/{id}/pause", Operator),
    ("POST", "/v1/operations/{id}/resume", Operator),
    ("POST", "/v1/operations/{id}/abort", Operator),
    ("POST", "/v1/operations/{id}/rollback", Operator),
    ("POST", "/v1/operations/{id}/finish", Operator),
    ("GET", "/v1/migrations", Operator),
    ("POST", "/v1/migrations", Operator),
    ("POST", "/v1/migrations/retry", Operator),
    ("POST", "/v1/migrations/plan", Operator),
    ("POST", "/v1/migrations/verify", Operator),
    ("POST", "/v1/migrations/reconcile", Operator),
    ("PUT", "/v1/migrations/minimum-version", Operator),
    ("GET", "/v1/plans", Operator),
    ("PUT", "/v1/plans/{plan}", Operator),
    ("DELETE", "/v1/plans/{plan}", Operator),
    ("GET", "/v1/tenants/{id}/size", Admin),
    ("GET", "/v1/tenants/{id}/usage", Admin),
    ("POST", "/v1/tenants/{id}/members", Admin),
    ("GET", "/v1/tenants/{id}/members", Admin),
    ("PATCH", "/v1/tenants/{id}/members/{account}", Admin),
    ("DELETE", "/v1/tenants/{id}/members/{account}", Admin),
    ("POST", "/v1/tenants/{id}/api-keys", Admin),
    ("GET", "/v1/tenants/{id}/api-keys", Admin),
    ("DELETE", "/v1/tenants/{id}/api-keys/{key}", Admin),
    ("GET", "/v1/tenants/{id}/jobs", Admin),
    ("POST", "/v1/tenants/{id}/jobs/retry", Admin),
    ("POST", "/v1/tenants/{id}/jobs/{job}/retry", Admin),
    ("DELETE", "/v1/tenants/{id}/jobs/{job}", Admin),
    ("GET", "/v1/tenants/{id}/schedules", Admin),
    ("DELETE", "/v1/tenants/{id}/schedules/{schedule}", Admin),
    ("GET", "/v1/jobs", Operator),
    ("POST", "/v1/jobs/retry", Operator),
    ("GET", "/v1/auth/me", Account),
    ("POST", "/v1/auth/switch", Account),
    ("POST", "/v1/auth/accept", Account),
    ("POST", "/v1/auth/password", Account),
    ("POST", "/v1/auth/logout", Account),
    ("GET", "/app/contacts", Read),
    ("GET", "/app/contacts/{id}", Read),
    ("POST", "/app/contacts", Write),
    ("PATCH", "/app/contacts/{id}", Write),
    ("DELETE", "/app/contacts/{id}", Write),
    ("GET", "/app/projects", Read),
    ("GET", "/app/projects/{id}", Read),
    ("POST", "/app/projects", Write),
    ("PATCH", "/app/projects/{id}", Write),
    ("DELETE", "/app/projects/{id}", Write),
    ("GET", "/app/tasks", Read),
    ("GET", "/app/tasks/{id}", Read),
    ("POST", "/app/tasks", Write),
    ("PATCH", "/app/tasks/{id}", Write),
    ("DELETE", "/app/tasks/{id}", Write),
    ("GET", "/app/tasks/{id}/history", Manage),
    ("GET", "/app/search", Read),
];

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Nobody,
    /// An owner, of another tenant.
    OtherTenant,
    /// A viewer of the tenant.
    LowerRole,
    /// The owner of a tenant that is suspended.
    SuspendedTenant,
    /// Was an admin of the tenant.
    RemovedMember,
    ExpiredToken,
    /// Signed by a key that is not ours.
    ForgedToken,
}

const EVERYBODY: [Who; 7] = [
    Who::Nobody,
    Who::OtherTenant,
    Who::LowerRole,
    Who::SuspendedTenant,
    Who::RemovedMember,
    Who::ExpiredToken,
    Who::ForgedToken,
];

/// What they must be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// Refused so.
    Refused(u16, &'static str),
    /// Answered about their own, which is all they may see.
    Own,
    /// They may.
    Served,
}

use Expected::{Own, Refused, Served};

/// The matrix. `names_a_row` where the path names a row of the tenant's.
fn expected(who: Who, access: Access, names_a_row: bool) -> Expected {
    match (who, access) {
        (_, Public) => Own,
        (Who::Nobody, _) => Refused(401, "unauthenticated"),
        (Who::ExpiredToken | Who::ForgedToken, _) => Refused(401, "bad-token"),
        (_, Account) => Own,
        (Who::SuspendedTenant, _) => Refused(403, "tenant-suspended"),
        (_, Operator) => Refused(403, "forbidden"),
        (Who::OtherTenant, Admin) => Refused(404, "not-found"),
        (Who::OtherTenant, _) if names_a_row => Refused(404, "not-found"),
        (Who::OtherTenant, _) => Own,
        (Who::LowerRole, Admin | Manage | Write) => Refused(403, "forbidden"),
        (Who::LowerRole, Read) => Served,
        // Their token still names the tenant, which it does not open any more.
        (Who::RemovedMember, _) => Refused(403, "forbidden"),
    }
}

/// A tenant with a row of everything, whose texts all hold the mark.
pub(crate) struct Victim<'a> {
    pub(crate) tenant: &'a Tenant,
    mark: String,
    ids: BTreeMap<&'static str, String>,
}

impl<'a> Victim<'a> {
    pub(crate) async fn furnish(app: &App, tenant: &'a Tenant) -> Self {
        let mark = uuid::Uuid::now_v7().simple().to_string();
        let made = async |path: &str, body: Value| {
            let made = tenant.client.post(path, body).await.expect(201);
            made["id"].as_str().expect("an id").to_owned()
        };
        let project = made("/app/projects", json!({ "name": mark, "description": mark })).await;
        let contact = made(
            "/app/contacts",
            json!({ "name": mark, "email": format!("{mark}@example.net") }),
        )
        .await;
        let task = made("/app/tasks", json!({ "project_id": project, "title": mark })).await;
        let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
        let key = made(&keys, json!({ "name": mark, "role": "viewer" })).await;
        let member =
            json!({ "email": format!("{mark}@example.org"), "password": PASSWORD, "name": mark, "role": "member" });
        let members = format!("/v1/tenants/{}/members", tenant.id);
        let member = app.operator.post(&members, member).await.expect(201);
        let account = member["account_id"].as_str().expect("an account").to_owned();
        let job = app.dead_job(tenant, &mark).await;
        app.schedule(tenant, "by-night").await;
        let ids = BTreeMap::from([
            ("{job}", job),
            ("/app/projects", project),
            ("/app/contacts", contact),
            ("/app/tasks", task),
            ("{key}", key),
            ("{account}", account),
        ]);
        Self { tenant, mark, ids }
    }

    /// The path with the tenant's own ids.
    pub(crate) fn path(&self, path: &str) -> String {
        if path == "/app/search" {
            return format!("{path}?q={}", self.mark);
        }
        let id = ["/app/projects", "/app/contacts", "/app/tasks"]
            .iter()
            .find(|base| path.starts_with(**base))
            .map_or(&self.tenant.id, |base| &self.ids[base]);
        path.replace("{id}", id)
            .replace("{plan}", "planted")
            .replace("{account}", &self.ids["{account}"])
            .replace("{key}", &self.ids["{key}"])
            .replace("{job}", &self.ids["{job}"])
            .replace("{schedule}", "by-night")
            .replace("{name}", "one")
            .replace("{backup}", &self.tenant.id)
    }

    /// A body that is right for the route, so that nothing but the right to use it is missing.
    pub(crate) fn body(&self, method: &str, path: &str) -> Option<Value> {
        Some(match (method, path) {
            ("POST", "/v1/tenants") => json!({ "slug": "planted", "name": "Planted" }),
            ("PUT", "/v1/tenants/{id}/legal-hold") => json!({ "reason": "planted" }),
            ("PUT", "/v1/tenants/{id}/backup-schedule") => json!({ "interval_h": 0 }),
            ("PATCH", "/v1/tenants/{id}") => json!({ "name": "Stolen" }),
            ("POST", "/v1/tenants/{id}/moves") => json!({ "to": "database" }),
            ("POST", "/v1/tenants/{id}/members") => json!({ "email": "spy@example.net", "role": "viewer" }),
            ("PATCH", "/v1/tenants/{id}/members/{account}") => json!({ "role": "viewer" }),
            ("POST", "/v1/tenants/{id}/api-keys") => json!({ "name": "spy", "role": "viewer" }),
            ("PUT", "/v1/servers/{name}/replicas") => json!({ "replicas": [] }),
            ("PUT", "/v1/servers/{name}/spares") => json!({}),
            ("PUT", "/v1/plans/{plan}") => json!({ "members": 1 }),
            ("PUT", "/v1/migrations/minimum-version") => json!({ "version": 0 }),
            ("POST", "/v1/auth/switch" | "/v1/auth/accept") => json!({ "tenant": self.tenant.id }),
            ("POST", "/v1/auth/login") => json!({ "email": self.tenant.email, "password": "not the password" }),
            ("POST", "/v1/auth/refresh") => json!({ "refresh_token": "x" }),
            ("POST", "/v1/auth/reset-password") => json!({ "token": "x", "new_password": "a stolen password" }),
            ("POST", "/v1/password-resets") => json!({ "email": self.tenant.email }),
            ("POST", "/v1/backups/{backup}/restore") => json!({ "slug": "planted" }),
            ("POST", "/v1/tenants/{id}/restore") => json!({ "at": "latest" }),
            ("POST", "/v1/tenants/{id}/jobs/{job}/retry") => return None,
            ("POST", "/app/contacts" | "/app/projects") => json!({ "name": "planted" }),
            ("POST", "/app/tasks") => json!({ "title": "planted", "project_id": self.ids["/app/projects"] }),
            ("PATCH", "/app/tasks/{id}") => json!({ "title": "stolen" }),
            ("PATCH", _) => json!({ "name": "stolen" }),
            ("POST", _) => json!({}),
            _ => return None,
        })
    }

    /// Everything that the tenant has, as its owner sees it.
    pub(crate) async fn everything(&self) -> Vec<Value> {
        let (id, client) = (&self.tenant.id, &self.tenant.client);
        let mut all = Vec::new();
        for path in [
            "/app/contacts".to_owned(),
            "/app/projects".to_owned(),
            "/app/tasks".to_owned(),
            format!("/v1/tenants/{id}/members"),
            format!("/v1/tenants/{id}/api-keys"),
            format!("/v1/tenants/{id}/jobs"),
            format!("/v1/tenants/{id}/schedules"),
        ] {
            all.push(client.get(&path).await.expect(200));
        }
        all
    }
}

/// The credentials of everybody.
struct Everybody {
    other: Client,
    viewer: Client,
    suspended: Client,
    removed: Client,
    expired: Client,
    forged: Client,
}

impl Everybody {
    async fn gather(app: &App, victim: &Tenant, other: &Tenant, suspended: &Tenant) -> Self {
        let removed = app.member(victim, "admin").await;
        let account = removed.get("/v1/auth/me").await.expect(200)["account_id"].clone();
        let path = format!("/v1/tenants/{}/members/{}", victim.id, account.as_str().unwrap());
        app.operator.delete(&path).await.expect(204);
        app.within_a_second(async || removed.get("/app/contacts").await.status == 403)
            .await;
        let suspend = format!("/v1/tenants/{}/suspend", suspended.id);
        app.operator.post(&suspend, json!({})).await.expect(200);
        app.within_a_second(async || suspended.client.get("/app/contacts").await.status == 403)
            .await;
        let tokens = app.log_in(&victim.email, PASSWORD, None).await.expect(200);
        let token = tokens["access_token"].as_str().unwrap();
        Self {
            other: other.client.clone(),
            viewer: app.member(victim, "viewer").await,
            suspended: suspended.client.clone(),
            removed,
            expired: app.anonymous.bearer(&app.expired(token).await),
            forged: app.anonymous.bearer(&app.forged(token)),
        }
    }

    fn client<'a>(&'a self, app: &'a App, who: Who) -> &'a Client {
        match who {
            Who::Nobody => &app.anonymous,
            Who::OtherTenant => &self.other,
            Who::LowerRole => &self.viewer,
            Who::SuspendedTenant => &self.suspended,
            Who::RemovedMember => &self.removed,
            Who::ExpiredToken => &self.expired,
            Who::ForgedToken => &self.forged,
        }
    }
}

#[tokio::test]
async fn every_route_refuses_everybody_who_should_not_get_through() {
    let app = App::start().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    let (owned, other, suspended) = (&app.tenants[0], &app.tenants[1], &app.tenants[2]);
    let victim = Victim::furnish(&app, owned).await;
    let everybody = Everybody::gather(&app, owned, other, suspended).await;
    let before = victim.everything().await;
    let (mut asked, mut wrong) = (0, Vec::new());
    for (method, path) in routes(&document) {
        let access = access(&method, &path);
        // It ends the log-in that all the other requests need.
        if path == "/v1/auth/logout" {
            continue;
        }
        for who in EVERYBODY {
            let client = everybody.client(&app, who);
            let concrete = match who {
                // Their own tenant, which is suspended.
                Who::SuspendedTenant if access == Admin => path.replace("{id}", &suspended.id),
                _ => path.clone(),
            };
            let concrete = victim.path(&concrete);
            let body = victim.body(&method, &path).map(|body| body.to_string());
            let answer = client.send(method.parse().unwrap(), &concrete, body).await;
            wrong.extend(judge(&victim, who, expected(who, access, names_a_row(&path)), answer));
            asked += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(asked, (ACCESS.len() - 1) * EVERYBODY.len());
    assert_eq!(victim.everything().await, before, "nothing of the tenant's has changed");
    for who in [Who::Nobody, Who::ExpiredToken, Who::ForgedToken] {
        let code = if who == Who::Nobody {
            "unauthenticated"
        } else {
            "bad-token"
        };
        let client = everybody.client(&app, who);
        client.post("/v1/auth/logout", json!({})).await.refused(401, code);
    }
    // Whose log-in is ended by somebody else's log-out? Nobody's.
    everybody.removed.post("/v1/auth/logout", json!({})).await.expect(204);
    tokio::time::sleep(Duration::from_millis(300)).await;
    owned.client.get("/app/contacts").await.expect(200);
}

fn names_a_row(path: &str) -> bool {
    path.starts_with("/app/") && path.ends_with("{id}")
}

/// Every method and path of the contract.
pub(crate) fn routes(document: &Value) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys() {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    routes
}

/// The route's place in the matrix.
pub(crate) fn access(method: &str, path: &str) -> Access {
    ACCESS
        .iter()
        .find(|(known, at, _)| *known == method && *at == path)
        .map(|(_, _, access)| *access)
        .unwrap_or_else(|| panic!("{method} {path} has no place in the matrix: say who may use it"))
}

/// What is wrong with the answer, if anything.
fn judge(victim: &Victim<'_>, who: Who, expected: Expected, answer: Answer) -> Option<String> {
    let told = format!("{who:?}: {}: {} {}", answer.request, answer.status, answer.text);
    let right = match expected {
        Served => answer.status == 200,
        // A viewer knows the tenant's rows anyway; everybody else sees nothing of them, in whatever answer.
        Own => answer.status < 500 && (who == Who::LowerRole || !answer.text.contains(&victim.mark)),
        Refused(status, code) => {
            let coded = answer.text.contains(&format!("\"code\":\"{code}\""));
            let right = answer.status == status && coded && !answer.text.contains(&victim.mark);
            if right {
                answer.refused(status, code);
            }
            right
        }
    };
    (!right).then(|| format!("{told}, expected {expected:?}"))
}

/// Which routes there are, the matrix knows too: none is listed that is gone.
#[tokio::test]
async fn the_matrix_lists_no_route_that_is_gone() {
    let app = App::small().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    let routes = routes(&document);
    for (method, path, _) in ACCESS {
        assert!(
            routes.contains(&((*method).to_owned(), (*path).to_owned())),
            "{method} {path} is gone"
        );
    }
    assert_eq!(routes.len(), ACCESS.len());
}

/// Row by row: what another tenant's id is told is what an id that nobody has is told, but for the request's own id.
#[tokio::test]
async fn another_tenants_row_is_told_like_one_that_nobody_has() {
    let app = App::start().await;
    let victim = Victim::furnish(&app, &app.tenants[0]).await;
    let attacker = &app.tenants[1].client;
    let nobodys = uuid::Uuid::now_v7().to_string();
    let shape = |answer: Answer, id: &str| {
        let mut body: Value = serde_json::from_str(&answer.text).expect("a problem");
        body.as_object_mut().expect("an object").remove("request_id");
        let mut headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        headers.sort();
        (answer.status, headers, body.to_string().replace(id, "the id"))
    };
    for base in ["/app/contacts", "/app/projects", "/app/tasks"] {
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let body = (method == Method::PATCH).then(|| json!({}).to_string());
            // Conditions and ranges must not tell more.
            let asking = attacker.with("if-none-match", "*").with("range", "bytes=0-10");
            let theirs = &victim.ids[base];
            let of_them = asking
                .send(method.clone(), &format!("{base}/{theirs}"), body.clone())
                .await;
            let of_nobody = asking.send(method.clone(), &format!("{base}/{nobodys}"), body).await;
            assert_eq!(shape(of_them, theirs), shape(of_nobody, &nobodys), "{method} {base}");
        }
    }
    // A reference to another tenant's row, too.
    let task = |project: &str| json!({ "title": "x", "project_id": project });
    let theirs = &victim.ids["/app/projects"];
    let of_them = attacker.post("/app/tasks", task(theirs)).await;
    let of_nobody = attacker.post("/app/tasks", task(&nobodys)).await;
    assert_eq!(shape(of_them, theirs), shape(of_nobody, &nobodys));
}

/// A key of one tenant below the path of another.
#[tokio::test]
async fn ids_below_another_tenants_path_reach_nothing() {
    let app = App::start().await;
    let victim = Victim::furnish(&app, &app.tenants[0]).await;
    let attacker = &app.tenants[1];
    for (kind, id) in [("api-keys", "{key}"), ("members", "{account}"), ("jobs", "{job}")] {
        let mixed = format!("/v1/tenants/{}/{kind}/{}", attacker.id, victim.ids[id]);
        attacker.client.delete(&mixed).await.refused(404, "not-found");
        app.operator.delete(&mixed).await.refused(404, "not-found");
    }
    let keys = format!("/v1/tenants/{}/api-keys", victim.tenant.id);
    assert!(
        victim
            .tenant
            .client
            .get(&keys)
            .await
            .expect(200)
            .to_string()
            .contains(&victim.mark)
    );
}

/// Columns that the application does not show can be neither filtered nor sorted by.
#[tokio::test]
async fn hidden_columns_can_not_be_asked_for() {
    let app = App::start().await;
    for attacker in &app.tenants {
        let victim = app.tenants.iter().find(|tenant| tenant.id != attacker.id).unwrap();
        for base in ["/app/contacts", "/app/projects", "/app/tasks"] {
            for query in [
                format!("tenant_id={}", victim.id),
                "sort=tenant_id".to_owned(),
                "sort=-tenant_id".to_owned(),
                "sort=(select+1)".to_owned(),
                "sort=created_at;drop".to_owned(),
                "fields=tenant_id".to_owned(),
            ] {
                let answer = attacker.client.get(&format!("{base}?{query}")).await;
                assert_eq!(answer.status, 422, "{base}?{query}: {}", answer.text);
            }
        }
    }
}
