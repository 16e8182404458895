//! A process of its own that works on operations and can be killed: this test binary again, at one ignored test.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tenantry_core::Isolation;

use crate::fleet::{config, operator, ops_on, request};

const CATALOG: &str = "TENANTRY_TEST_CATALOG";
const ACT: &str = "TENANTRY_TEST_ACT";
const SLUG: &str = "TENANTRY_TEST_SLUG";
const BESIDE: &str = "TENANTRY_TEST_BESIDE";
const BACKUPS: &str = "TENANTRY_TEST_BACKUPS";

/// A child that is killed, as by `kill -9`, at the latest when this value goes.
pub(crate) struct Process {
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a child that does something with a tenant: `create-<isolation>`, `create-unseeded` (a schema, of files without seeds), `suspend`, `resume`, `delete`, `purge`,
    /// `export <file>`, `import-<isolation> <file>`, `import-new-ids-<isolation> <file>`, `add-server` (the slug is the address), `migrate`, `run-migrate` or `rehearse` (the slug
    /// is how many migrations there are), `upgrade` or `run` (whatever is due), or `move-<isolation>`, `move-<isolation>@<server>`; with
    /// `follow-` instead of `move-` also the smallest tenant works while it is copied, in pieces of a few rows, with `soak-` it soaks for a second as well, with `leased-` the
    /// lease is as long as it usually is; `take-back` takes one whose move soaks back. `retire-spares` wants no spares, and runs whatever is due.
    pub(crate) fn start(catalog: &str, act: &str, slug: &str, failpoints: &str) -> Self {
        Self::start_with(catalog, act, slug, failpoints, None)
    }

    /// Starts a child that purges a tenant which has a folder beside its rows.
    pub(crate) fn start_beside(catalog: &str, slug: &str, failpoints: &str, folder: &Path) -> Self {
        Self::start_with(catalog, "purge", slug, failpoints, Some((BESIDE, folder)))
    }

    /// Starts a child that puts a tenant's newest backup in the place of its rows.
    pub(crate) fn start_restoring(catalog: &str, slug: &str, failpoints: &str, backups: &Path) -> Self {
        Self::start_with(catalog, "restore", slug, failpoints, Some((BACKUPS, backups)))
    }

    fn start_with(catalog: &str, act: &str, slug: &str, failpoints: &str, with: Option<(&str, &Path)>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if let Some((name, folder)) = with {
            command.env(name, folder);
        }
        let child = command
            .args([
                "--exact",
                "child::acts_as_a_process_of_its_own",
                "--ignored",
                "--nocapture",
            ])
            .env(CATALOG, catalog)
            .env(ACT, act)
            .env(SLUG, slug)
            .env("TENANTRY_FAILPOINT", failpoints)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Waits until the child says that it has stopped at the place; `false` if it ended without.
    pub(crate) fn stops_at(&mut self, place: &str) -> bool {
        let said = format!("failpoint {place}");
        let lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        lines.map_while(Result::ok).any(|line| line == said)
    }

    /// The same without blocking the runtime.
    pub(crate) async fn comes_to(mut self, place: &str) -> Self {
        let place = place.to_owned();
        let came = tokio::task::spawn_blocking(move || {
            assert!(self.stops_at(&place), "the child never came to {place}");
            self
        });
        came.await.unwrap()
    }

    /// The same; then kills it.
    pub(crate) async fn gets_killed_at(self, place: &str) {
        drop(self.comes_to(place).await);
    }
}

#[test]
#[ignore = "a process that other tests start"]
fn acts_as_a_process_of_its_own() {
    let Ok(catalog) = std::env::var(CATALOG) else { return };
    let (act, slug) = (std::env::var(ACT).unwrap(), std::env::var(SLUG).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = match act.as_str() {
            "migrate" | "run-migrate" => crate::migrate_killed::config(slug.parse().unwrap()),
            _ => {
                let mut config = match act.as_str() {
                    "create-unseeded" => crate::hand_out::unseeded(),
                    _ => config(),
                };
                if act.starts_with("follow-") || act.starts_with("soak-") || act == "take-back" {
                    config.move_online_rows = 0;
                    config.move_piece_rows = crate::moving::PIECE_ROWS;
                }
                if act.starts_with("leased-") {
                    config.lease = tenantry_ops::FleetConfig::default().lease;
                }
                // Taken where there are any; most fleets have none.
                config.spare_schemas = usize::from(act != "retire-spares");
                if let Some(folder) = std::env::var_os(BACKUPS) {
                    config.backups = Some(tenantry_ops::BackupStore::in_folder(Path::new(&folder)).unwrap());
                }
                match std::env::var_os(BESIDE) {
                    Some(folder) => crate::beside::with_folders(config, Path::new(&folder), 0),
                    None => config,
                }
            }
        };
        let ops = ops_on(&catalog, config).await;
        let tenant = tenantry_ops::TenantRef::Slug(slug.clone());
        match act.as_str() {
            "suspend" => drop(ops.suspend_tenant(&operator(), &tenant).await),
            "resume" => drop(ops.resume_tenant(&operator(), &tenant).await),
            "delete" => drop(ops.delete_tenant(&operator(), &tenant).await),
            "purge" => drop(ops.purge_tenant(&operator(), &tenant).await),
            "restore" => {
                let newest = tenantry_ops::BackupAt::Latest;
                drop(ops.restore_tenant_in_place(&operator(), &tenant, newest).await);
            }
            "upgrade" => drop(ops.upgrade_databases(&operator()).await),
            "run" | "run-migrate" => ops.run_operations().await,
            "rehearse" => crate::migrate_verify::rehearse(&catalog, slug.parse().unwrap()).await,
            "migrate" => drop(ops.apply_migrations(&operator()).await),
            "retire-spares" => {
                tokio::join!(ops.keep_spares(), ops.run_operations());
            }
            "add-server" => {
                let request = tenantry_ops::ServerRequest {
                    name: "one".to_owned(),
                    region: None,
                    capacity: None,
                    connections: None,
                    admin_url: slug.into(),
                };
                drop(ops.add_server(&operator(), &request).await);
            }
            export if export.starts_with("export ") => {
                let path = Path::new(export.trim_start_matches("export "));
                let file = std::fs::File::create(path).unwrap();
                let options = tenantry_ops::ExportOptions::default();
                let exported = ops
                    .export_tenant(&operator(), &tenant, file, options, &mut |_, _, _| {})
                    .await;
                drop(exported.unwrap());
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
                std::fs::write(path.with_extension("peak"), peak.trim().trim_end_matches(" kB")).unwrap();
            }
            import if import.starts_with("import-") => {
                let (isolation, path) = import.trim_start_matches("import-").split_once(' ').unwrap();
                let mut request = tenantry_ops::ImportRequest::new(path);
                request.slug = Some(slug.parse().unwrap());
                let renewed = isolation.strip_prefix("new-ids-");
                request.isolation = Some(renewed.unwrap_or(isolation).parse().unwrap());
                if renewed.is_some() {
                    request.ids = tenantry_ops::RowIds::New { also: Vec::new() };
                }
                drop(ops.import_tenant(&operator(), &request).await);
            }
            "take-back" => crate::moving::take_back(&ops, &tenant).await,
            "create-unseeded" => {
                drop(
                    ops.create_tenant(&operator(), &request(&slug, Isolation::Schema), None)
                        .await,
                );
            }
            soaks if soaks.starts_with("soak-") => {
                crate::moving::soak(&ops, &tenant, soaks.trim_start_matches("soak-")).await;
            }
            moves if ["move-", "follow-", "leased-"].iter().any(|act| moves.starts_with(act)) => {
                crate::moving::act(&ops, &tenant, moves.split_once('-').unwrap().1).await;
            }
            create => {
                let isolation: Isolation = create.strip_prefix("create-").unwrap().parse().unwrap();
                drop(ops.create_tenant(&operator(), &request(&slug, isolation), None).await);
            }
        }
    });
}

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(mut self) {
        let ended = tokio::task::spawn_blocking(move || {
            let begun = std::time::Instant::now();
            while self.child.try_wait().unwrap().is_none() {
                assert!(
                    begun.elapsed() < std::time::Duration::from_secs(30),
                    "the child does not end"
                );
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        ended.await.unwrap();
    }
}
