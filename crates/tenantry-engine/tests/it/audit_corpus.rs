//! Labelled databases: each broken in one way, or correct and looking broken. What is found must be what the labels say,
//! and with exploits tried, critical findings must be those that show a foreign row.

use std::collections::BTreeSet;

use tenantry_engine::audit::{self, Report, Severity, Subject};
use tenantry_testing::{TestDatabase, change_shared_rows, cluster, database_on, installation_id, second_cluster};
use tokio_postgres::Client;

pub(crate) const PRELUDE: &str = include_str!("../audit_corpus/prelude.sql");
const FILES: &[&str] = &[
    include_str!("../audit_corpus/presence.sql"),
    include_str!("../audit_corpus/policy.sql"),
    include_str!("../audit_corpus/role.sql"),
    include_str!("../audit_corpus/grant.sql"),
    include_str!("../audit_corpus/code.sql"),
    include_str!("../audit_corpus/key.sql"),
    include_str!("../audit_corpus/server.sql"),
];

/// What is said of the server is not the case's.
const OF_THE_SERVER: &[&str] = &["MT091", "MT092", "MT093", "MT094"];

/// Id, severity, object.
pub(crate) type Label = (String, Severity, String);

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) sql: String,
    pub(crate) expected: BTreeSet<Label>,
    /// Critical by the catalogs, and not to be shown by an exploit.
    unproved: BTreeSet<&'static str>,
    /// An extension.
    needs: Option<&'static str>,
    /// The server's major version from which on it is another case.
    pub(crate) until: Option<u32>,
}

/// Their roles begin with the prefix in the place of `corpus_`.
pub(crate) fn cases(database: &str, prefix: &str) -> Vec<Case> {
    let parts = FILES.iter().flat_map(|file| file.split("-- case: ").skip(1));
    parts
        .map(|part| {
            let mut case = Case {
                name: part.lines().next().unwrap(),
                sql: part
                    .lines()
                    .skip(1)
                    .collect::<Vec<_>>()
                    .join("\n")
                    .replace("corpus_", prefix),
                expected: BTreeSet::new(),
                unproved: BTreeSet::new(),
                needs: None,
                until: None,
            };
            for line in part.lines() {
                let Some((word, rest)) = line.strip_prefix("-- ").and_then(|line| line.split_once(": ")) else {
                    continue;
                };
                match word {
                    "expect" | "also" if rest != "nothing" => {
                        case.expected
                            .extend(rest.split("; ").map(|label| label_of(label, database, prefix)));
                    }
                    "unproved" => case.unproved.extend(rest.split("; ")),
                    "needs" => case.needs = Some(rest),
                    "until" => case.until = Some(rest.parse().unwrap()),
                    _ => {}
                }
            }
            case
        })
        .collect()
}

fn label_of(text: &str, database: &str, prefix: &str) -> Label {
    let mut words = text.splitn(3, ' ');
    let mut word = || {
        words
            .next()
            .unwrap_or_else(|| panic!("a label is id, severity, object: {text}"))
    };
    (
        word().to_owned(),
        word().parse().unwrap(),
        word().replace("{database}", database).replace("corpus_", prefix),
    )
}

pub(crate) fn subject(role: &str) -> Subject {
    Subject {
        tenant_columns: vec!["tenant_id".to_owned()],
        ..Subject::of(role)
    }
}

fn labels(report: &Report) -> BTreeSet<Label> {
    report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Info && !OF_THE_SERVER.contains(&finding.id))
        .map(|finding| (finding.id.to_owned(), finding.severity, finding.object.clone()))
        .collect()
}

/// The prelude in an open transaction; each case stands in a savepoint over it.
struct World {
    database: TestDatabase,
    client: Client,
    extensions: BTreeSet<String>,
    major: u32,
    /// Roles are the server's: in the place of `corpus_`, so that worlds do not wait for each other.
    prefix: String,
}

impl World {
    async fn on(cluster: &tenantry_testing::TestCluster) -> Self {
        let database = database_on(cluster).await;
        let client = database.connect().await;
        let rows = client
            .query("select name::text from pg_available_extensions", &[])
            .await
            .unwrap();
        let extensions = rows.iter().map(|row| row.get(0)).collect();
        let prefix = format!("c{}_", installation_id());
        let prelude = PRELUDE.replace("corpus_", &prefix);
        client.batch_execute(&format!("begin; {prelude}")).await.unwrap();
        Self {
            database,
            client,
            extensions,
            major: cluster.major(),
            prefix,
        }
    }

    /// The cases that this server can hold.
    fn cases(&self) -> Vec<Case> {
        let mut cases = cases(self.database.name(), &self.prefix);
        cases.retain(|case| {
            let missing = case.needs.filter(|extension| !self.extensions.contains(*extension));
            if let Some(extension) = missing {
                eprintln!("SKIPPED: {}: the server has no extension {extension}", case.name);
            }
            missing.is_none() && case.until.is_none_or(|until| self.major < until)
        });
        cases
    }

    async fn build(&self, case: &Case) {
        self.client.batch_execute("savepoint corpus_case").await.unwrap();
        // Some cases change what all worlds on the server share.
        let sql = format!("rollback to savepoint corpus_case; {}\n; reset role", case.sql);
        if let Err(error) = change_shared_rows(&self.client, &sql).await {
            panic!("{}: {:?}", case.name, error.as_db_error());
        }
    }

    async fn clear(&self) {
        self.client
            .batch_execute("rollback to savepoint corpus_case; release savepoint corpus_case")
            .await
            .unwrap();
    }

    fn subject(&self) -> Subject {
        subject(&format!("{}web", self.prefix))
    }

    async fn compare(&self) -> (usize, usize) {
        let (mut hits, mut misses, mut alarms) = (0_usize, Vec::new(), Vec::new());
        let cases = self.cases();
        for case in &cases {
            self.build(case).await;
            let report = audit::inspect(&self.client, &self.subject()).await.unwrap();
            self.clear().await;
            let found = labels(&report);
            hits += found.intersection(&case.expected).count();
            misses.extend(
                case.expected
                    .difference(&found)
                    .map(|label| format!("{}: {label:?}", case.name)),
            );
            alarms.extend(
                found
                    .difference(&case.expected)
                    .map(|label| format!("{}: {label:?}", case.name)),
            );
        }
        let precision = ratio(hits, alarms.len());
        let recall = ratio(hits, misses.len());
        println!(
            "{} cases on PostgreSQL {}: {hits} labels found, precision {precision:.1} %, recall {recall:.1} %",
            cases.len(),
            self.major
        );
        assert!(
            misses.is_empty() && alarms.is_empty(),
            "precision {precision:.1} %, recall {recall:.1} %\nmissed:\n  {}\nfalse alarms:\n  {}",
            misses.join("\n  "),
            alarms.join("\n  ")
        );
        (cases.len(), hits)
    }
}

#[expect(clippy::cast_precision_loss, reason = "hundreds")]
fn ratio(hits: usize, others: usize) -> f64 {
    100.0 * hits as f64 / (hits + others) as f64
}

#[tokio::test]
async fn every_label_is_found_and_nothing_else() {
    let (cases, labels) = World::on(cluster().await).await.compare().await;
    assert!(cases >= 150 && labels >= 100, "{cases} cases, {labels} labels");
}

#[tokio::test]
async fn every_label_is_found_on_another_version() {
    let (cases, _) = World::on(second_cluster().await).await.compare().await;
    assert!(cases >= 150, "{cases} cases");
}

/// Each critical finding's exploit returns or changes a foreign row, but for those whose label says that it can't; and what
/// the exploit did is gone.
#[tokio::test]
async fn critical_findings_are_those_whose_exploit_shows_a_foreign_row() {
    let world = World::on(cluster().await).await;
    let (mut shown, mut wrong) = (0, Vec::new());
    for case in world
        .cases()
        .iter()
        .filter(|case| case.expected.iter().any(|(_, at, _)| *at == Severity::Critical))
    {
        world.build(case).await;
        let mut report = audit::inspect(&world.client, &world.subject()).await.unwrap();
        let before = rows(&world.client).await;
        audit::prove_in(&world.client, &world.subject(), &mut report)
            .await
            .unwrap();
        let after = rows(&world.client).await;
        assert_eq!(before, after, "{}: it leaves nothing behind", case.name);
        for finding in &report.findings {
            let Some(proof) = &finding.proof else { continue };
            assert_eq!(proof.shown, finding.severity == Severity::Critical);
            shown += usize::from(proof.shown);
            if proof.shown == case.unproved.contains(finding.id) {
                wrong.push(format!(
                    "{}: {} {}\n{}",
                    case.name, finding.id, proof.summary, proof.script
                ));
            }
        }
        world.clear().await;
    }
    println!("{shown} exploits showed a foreign row");
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert!(shown >= 50, "{shown}");
}

async fn rows(client: &Client) -> String {
    let row = client
        .query_one("select (select count(*) from app.note)::text || (select count(*) from pg_class)::text || current_user || session_user", &[])
        .await
        .unwrap();
    row.get(0)
}
