//! Several `serve` on one catalog, under load, while one after the other is killed.

mod beside;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::fleet::Installation;

const PROCESSES: usize = 3;
const CLIENTS: usize = 4;
const KILLS: usize = 4;

/// A process that serves, and when it was killed last.
struct Process {
    child: Mutex<Option<Child>>,
    http: RwLock<String>,
    /// While it is dead or young: whoever meets it now may lose its connection.
    in_doubt: AtomicBool,
    /// How often it was killed.
    killed: AtomicU64,
}

impl Process {
    fn start(installation: &Installation) -> Self {
        let (child, http) = spawn(installation);
        Self {
            child: Mutex::new(Some(child)),
            http: RwLock::new(http),
            in_doubt: AtomicBool::new(false),
            killed: AtomicU64::new(0),
        }
    }

    /// `kill -9`, and another one in its place.
    fn replace(&self, installation: &Installation) {
        self.in_doubt.store(true, Ordering::SeqCst);
        self.killed.fetch_add(1, Ordering::SeqCst);
        let mut place = self.child.lock().unwrap();
        if let Some(mut child) = place.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let (child, http) = spawn(installation);
        *place = Some(child);
        *self.http.write().unwrap() = http;
        self.in_doubt.store(false, Ordering::SeqCst);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(installation: &Installation) -> (Child, String) {
    let mut command = installation.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--audit-interval-h",
        "0",
        "--log",
        "off",
    ]);
    // A process that was killed keeps its share of the server's 64 connections for some seconds: with these bounds there is enough
    // for those that live and those that are gone.
    command.args(["--server-connections", "8"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut http = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut http)
        .unwrap();
    assert!(http.starts_with("http://"), "serve does not start: {http}");
    (child, http.trim().to_owned())
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// Contacts that were answered with 201.
    made: Mutex<BTreeSet<String>>,
    /// Contacts whose request lost its connection: there or not there.
    unknown: Mutex<BTreeSet<String>>,
    /// What should not have been.
    wrong: Mutex<Vec<String>>,
    reads: AtomicU64,
}

async fn work(client: usize, token: Arc<String>, processes: Arc<Vec<Process>>, seen: Arc<Seen>, stop: Arc<AtomicBool>) {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let process = &processes[(client + number) % processes.len()];
        let kills = process.killed.load(Ordering::SeqCst);
        if process.in_doubt.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let url = process.http.read().unwrap().clone();
        let name = format!("c{client}-{number}");
        let writes = number % 4 == 0;
        let request = if writes {
            let body = json!({ "name": name }).to_string();
            let post = http.post(format!("{url}/app/contacts")).body(body);
            post.header("content-type", "application/json")
        } else {
            http.get(format!("{url}/app/contacts?limit=1"))
        };
        let answered = async {
            let answer = request.bearer_auth(&*token).send().await?;
            let status = answer.status().as_u16();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        match answered.await {
            Ok((201, _)) if writes => drop(seen.made.lock().unwrap().insert(name)),
            Ok((200, _)) if !writes => drop(seen.reads.fetch_add(1, Ordering::Relaxed)),
            Ok((status, text)) => seen.wrong.lock().unwrap().push(format!("{status}: {text}")),
            Err(error) => {
                // The connection was the killed process's, or it is a failure.
                if process.killed.load(Ordering::SeqCst) == kills {
                    seen.wrong.lock().unwrap().push(format!("{error:?}"));
                } else if writes {
                    seen.unknown.lock().unwrap().insert(name);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_but_on_the_killed_processs_connections() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installation = Installation::with_crm().await;
    let created = installation.json(&[
        "tenant",
        "create",
        "acme",
        "--isolation",
        "shared",
        "--admin",
        "ann@acme.example",
    ]);
    assert_eq!(created["state"], "active");
    let token = installation.run(&["token", "access", "ann@acme.example"]);
    assert_eq!(token.code, 0, "{token:?}");
    let token = Arc::new(token.stdout.trim().to_owned());
    let operator = installation.json(&["token", "create", "test"]);
    let operator_key = operator["key"].as_str().unwrap().to_owned();
    let tenant = created["id"].as_str().unwrap().parse().unwrap();

    let processes: Arc<Vec<Process>> = Arc::new((0..PROCESSES).map(|_| Process::start(&installation)).collect());
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            tokio::spawn(work(
                client,
                Arc::clone(&token),
                Arc::clone(&processes),
                Arc::clone(&seen),
                Arc::clone(&stop),
            ))
        })
        .collect();
    let creating = tokio::spawn(beside::create_tenants(
        operator_key,
        Arc::clone(&processes),
        Arc::clone(&seen),
        Arc::clone(&stop),
    ));
    let jobs = tokio::spawn(beside::work_on_jobs(
        installation.catalog_url(),
        tenant,
        Arc::clone(&seen),
        Arc::clone(&stop),
    ));
    let begun = Instant::now();
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::block_in_place(|| processes[kill % PROCESSES].replace(&installation));
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    jobs.await.unwrap();
    let tenants = creating.await.unwrap();

    assert_eq!(
        *seen.wrong.lock().unwrap(),
        Vec::<String>::new(),
        "after {:?}",
        begun.elapsed()
    );
    let (made, unknown) = (seen.made.lock().unwrap().clone(), seen.unknown.lock().unwrap().clone());
    assert!(
        made.len() > 10 && seen.reads.load(Ordering::Relaxed) > 10,
        "hardly anything happened"
    );
    // Everything that was acknowledged is there, once; what was not may be there, once.
    let mut there = Vec::new();
    let mut cursor = String::new();
    let http = reqwest::Client::new();
    loop {
        let url = format!("{}/app/contacts?limit=200{cursor}", processes[0].http.read().unwrap());
        let answer = http.get(url).bearer_auth(&*token).send().await.unwrap();
        let page: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        for item in page["items"].as_array().unwrap() {
            there.push(item["name"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let distinct: BTreeSet<String> = there.iter().cloned().collect();
    assert_eq!(distinct.len(), there.len(), "something was done twice");
    assert!(made.is_subset(&distinct), "lost: {:?}", made.difference(&distinct));
    let allowed: BTreeSet<String> = made.union(&unknown).cloned().collect();
    assert!(
        distinct.is_subset(&allowed),
        "nobody made {:?}",
        distinct.difference(&allowed)
    );
    each_operation_ran_once(&installation, tenants).await;
}

/// Every tenant that was answered for is there, whole, and made by one operation, and no operation is left over.
async fn each_operation_ran_once(installation: &Installation, mut tenants: BTreeSet<String>) {
    assert!(!tenants.is_empty(), "no tenant was created");
    tenants.insert("acme".to_owned());
    let listed = installation.json(&["tenant", "list"]);
    let items = listed["items"].as_array().unwrap();
    let there: BTreeSet<String> = items
        .iter()
        .map(|item| item["slug"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(there, tenants);
    assert!(items.iter().all(|item| item["state"] == "active"), "{listed}");
    let sql = "select count(*), count(*) filter (where state = 'done'), count(distinct tenant)
               from tenantry_catalog.operation where kind = 'provision'";
    let row = installation.catalog().await.query_one(sql, &[]).await.unwrap();
    let counts: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let all = i64::try_from(tenants.len()).unwrap();
    assert_eq!(
        counts,
        (all, all, all),
        "operations, those that are done, and their tenants"
    );
}
