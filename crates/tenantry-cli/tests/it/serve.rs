//! `tenantry serve`: starts, drains, and refuses where it would not be safe.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use rustix::process::{Pid, Signal};
use tenantry_testing::{cluster, test_folder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_postgres::Client;

use crate::fleet::Installation;

pub(crate) struct Serve {
    child: Child,
    pub(crate) http: String,
}

impl Serve {
    pub(crate) fn start(installation: &Installation) -> Self {
        Self::start_with(installation, &["--drain-timeout-s", "5"], Stdio::null())
    }

    pub(crate) fn start_with(installation: &Installation, arguments: &[&str], log: Stdio) -> Self {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let mut command = installation.command(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut http = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut http)
            .unwrap();
        Self {
            child,
            http: http.trim().to_owned(),
        }
    }

    pub(crate) fn signal(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
    }

    pub(crate) fn terminate(self) -> i32 {
        self.signal();
        self.ended()
    }

    pub(crate) fn ended(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }

    /// A request that goes on until its client ends it: half of its body is missing.
    async fn half_a_request(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.http.trim_start_matches("http://"))
            .await
            .unwrap();
        let request = "POST /v1/auth/login HTTP/1.1\r\nhost: localhost\r\nx-request-id: held-on\r\n\
                       content-type: application/json\r\ncontent-length: 2\r\n\r\n{";
        stream.write_all(request.as_bytes()).await.unwrap();
        // Until it is begun.
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream
    }

    async fn status(&self, path: &str) -> Option<StatusCode> {
        let answer = reqwest::get(format!("{}{path}", self.http)).await;
        answer.ok().map(|answer| answer.status())
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
    // What is wrong often is told often enough to be understood, and counted.
    for number in 1..=25 {
        client
            .batch_execute(&format!(
                "create table app.leak_{number:02} (tenant_id uuid, t text); grant select on app.leak_{number:02} to {role}"
            ))
            .await
            .unwrap();
    }
    let refused = installation.run(&["serve", "--listen", "127.0.0.1:0"]);
    let told = |id: &str| refused.stderr.lines().filter(|line| line.contains(id)).count();
    let error = refused.stderr.lines().last().unwrap_or_default();
    assert_eq!(
        (refused.code, told("id=\"MT001\""), told("and 5 more of this kind") > 0),
        (1, 21, true)
    );
    assert!(error.contains("leak_01") && error.len() < 4_000, "{error}");
}

/// What the application role may do to itself, by SQL that somebody got in, keeps neither it nor the server out for good.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_role_did_to_itself_is_brought_back() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installation = Installation::with_server().await;
    let tenant = installation.json(&["tenant", "create", "acme", "--isolation", "shared"]);
    let database = tenant["placement"]["database"].as_str().unwrap();
    let client = cluster().await.connect(database).await;
    let role = application_role(&client).await;
    client
        .batch_execute(&format!(
            "set session authorization {role};
             alter role current_user set statement_timeout = '1ms';
             alter role current_user set row_security = off;
             alter role current_user password 'taken';
             select lo_create(0);
             alter default privileges grant select on tables to public;
             reset session authorization"
        ))
        .await
        .unwrap();
    assert_eq!(installation.run(&["audit"]).code, 1, "it is told");
    let serve = Serve::start(&installation);
    let live = reqwest::get(format!("{}/health/live", serve.http)).await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    let settings: i64 = client
        .query_one(
            "select count(*) from pg_db_role_setting s, unnest(s.setconfig) x
              where s.setrole = $1::text::regrole and x <> 'search_path=app, tenantry_ext'",
            &[&role],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(settings, 0);
    assert_eq!(serve.terminate(), 0);
    let audit = installation.run(&["audit", "--json", "--fail-on", "critical"]);
    assert_eq!(audit.code, 0, "{audit:?}");
}

/// A database that answers and can't be judged is no reason to hope.
#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_start_where_a_database_answers_and_can_not_be_audited() {
    let installation = Installation::with_server().await;
    let tenant = installation.json(&["tenant", "create", "acme", "--isolation", "database"]);
    let database = tenant["placement"]["database"].as_str().unwrap();
    let client = cluster().await.connect(database).await;
    // As an administrator may do by mistake, for this database alone.
    let set = |value: &str| format!("alter database {database} set statement_timeout = '{value}'");
    client.batch_execute(&set("1ms")).await.unwrap();
    let refused = installation.run(&["serve", "--listen", "127.0.0.1:0", "--log", "off"]);
    let error = refused.fails(1);
    assert!(
        error.contains(database) && error.contains("can't be audited"),
        "{error}"
    );
    client.batch_execute(&set("0")).await.unwrap();
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

/// First it says that it is not ready, and serves; then it listens no more, and what was begun ends.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_before_it_stops_accepting_and_requests_end_in_time() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installation = Installation::with_server().await;
    let arguments = ["--drain-delay-s", "2", "--drain-timeout-s", "20"];
    let serve = Serve::start_with(&installation, &arguments, Stdio::null());
    assert_eq!(serve.status("/health/ready").await, Some(StatusCode::OK));
    let mut held = serve.half_a_request().await;
    serve.signal();
    let asked = Instant::now();
    while serve.status("/health/ready").await != Some(StatusCode::SERVICE_UNAVAILABLE) {
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "it still says that it is ready"
        );
    }
    // Whoever has not noticed yet is served.
    assert_eq!(serve.status("/health/live").await, Some(StatusCode::OK));
    while serve.status("/health/live").await.is_some() {
        assert!(asked.elapsed() < Duration::from_secs(10), "it still accepts");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(asked.elapsed() >= Duration::from_millis(1500), "{:?}", asked.elapsed());
    held.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    assert_eq!(serve.ended(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_on_is_cut_off_and_told_and_the_exit_code_says_so() {
    let installation = Installation::with_server().await;
    // At the end of the time, and at once when a second signal comes.
    for (timeout, signals) in [("1", 1), ("60", 2)] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let file = Stdio::from(File::create(log.path()).unwrap());
        let serve = Serve::start_with(&installation, &["--drain-timeout-s", timeout], file);
        let mut held = serve.half_a_request().await;
        let asked = Instant::now();
        for _ in 0..signals {
            serve.signal();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let mut answer = String::new();
        held.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("\"unavailable\""),
            "{answer}"
        );
        assert_eq!(serve.ended(), 3, "{timeout}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        let said = std::fs::read_to_string(log.path()).unwrap();
        let line = said.lines().find(|line| line.contains("held on until"));
        assert!(
            line.is_some_and(|line| line.contains("held-on") && line.contains("/v1/auth/login")),
            "who held on is told: {said}"
        );
        assert!(said.contains("1 requests and 0 connections held on"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_whose_backup_is_due_are_backed_up_while_it_serves() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    let folder = test_folder();
    let place = ["--backups", folder.path().to_str().unwrap()];
    let arguments = [&place[..], &["--backup-interval-h", "1"]].concat();
    let serve = Serve::start_with(&installation, &arguments, Stdio::null());
    let begun = Instant::now();
    let made = loop {
        let listed = installation.json(&[&["backup", "list", "acme"][..], &place].concat());
        let made = listed["items"].as_array().unwrap().len();
        if made > 0 {
            break made;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody is backed up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(made, 1);
    assert_eq!(serve.terminate(), 0);
}
