//! `tenantry serve`: starts, drains, and refuses where it would not be safe.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use reqwest::StatusCode;
use rustix::process::{Pid, Signal};
use tenantry_testing::cluster;
use tokio_postgres::Client;

use crate::fleet::Installation;

struct Serve {
    child: Child,
    http: String,
}

impl Serve {
    fn start(installation: &Installation) -> Self {
        let mut command = installation.command(&["serve", "--listen", "127.0.0.1:0", "--drain-timeout-s", "5"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut http = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut http)
            .unwrap();
        Self {
            child,
            http: http.trim().to_owned(),
        }
    }

    fn terminate(mut self) -> i32 {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The role that the application connects as to a tenant database.
async fn application_role(client: &Client) -> String {
    client
        .query_one(
            "select rolname from pg_roles
             where rolname like 'tn\\_%\\_app' and has_database_privilege(oid, current_database(), 'connect')",
            &[],
        )
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_while_it_serves_is_found_by_the_next_audit() {
    let installation = Installation::with_server().await;
    let tenant = installation.json(&["tenant", "create", "acme", "--isolation", "database"]);
    let client = cluster()
        .await
        .connect(tenant["placement"]["database"].as_str().unwrap())
        .await;
    let role = application_role(&client).await;
    // Each second.
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--audit-interval-h", "0.0003"];
    let mut child = installation
        .command(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let mut http = String::new();
    BufReader::new(stdout).read_line(&mut http).unwrap();
    let serve = Serve {
        child,
        http: http.trim().to_owned(),
    };
    let (found, finds) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains("MT041") {
                let _ = found.send(line);
            }
        }
    });
    // It was sound when it started.
    assert!(finds.recv_timeout(Duration::from_secs(2)).is_err());
    client
        .batch_execute(&format!("alter role {role} bypassrls"))
        .await
        .unwrap();
    let line = finds.recv_timeout(Duration::from_secs(30)).unwrap();
    client
        .batch_execute(&format!("alter role {role} nobypassrls"))
        .await
        .unwrap();
    assert!(
        line.contains(&role) && line.to_lowercase().contains("bypassrls"),
        "{line}"
    );
    // Said, and served on: what was let in at the start is not thrown out.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let live = reqwest::get(format!("{}/health/live", serve.http)).await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    assert_eq!(serve.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_and_ends_well_when_asked_to() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installation = Installation::with_server().await;
    let serve = Serve::start(&installation);
    let live = reqwest::get(format!("{}/health/live", serve.http)).await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    // The application is one of its own, not the CRM.
    let contacts = reqwest::get(format!("{}/app/contacts", serve.http)).await.unwrap();
    assert_ne!(contacts.status(), StatusCode::OK);
    assert_eq!(serve.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_start_where_the_application_role_could_bypass_row_security() {
    let installation = Installation::with_server().await;
    let tenant = installation.json(&["tenant", "create", "acme", "--isolation", "database"]);
    let database = tenant["placement"]["database"].as_str().unwrap();
    let client = cluster().await.connect(database).await;
    let role = application_role(&client).await;
    client
        .batch_execute(&format!("alter role {role} bypassrls"))
        .await
        .unwrap();
    let refused = installation.run(&["serve", "--listen", "127.0.0.1:0", "--log", "off"]);
    let error = refused.fails(1);
    assert!(
        error.contains(&role) && error.to_lowercase().contains("bypassrls") && error.contains("MT041"),
        "{error}"
    );
    // Served only where that is said in so many words, and then loudly.
    let served = installation
        .command(&["serve", "--listen", "127.0.0.1:0", "--accept-critical-findings"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut served = served;
    let mut http = String::new();
    BufReader::new(served.stdout.take().unwrap())
        .read_line(&mut http)
        .unwrap();
    let pid = i32::try_from(served.id()).ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let said = served.wait_with_output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(
        http.starts_with("http://") && said.contains("SERVING ALTHOUGH TENANTS CAN REACH"),
        "{http}{said}"
    );
    let doctor = installation.run(&["doctor"]);
    assert!(
        doctor.code == 1 && doctor.stdout.to_lowercase().contains("bypassrls"),
        "{doctor:?}"
    );
    client
        .batch_execute(&format!("alter role {role} nobypassrls"))
        .await
        .unwrap();
}

/// Installations of an older Tenantry: each of their databases is refused until it is up to date.
#[tokio::test(flavor = "multi_thread")]
async fn it_brings_older_databases_up_to_date_and_refuses_newer_ones() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installation = Installation::with_server().await;
    let tenant = installation.json(&["tenant", "create", "acme", "--isolation", "database"]);
    let database = tenant["placement"]["database"].as_str().unwrap();
    let admin = cluster().await.connect(database).await;
    let version = async || -> i32 {
        let sql = "select version from tenantry_private.tenant_database";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    };
    let now = version().await;
    let catalog = installation.catalog().await;
    let set = async |version: i32| {
        let sql = "update tenantry_catalog.tenant_database set bootstrap_version = $1";
        catalog.execute(sql, &[&version]).await.unwrap();
        let sql = "update tenantry_private.tenant_database set version = $1";
        admin.execute(sql, &[&version]).await.unwrap();
    };

    set(now - 1).await;
    let doctor = installation.run(&["doctor"]);
    assert!(
        doctor.code == 1
            && doctor
                .stdout
                .contains(&format!("has version {}, this program needs {now}", now - 1)),
        "{doctor:?}"
    );
    let serve = Serve::start(&installation);
    assert_eq!(version().await, now);
    assert_eq!(serve.terminate(), 0);

    set(now - 1).await;
    installation.json(&["migrate", "apply"]);
    assert_eq!(version().await, now);
    installation.run(&["doctor"]);

    set(now + 1).await;
    for command in [
        &["serve", "--listen", "127.0.0.1:0", "--log", "off"][..],
        &["migrate", "apply"],
    ] {
        let refused = installation.run(command);
        let error = refused.fails(1);
        assert!(
            error.contains("newer Tenantry") && error.contains("update this program"),
            "{error}"
        );
    }
    let doctor = installation.run(&["doctor"]);
    assert!(
        doctor.code == 1 && doctor.stdout.contains("newer Tenantry"),
        "{doctor:?}"
    );
    assert_eq!(version().await, now + 1);

    // What an administrator may not do any more is told by name, and nothing is served.
    set(now - 1).await;
    admin
        .batch_execute("comment on schema app is 'somebody else''s'")
        .await
        .unwrap();
    let refused = installation.run(&["serve", "--listen", "127.0.0.1:0", "--log", "off"]);
    let error = refused.fails(1);
    assert!(error.contains(database) && error.contains("start again"), "{error}");
    let applied = installation.run(&["migrate", "apply", "--log", "off"]);
    assert!(applied.fails(1).contains(database), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_logged_with_its_id() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installation = Installation::with_server().await;
    let mut child = installation
        .command(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "info,tenantry_server=debug",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut http = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut http)
        .unwrap();
    let request = reqwest::Client::new().get(format!("{}/v1/tenants?q=secret", http.trim()));
    let answer = request.header("x-request-id", "from-client").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let line = said
        .lines()
        .find(|line| line.contains("from-client"))
        .unwrap_or_default();
    for part in ["/v1/tenants", "GET", "401", "duration_ms"] {
        assert!(line.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("secret"), "what people search for stays out: {said}");
}
