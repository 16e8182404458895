//! Drift: made by hand, found, shown as SQL that gets back, and repaired or refused.

use tenantry_core::InstallationId;
use tenantry_engine::{
    isolate::Derived,
    migrate::{Patience, Target},
    structure::{self, Change, Difference, Remedy, ScratchSite, Structure},
};
use tenantry_testing::{TestCluster, TestDatabase, cluster, database_on, second_cluster};
use tokio_postgres::Client;

use crate::support::{World, derived, files, tenant};

pub(crate) const FIRST: (&str, &str) = (
    "0001_first.sql",
    "create type mood as enum ('sad', 'glad');
     create domain short as text check (length(value) < 10);
     create function upper_name(n text) returns text language sql immutable as $$ select upper(n) $$;
     create table people (
       id int generated always as identity primary key,
       name text not null default 'nobody',
       nick varchar(20),
       mood mood,
       code short,
       loud text generated always as (upper_name(name)) stored,
       constraint named check (name <> ''));
     create unique index people_nick on people (nick);
     create index people_name on people (lower(name)) where nick is not null;
     create table notes (id serial primary key, person int references people, text text);
     comment on table notes is 'Notes';
     comment on column notes.text is 'What was said';
     create statistics notes_stats on person, text from notes;
     create view named as select id, name from people where name <> 'nobody';
     create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
     create trigger touched before update on people for each row execute function touch();
     create policy moody on people as restrictive for select using (mood is distinct from 'sad');",
);
pub(crate) const SECOND: (&str, &str) = (
    "0002_second.sql",
    "-- tenantry: reference\ncreate table countries (code text primary key, name text);",
);

async fn all() -> Derived {
    derived(&files(&[FIRST, SECOND])).await.expect("derives")
}

struct Drift {
    world: World,
    target: Target,
    expected: Structure,
    /// Dropped with the test.
    _scratch: TestDatabase,
    scratch: Client,
}

impl Drift {
    async fn new(schema: &str) -> Self {
        Self::on(cluster().await, schema).await
    }

    async fn on(cluster: &TestCluster, schema: &str) -> Self {
        let world = World::of(database_on(cluster).await).await;
        let all = all().await;
        if schema != "app" {
            world.make_schema(schema).await;
        }
        world.apply_to(schema, &all, &[]).await.expect("applies");
        let database = database_on(cluster).await;
        let scratch = database.connect().await;
        let expected = laid_out(&scratch, world.target(schema).owner.as_str(), &all, 2).await;
        Self {
            target: world.target(schema),
            world,
            expected,
            _scratch: database,
            scratch,
        }
    }

    async fn read(&self) -> Structure {
        structure::read(&self.world.admin, &self.target, Some(tenant(1)))
            .await
            .expect("reads")
    }

    async fn differences(&self) -> Vec<Difference> {
        structure::compare(&self.read().await, &self.expected, &self.target, Some(tenant(1)))
    }

    async fn by_hand(&self, sql: &str) {
        let schema = &self.target.schema;
        self.world
            .run(&format!(
                "set search_path = {schema}, tenantry_ext; {sql}; reset search_path"
            ))
            .await;
    }

    async fn repair(&self) -> Vec<structure::Repaired> {
        let (admin, target) = (&self.world.admin, &self.target);
        let ledger = structure::read_ledger(admin, target).await.expect("reads");
        let patience = Patience::default();
        let repair = structure::repair(admin, target, Some(tenant(1)), &self.expected, &ledger, &patience)
            .await
            .expect("the connection holds");
        ran(repair)
    }

    /// Makes a drift, looks that it is found as this, and gets back: by a repair, or by the SQL that was shown.
    async fn case(&self, sql: &str, object: &str, change: Change, safe: bool) {
        self.by_hand(&sql.replace("@app", &self.target.application.to_string()))
            .await;
        let found = self.differences().await;
        let Some(difference) = found.iter().find(|found| found.object == object) else {
            panic!("{sql}: {object} is not among {found:#?}")
        };
        assert_eq!(difference.change, change, "{sql}: {difference:?}");
        assert_eq!(difference.is_safe(), safe, "{sql}: {difference:?}");
        let repaired = self.repair().await;
        let line = repaired
            .iter()
            .find(|line| line.difference.object == object)
            .expect("it is told");
        if safe {
            assert_eq!(line.left, None, "{sql}: {line:?}");
        } else {
            let sentence = line.left.as_ref().expect("it is refused");
            assert!(sentence.contains(' '), "{sentence}");
        }
        for left in repaired.iter().filter(|line| !line.difference.is_safe()) {
            self.by_hand(&format!(
                "set role {}; {}; reset role",
                self.target.owner,
                left.difference.sql.join("; ")
            ))
            .await;
        }
        // What hung on it comes back by itself.
        let rest = self.repair().await;
        assert!(rest.iter().all(|line| line.left.is_none()), "{sql}: {rest:#?}");
        assert_eq!(self.differences().await, [], "{sql}");
    }
}

async fn laid_out(client: &Client, owner: &str, all: &Derived, length: usize) -> Structure {
    // The roles of the world's installation are there.
    let id = owner.trim_start_matches("tn_").trim_end_matches("_owner");
    let installation: InstallationId = id.parse().expect("is an id");
    let target = ScratchSite::make(client, &installation, "version_x")
        .await
        .expect("makes the schema");
    structure::lay_out(client, &target, &all.versions[..length])
        .await
        .expect("lays out");
    structure::read(client, &target, None).await.expect("reads")
}

async fn every_kind_of_drift(drift: Drift) {
    use Change::{Changed, Extra, Missing};
    assert_eq!(drift.differences().await, []);
    assert_eq!(drift.read().await.fingerprint(), drift.expected.fingerprint());
    let safe = [
        ("drop index people_name", "index people_name on table people", Missing),
        (
            "drop index people_nick; create index people_nick on people (nick)",
            "index people_nick on table people",
            Changed,
        ),
        (
            "drop policy tenantry_select on people",
            "policy tenantry_select on table people",
            Missing,
        ),
        (
            "drop policy moody on people; create policy moody on people as restrictive for select using (true)",
            "policy moody on table people",
            Changed,
        ),
        (
            "alter policy tenantry_floor on people using (true)",
            "policy tenantry_floor on table people",
            Changed,
        ),
        (
            "create policy mine on notes using (true)",
            "policy mine on table notes",
            Extra,
        ),
        (
            "alter table notes no force row level security",
            "row security of table notes",
            Changed,
        ),
        (
            "alter table people disable row level security",
            "row security of table people",
            Changed,
        ),
        (
            "revoke insert on notes from @app",
            "rights of application on table notes",
            Changed,
        ),
        (
            "grant truncate on notes to @app",
            "rights of application on table notes",
            Changed,
        ),
        (
            "grant update on people to @app",
            "rights of application on table people",
            Changed,
        ),
        (
            "grant update (tenant_id) on people to @app",
            "right of application to update columns of table people",
            Changed,
        ),
        (
            "revoke update (name) on people from @app",
            "right of application to update columns of table people",
            Changed,
        ),
        (
            "grant select on people to public",
            "rights of public on table people",
            Extra,
        ),
        (
            "grant all on sequence notes_id_seq to @app",
            "rights of application on sequence notes_id_seq",
            Changed,
        ),
        (
            "grant execute on function touch() to public",
            "rights of public on function touch()",
            Extra,
        ),
        (
            "alter table people alter name set default 'x'",
            "column name of table people",
            Changed,
        ),
        (
            "alter table notes alter text set default 'x'",
            "column text of table notes",
            Changed,
        ),
        (
            "alter table people alter tenant_id drop default",
            "column tenant_id of table people",
            Changed,
        ),
        (
            "alter table people alter name drop default",
            "column name of table people",
            Changed,
        ),
        (
            "alter table notes alter text set not null",
            "column text of table notes",
            Changed,
        ),
        (
            "alter view named reset (security_invoker)",
            "options of view named",
            Missing,
        ),
        (
            "create or replace view named with (security_invoker=true) as select id, name from people",
            "view named",
            Changed,
        ),
        ("drop view named", "view named", Missing),
        (
            "create or replace function touch() returns trigger language plpgsql as $$ begin return null; end $$",
            "function touch()",
            Changed,
        ),
        (
            "drop trigger touched on people",
            "trigger touched on table people",
            Missing,
        ),
        (
            "alter table people disable trigger touched",
            "trigger touched on table people",
            Changed,
        ),
        (
            "drop statistics notes_stats",
            "statistics notes_stats on table notes",
            Missing,
        ),
        ("comment on table notes is null", "comment on table notes", Missing),
        (
            "comment on column notes.text is 'x'",
            "comment on column text of table notes",
            Changed,
        ),
        ("comment on table people is 'x'", "comment on table people", Extra),
        (
            "alter table notes owner to current_user",
            "owner of table notes",
            Changed,
        ),
        (
            "alter table people set (fillfactor = 50)",
            "options of table people",
            Extra,
        ),
    ];
    for (sql, object, change) in safe {
        drift.case(sql, object, change, true).await;
    }
    let refused = [
        (
            "alter table notes drop column text",
            "column text of table notes",
            Missing,
        ),
        (
            "alter table notes add column more text",
            "column more of table notes",
            Extra,
        ),
        (
            "alter table people alter nick type text",
            "column nick of table people",
            Changed,
        ),
        (
            "alter table people alter name drop not null",
            "column name of table people",
            Changed,
        ),
        (
            "alter table people drop constraint named",
            "constraint named of table people",
            Missing,
        ),
        (
            "alter table notes add constraint longer check (length(text) > 1)",
            "constraint longer of table notes",
            Extra,
        ),
        (
            "alter table notes drop constraint notes_person_fkey",
            "constraint notes_person_fkey of table notes",
            Missing,
        ),
        ("create index mine on notes (text)", "index mine on table notes", Extra),
        ("create table mine (id int)", "table mine", Extra),
        ("drop table countries", "table countries", Missing),
        ("create view mine as select 1 as one", "view mine", Extra),
        (
            "create function mine() returns int language sql as 'select 1'",
            "function mine()",
            Extra,
        ),
        (
            "alter sequence notes_id_seq increment 7",
            "sequence notes_id_seq",
            Changed,
        ),
        (
            "create trigger mine before insert on notes for each row execute function touch()",
            "trigger mine on table notes",
            Extra,
        ),
    ];
    for (sql, object, change) in refused {
        drift.case(sql, object, change, false).await;
    }
}

#[tokio::test]
async fn every_kind_of_drift_in_shared_tables_is_found_and_repaired_or_refused() {
    every_kind_of_drift(Drift::new("app").await).await;
}

#[tokio::test]
async fn every_kind_of_drift_in_an_own_schema_is_found_and_repaired_or_refused() {
    every_kind_of_drift(Drift::new("t_own").await).await;
}

/// On the newest PostgreSQL that the tests have, whose catalogs hold more.
#[tokio::test]
async fn every_kind_of_drift_is_found_on_the_second_server_too() {
    every_kind_of_drift(Drift::on(second_cluster().await, "t_own").await).await;
}

fn ran(repair: structure::Repair) -> Vec<structure::Repaired> {
    match repair {
        structure::Repair::Ran(repaired) => repaired,
        structure::Repair::OtherLedger => panic!("nobody migrated it meanwhile"),
    }
}

#[tokio::test]
async fn labels_come_back_and_do_not_go() {
    let drift = Drift::new("app").await;
    drift.by_hand("alter type mood add value 'mad' after 'sad'").await;
    let found = drift.differences().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].object, "type mood");
    assert!(matches!(&found[0].remedy, Remedy::Refused(sentence) if sentence.contains("rows may hold values")));
    // The other way round: what is here is right, and there it lacks the label.
    let here = structure::read(&drift.world.admin, &drift.target, None).await.unwrap();
    let there = drift.world.target("t_other");
    drift.world.make_schema("t_other").await;
    drift
        .world
        .apply_to("t_other", &all().await, &[])
        .await
        .expect("applies");
    let admin = &drift.world.admin;
    let ledger = structure::read_ledger(admin, &there).await.expect("reads");
    let repair = structure::repair(admin, &there, None, &here, &ledger, &Patience::default())
        .await
        .expect("the connection holds");
    let repaired = ran(repair);
    assert_eq!(repaired.len(), 1, "{repaired:?}");
    assert_eq!(
        repaired[0].difference.sql,
        ["alter type \"mood\" add value 'mad' after 'sad'"]
    );
    assert_eq!(repaired[0].left, None);
}

/// A policy that names the tenant is the tenant's own; one that names another tenant is a difference.
#[tokio::test]
async fn a_tenants_own_id_is_no_difference_and_another_ones_is() {
    let drift = Drift::new("t_own").await;
    let other = Drift::new("app").await;
    let policy = |number: u128| {
        let id = tenant(number);
        format!("alter policy moody on people using (tenant_id = '{}')", id.as_uuid())
    };
    drift.by_hand(&policy(1)).await;
    let with_id = drift.read().await;
    other.by_hand(&policy(2)).await;
    let of = async |number| {
        structure::read(&other.world.admin, &other.target, Some(tenant(number)))
            .await
            .unwrap()
    };
    let found = structure::compare(&of(2).await, &with_id, &other.target, Some(tenant(2)));
    assert_eq!(found, []);
    let found = structure::compare(&of(3).await, &with_id, &other.target, Some(tenant(3)));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].sql[1].contains(&tenant(3).as_uuid().to_string()), "{found:?}");
}

/// An index that can't be built is told, and nothing of it stays.
#[tokio::test]
async fn an_index_that_does_not_fit_the_rows_any_more_is_told() {
    let drift = Drift::new("app").await;
    drift.by_hand("drop index people_nick").await;
    let id = tenant(1);
    let row = format!(
        "insert into people (tenant_id, nick) values ('{0}', 'a'), ('{0}', 'a')",
        id.as_uuid()
    );
    drift.by_hand(&row).await;
    let repaired = drift.repair().await;
    let left = repaired[0].left.as_ref().expect("it can't be");
    assert!(left.contains("could not create unique index"), "{left}");
    let found = drift.differences().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].change, Change::Missing);
    drift.by_hand("delete from people").await;
    assert_eq!(drift.repair().await[0].left, None);
    assert_eq!(drift.differences().await, []);
}

#[tokio::test]
async fn an_earlier_version_is_compared_with_what_it_made() {
    let drift = Drift::new("app").await;
    let one = laid_out(&drift.scratch, drift.target.owner.as_str(), &all().await, 1).await;
    let found = structure::compare(&drift.read().await, &one, &drift.target, None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].object.as_str(), found[0].change),
        ("table countries", Change::Extra)
    );
}
