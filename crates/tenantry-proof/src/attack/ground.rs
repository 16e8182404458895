//! Where a program runs: a database with an attacker and a victim in it, open or ours.

use anyhow::{Context as _, Result};
use tenantry_core::{TenantId, Tier, seal::Key};
use tenantry_testing::TestDatabase;
use tokio_postgres::{Client, Config};

use super::line::Line;

/// The application, as if there were one customer. Open and ours are made of the same text.
pub(super) const APPLICATION: &str = include_str!("application.sql");
/// A part that needs an extension which not every server has.
pub(super) const BOOKINGS: &str = include_str!("bookings.sql");
/// What is the same for all tenants.
pub(super) const REFERENCE: &str = "create table country (code text primary key, name text not null);";

/// Rows are put back without the triggers that programs brought along.
const QUIET: &str = "set local session_replication_role = replica";

/// How the database keeps tenants apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mechanism {
    /// A plain setting, and whatever openings the program needs.
    Naive,
    /// Ours.
    Ours(Tier),
}

/// A database, or two, and who meets there.
pub(super) struct Ground {
    /// For the report: `shared sealed`, for example.
    pub(super) label: String,
    pub(super) mechanism: Mechanism,
    pub(super) a: TenantId,
    pub(super) b: TenantId,
    /// The application role's way to the attacker's database, and to the victim's.
    pub(super) attacker: Config,
    pub(super) victim: Config,
    /// The superuser's.
    pub(super) attackers_admin: Config,
    pub(super) victims_admin: Config,
    pub(super) key: Key,
    /// Of the database where the victim lives.
    pub(super) victims_key: Key,
    /// Of another database.
    pub(super) foreign_key: Key,
    pub(super) old_key: Option<Key>,
    /// The schemas, quoted.
    pub(super) own: String,
    pub(super) target: String,
    /// Whether both use the same tables.
    pub(super) shared: bool,
    /// Whether both use the same database, and so its connections.
    pub(super) together: bool,
    pub(super) hardened: bool,
    pub(super) bookings: bool,
    /// 128 random bits that stand in every value of the victim's.
    pub(super) canary: String,
    /// What placeholders of programs stand for.
    pub(super) names: Vec<(&'static str, String)>,
    /// Puts the application role back as it was made.
    pub(super) role_reset: String,
    pub(super) own_admin: Client,
    pub(super) target_admin: Client,
    /// Dropped with the ground.
    #[expect(dead_code, reason = "held, not read: the databases go when they are dropped")]
    pub(super) databases: Vec<TestDatabase>,
}

impl Ground {
    /// Writes names and ids into a step.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let hex = |tenant: TenantId| tenant.as_uuid().simple().to_string();
        for (name, value) in [
            ("{A}", self.a.to_string()),
            ("{B}", self.b.to_string()),
            ("{Ahex}", hex(self.a)),
            ("{Bhex}", hex(self.b)),
            ("{own}", self.own.clone()),
            ("{t}", self.target.clone()),
            ("{canary}", self.canary.clone()),
            ("{carrier}", tenantry_engine::seal::CARRIER.to_owned()),
        ] {
            text = text.replace(name, &value);
        }
        for (name, value) in &self.names {
            text = text.replace(name, value);
        }
        text
    }

    /// Both tenants' rows as they are before each program.
    pub(super) async fn reset(&self) -> Result<()> {
        self.own_admin
            .batch_execute(&format!(
                "set lock_timeout = '8s'; begin; {QUIET}; {}; {}; commit; {}; select lo_unlink(oid) from pg_largeobject_metadata",
                self.empty(&self.own),
                self.rows(&self.own, self.a, "own", 1),
                self.role_reset
            ))
            .await
            .context("the attacker's rows can't be put back")?;
        let empty = if self.shared {
            String::new()
        } else {
            self.empty(&self.target)
        };
        self.target_admin
            .batch_execute(&format!(
                "set lock_timeout = '8s'; begin; {QUIET}; {empty}; {}; commit",
                self.rows(&self.target, self.b, &self.canary, 101)
            ))
            .await
            .context("the victim's rows can't be put back")
    }

    fn tables(&self) -> Vec<&'static str> {
        let mut tables = vec!["contact", "project", "event", "ticket"];
        if self.bookings {
            tables.push("booking");
        }
        tables
    }

    fn empty(&self, schema: &str) -> String {
        self.tables()
            .iter()
            .map(|table| format!("delete from {schema}.{table};"))
            .collect()
    }

    fn rows(&self, s: &str, tenant: TenantId, mark: &str, id: u32) -> String {
        let (next, last) = (id + 1, id + 2);
        let booking = if self.bookings {
            format!(
                "insert into {s}.booking (tenant_id, id, room, during, who) values ('{tenant}', {id}, {id}, '[10,20)', '{mark}');"
            )
        } else {
            String::new()
        };
        format!(
            "insert into {s}.project (tenant_id, id, name, note) values
               ('{tenant}', {id}, 'project {mark}', '{mark}'), ('{tenant}', {next}, 'other {mark}', '{mark}');
             insert into {s}.contact (tenant_id, id, name, email, phone, secret, tags, doc, project_id) values
               ('{tenant}', {id}, 'first {mark}', '{mark}@example.net', '{mark}', '{mark}', array['{mark}'], '{{\"k\": \"{mark}\"}}', {id}),
               ('{tenant}', {next}, 'second {mark}', 'x{mark}@example.net', 'x{mark}', 'x{mark}', array['{mark}'], '{{\"k\": \"{mark}\"}}', {next}),
               ('{tenant}', {last}, 'third {mark}', null, null, '{mark}', '{{}}', null, null);
             insert into {s}.event (tenant_id, id, at, note) values ('{tenant}', {id}, '2026-05-01', '{mark}'), ('{tenant}', {next}, '2027-05-01', '{mark}');
             insert into {s}.ticket (tenant_id, id, title) values ('{tenant}', {id}, '{mark}');
             select setval('{s}.ticket_id_seq', 1000);
             {booking}"
        )
    }

    /// What the victim has: rows, rights, policies, functions, its sequence. An attack that changes one is a breach.
    pub(super) async fn digest(&self) -> Result<String> {
        let (t, b) = (&self.target, self.b);
        self.target_admin.batch_execute("set lock_timeout = '400ms'").await?;
        let rows: Vec<String> = self
            .tables()
            .iter()
            .map(|table| format!("select '{table}' || r::text as x from {t}.{table} as r where tenant_id = '{b}'"))
            .collect();
        // Others may take numbers of a shared sequence, but not turn it back.
        let sequence = if self.shared {
            "last_value < 1000"
        } else {
            "(last_value, is_called)"
        };
        let row = self
            .target_admin
            .query_one(
                &format!(
                    "select md5(coalesce(string_agg(x, '|' order by x), '')) from (
                       {rows}
                       union all select 'sequence ' || ({sequence})::text from {t}.ticket_id_seq
                       union all select concat_ws(' ', c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relacl, c.reloptions, c.relowner)
                         from pg_class c where c.relnamespace = '{t}'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S')
                       union all select concat_ws(' ', p.polrelid, p.polname, p.polcmd, p.polpermissive, p.polqual, p.polwithcheck)
                         from pg_policy p join pg_class c on c.oid = p.polrelid where c.relnamespace = '{t}'::regnamespace
                       union all select concat_ws(' ', p.oid, p.proname, p.prosrc, p.proacl, p.proconfig)
                         from pg_proc p where p.pronamespace in ('{t}'::regnamespace, 'tenantry'::regnamespace)
                     ) q",
                    rows = rows.join(" union all ")
                ),
                &[],
            )
            .await
            .context("the victim's rows can't be read")?;
        Ok(row.get(0))
    }

    /// A new connection of the attacker.
    pub(super) async fn line(&self) -> Result<Line> {
        Line::open(&self.attacker).await.context("the attacker can't connect")
    }
}

/// Whether an answer holds the mark, as it is or as bytes.
pub(super) fn shows(text: &str, canary: &str) -> bool {
    let text = text.to_lowercase();
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    let reversed: String = canary.chars().rev().collect();
    text.contains(canary) || text.contains(&hex) || text.contains(&reversed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_in_every_guise() {
        let canary = "00ff00ff00ff00ff00ff00ff00ff00aa";
        assert!(shows("first 00FF00FF00FF00FF00FF00FF00FF00AA", canary));
        let bytes: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(shows(&format!("\\x{bytes}"), canary));
        assert!(!shows("00ff", canary));
    }
}
