//! A tenant of shared tables out into a file, and back from a backup while its neighbours stand in the same tables.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tenantry::TenantId;
use tenantry_wire::Connection;

use super::{
    super::{
        measure::Spread,
        report::{Finding, Target},
        world::authority,
    },
    psql::Psql,
    site::{Site, TABLE},
};

/// How often a process is asked for its memory.
const LOOK: Duration = Duration::from_millis(5);
/// What an export writes of a contact.
const COLUMNS: &str = "id, name, email, phone, company, notes, created_at, updated_at";

/// `tenantry tenant export` as a process of its own, beside psql.
pub(super) async fn export(site: &Site<'_>, rounds: u32, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let psql = Psql::find(site.world.cluster.binaries());
    let (mut ours, mut theirs, mut memory_mb, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), (0, 0));
    for round in 0..rounds {
        progress(&format!("moves: exporting, round {} of {rounds}", round + 1));
        if let Some(psql) = &psql {
            let file = site.folder.path().join("plain.copy");
            let copy = format!(
                "copy (select {COLUMNS} from {TABLE} where tenant_id = '{}') to stdout",
                site.large.as_uuid()
            );
            theirs.push(psql.write(&site.one, &copy, &file).await?.as_secs_f64());
            bytes.0 = std::fs::metadata(&file)?.len();
            std::fs::remove_file(&file)?;
        }
        let file = site.folder.path().join("large.tenantry");
        let exported = Exported::run(site, &file).await?;
        ours.push(exported.took.as_secs_f64());
        memory_mb.push(exported.memory_kb as f64 / 1024.0);
        bytes.1 = std::fs::metadata(&file)?.len();
        std::fs::remove_file(&file)?;
    }
    let rows = site.sizes.rows;
    let what = format!("exporting a tenant of {rows} rows from shared tables into a file, the whole command");
    let rate = |seconds: &[f64]| rows as f64 / Spread::of(seconds.iter().copied()).median;
    let speed = if theirs.is_empty() {
        let rates = Spread::of(ours.iter().map(|seconds| rows as f64 / seconds));
        Finding::new("export", what, "nothing: psql is missing", rates, Target::None)
            .unit("rows/s")
            .detail("NOT COMPARED: there is no psql among these PostgreSQL programs")
    } else {
        Finding::new(
            "export",
            what,
            "the limit: `copy (select … where tenant_id = …) to stdout` by psql into a file",
            Spread::of(ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours)),
            Target::AtLeast(0.6),
        )
        .detail(format!(
            "{:.0} rows/s against {:.0} rows/s; {} MB, compressed and signed, against {} MB",
            rate(&ours),
            rate(&theirs),
            bytes.1 / 1_000_000,
            bytes.0 / 1_000_000
        ))
    };
    let memory = Finding::new(
        "export-memory",
        "the most memory that this command had resident",
        "–",
        Spread::of(memory_mb),
        Target::AtMost(64.0),
    )
    .unit("MB");
    Ok(vec![speed, memory])
}

struct Exported {
    took: Duration,
    memory_kb: u64,
}

impl Exported {
    async fn run(site: &Site<'_>, file: &std::path::Path) -> Result<Self> {
        let begun = Instant::now();
        let process = Command::new(std::env::current_exe()?)
            .args(["tenant", "export", &site.large.to_string(), "--to"])
            .arg(file)
            .current_dir(site.folder.path())
            .env("TENANTRY_CATALOG_URL", &site.world.catalog_url)
            .env("TENANTRY_MASTER_KEY", "07".repeat(32))
            .env("TENANTRY_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("can't start `tenant export`")?;
        let mut process = Process(process);
        let mut memory_kb = None;
        loop {
            memory_kb = process.resident_kb_max().max(memory_kb);
            match process.0.try_wait()? {
                Some(status) if status.success() => break,
                Some(status) => bail!("`tenant export` failed: {status}"),
                None => tokio::time::sleep(LOOK).await,
            }
        }
        Ok(Self {
            took: begun.elapsed(),
            memory_kb: memory_kb.context("the system does not tell how much memory a process holds")?,
        })
    }
}

/// Gone when it is dropped.
struct Process(Child);

impl Process {
    /// The most that it has had so far.
    fn resident_kb_max(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended has nothing to be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts a backup in the place of a tenant's rows that were damaged.
pub(super) async fn restore(site: &Site<'_>, rounds: u32, progress: &dyn Fn(&str)) -> Result<Finding> {
    let rows = site.sizes.restored_rows;
    let tenant = site.tenant("restored", rows).await?;
    let backup = site.ops.create_backup(&authority(), &tenant.into()).await?;
    let mut admin = site.one.admin().await?;
    let before = checksums(&mut admin).await?;
    ensure!(before.len() > 1, "the tenant has no neighbours");
    let mut times = Vec::new();
    for round in 0..rounds {
        progress(&format!("moves: restoring, round {} of {rounds}", round + 1));
        damage(&mut admin, tenant).await?;
        ensure!(checksums(&mut admin).await? != before, "nothing was damaged");
        let begun = Instant::now();
        site.ops.restore_backup_in_place(&authority(), backup.id).await?;
        times.push(begun.elapsed().as_secs_f64());
        // Every tenant's, and the restored one's too.
        let after = checksums(&mut admin).await?;
        ensure!(
            after == before,
            "after the restore rows differ from before: {before:?}, {after:?}"
        );
    }
    Ok(Finding::new(
        "restore-shared",
        format!("restoring a tenant of {rows} rows in shared tables from its backup, in its place"),
        "–",
        Spread::of(times),
        Target::AtMost(10.0),
    )
    .unit("s")
    .detail(format!(
        "checksums of all rows of all {} tenants there are as before, {} rows of others among them",
        before.len(),
        site.sizes.rows + site.sizes.neighbour_rows * site.neighbours.len() as i64
    )))
}

async fn damage(admin: &mut Connection, tenant: TenantId) -> Result<()> {
    let tenant = tenant.as_uuid();
    // As somebody does who has lost the condition: without the triggers, which would only take longer.
    Ok(admin
        .batch(&format!(
            "begin; set local session_replication_role = replica;
             delete from {TABLE} where tenant_id = '{tenant}' and company = 'Company 1';
             update {TABLE} set name = 'Nobody' where tenant_id = '{tenant}' and company = 'Company 2'; commit"
        ))
        .await?)
}

/// Of each tenant's contacts and projects.
async fn checksums(admin: &mut Connection) -> Result<BTreeMap<String, String>> {
    let found = admin
        .query(
            "select tenant_id::text, string_agg(sum, ', ' order by sum)
               from (select tenant_id, 'contacts ' || count(*) || ' ' || sum(hashtextextended(t::text, 0)) as sum
                       from app.contacts as t group by tenant_id
                     union all
                     select tenant_id, 'projects ' || count(*) || ' ' || sum(hashtextextended(t::text, 0))
                       from app.projects as t group by tenant_id
                     union all
                     select tenant_id, 'words ' || count(*) || ' ' || sum(hashtextextended(t::text, 0))
                       from app.search_words as t group by tenant_id) as sums
              group by tenant_id",
            &[],
        )
        .await?;
    let row = |row: &tenantry_wire::Row| Ok::<_, anyhow::Error>((row.get(0)?, row.get(1)?));
    found.rows.iter().map(row).collect()
}
