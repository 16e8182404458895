//! Jobs that are brought to another database while their tenant works.

use tenantry_engine::transfer::{JobsAhead, carry_jobs};

use crate::support::{World, tenant};

/// More than are taken at once.
const MANY: u32 = 5_200;

/// What of a job is the tenant's, and whether it is as its database signed it.
const WHOLE: &str = "select count(*) || ' ' || coalesce(md5(string_agg(
      (j.id, j.kind, j.payload, j.state, j.priority, j.run_at, j.attempt, j.unique_key, j.error,
       j.mac is not distinct from tenantry_private.job_mac(j.kid, j))::text, chr(10) order by j.id)), '')
    from tenantry_private.job j where j.tenant = '00000000-0000-0000-0000-000000000001'";

struct Homes {
    one: World,
    other: World,
}

impl Homes {
    async fn new() -> Self {
        let homes = Self {
            one: World::new().await,
            other: World::new().await,
        };
        homes.enqueue(MANY).await;
        let neighbour = "select tenantry.enqueue(gen_random_uuid(), 'other', '{}', '0', 0::int2, 5::int2, null)";
        homes.one.as_tenant(tenant(2), neighbour).await.unwrap();
        homes
    }

    /// Of five kinds.
    async fn enqueue(&self, count: u32) {
        let enqueue = format!(
            "select tenantry.enqueue(gen_random_uuid(), 'kind ' || n % 5, '{{}}', '0', 0::int2, 5::int2, null)
               from generate_series(1, {count}) n"
        );
        self.one.as_tenant(tenant(1), &enqueue).await.unwrap();
    }

    /// Brings as much as one look finds. Tells how many that was.
    async fn bring(&self, ahead: &mut JobsAhead) -> usize {
        let (source, target) = (&self.one.admin, &self.other.admin);
        let mut left = ahead.look(source, target, tenant(1)).await.unwrap();
        let count = left.count();
        while !left.is_empty() {
            ahead.bring(source, target, tenant(1), &mut left).await.unwrap();
        }
        count
    }

    async fn carry(&self, ahead: &JobsAhead) -> u64 {
        carry_jobs(&self.one.admin, &self.other.admin, tenant(1), Some(ahead))
            .await
            .unwrap()
    }

    async fn assert_same(&self, what: &str) {
        assert_eq!(self.other.all(WHOLE).await, self.one.all(WHOLE).await, "{what}");
        let whose = "select count(distinct tenant) from tenantry_private.job";
        assert_eq!(self.other.all(whose).await, "1", "{what}");
    }
}

/// Jobs of one kind in the order of their ids.
fn some(from: u32, count: u32) -> String {
    format!(
        "id in (select id from tenantry_private.job where kind = 'kind 1' and payload = '{{}}' and tenant = '{}'
                 order by id offset {from} limit {count})",
        tenant(1).as_uuid()
    )
}

#[tokio::test]
async fn jobs_are_brought_while_the_tenant_works_and_only_what_changed_is_taken_behind_the_fence() {
    let homes = Homes::new().await;
    let mut ahead = JobsAhead::default();
    assert_eq!(homes.bring(&mut ahead).await, MANY as usize);
    assert_eq!(homes.bring(&mut ahead).await, 0);
    homes.assert_same("brought").await;
    assert_eq!(homes.carry(&ahead).await, 0, "nothing has changed");

    homes.enqueue(3).await;
    homes
        .one
        .run(&format!(
            "delete from tenantry_private.job where {};
             update tenantry_private.job set state = 1, attempt = 1, lease = 7, leased_until = now() + '1 h', worker = 'w' where {};
             update tenantry_private.job set state = 2, attempt = 5, error = 'why' where {}",
            some(0, 4),
            some(10, 5),
            some(20, 6)
        ))
        .await;
    assert_eq!(homes.carry(&ahead).await, 3 + 5 + 6);
    // As if their worker had given them back.
    homes
        .one
        .run("update tenantry_private.job set state = 0, attempt = 0 where state = 1")
        .await;
    homes.assert_same("changed").await;
    assert_eq!(
        homes
            .other
            .all("select count(*) from tenantry_private.job where lease is not null")
            .await,
        "0"
    );

    // Another look while the tenant works takes what the first one left.
    assert_eq!(homes.bring(&mut ahead).await, 2 * (3 + 5 + 6));
    homes.assert_same("brought again").await;
}

#[tokio::test]
async fn what_others_do_at_the_target_meanwhile_is_undone() {
    let homes = Homes::new().await;
    let mut ahead = JobsAhead::default();
    homes.bring(&mut ahead).await;
    homes
        .other
        .run(&format!(
            "delete from tenantry_private.job where {};
             update tenantry_private.job set priority = 7 where {};
             insert into tenantry_private.job (tenant, id, kind, payload, role, state, priority, run_at, attempts_max, kid, mac)
               select tenant, gen_random_uuid(), 'foreign', payload, role, state, priority, run_at, attempts_max, kid, mac
                 from tenantry_private.job limit 1",
            some(0, 4),
            some(10, 5)
        ))
        .await;
    assert_eq!(homes.carry(&ahead).await, 4 + 5);
    homes.assert_same("undone").await;
}

#[tokio::test]
async fn a_forged_job_stays_forged_whenever_it_was_changed() {
    let homes = Homes::new().await;
    let mut ahead = JobsAhead::default();
    let forge = |from: u32| {
        format!(
            "update tenantry_private.job set payload = '{{\"forged\": true}}' where {};
             insert into tenantry_private.job (tenant, id, kind, payload, role, state, priority, run_at, attempts_max, kid, mac)
               select tenant, gen_random_uuid(), kind, '{{\"stolen\": true}}', role, state, priority, run_at, attempts_max, kid, mac
                 from tenantry_private.job where {}",
            some(from, 1),
            some(from + 1, 1)
        )
    };
    // Before it is brought, and after.
    homes.one.run(&forge(0)).await;
    homes.bring(&mut ahead).await;
    homes.one.run(&forge(100)).await;
    assert_eq!(homes.carry(&ahead).await, 2);
    homes.assert_same("forged").await;
    let genuine =
        "select count(*) filter (where mac is distinct from tenantry_private.job_mac(kid, j)) || ' ' || count(*)
                     from tenantry_private.job j where payload <> '{}'";
    assert_eq!(
        homes.other.all(genuine).await,
        "4 4",
        "also those with the signature of another one"
    );
}

/// The key that one had is free when it is done: both may not stand at the target at once.
#[tokio::test]
async fn a_unique_key_that_changes_hands_meanwhile_is_no_obstacle() {
    let homes = Homes::new().await;
    let unique = "select tenantry.enqueue(gen_random_uuid(), 'unique', '{}', '0', 0::int2, 5::int2, 'k')";
    homes.one.as_tenant(tenant(1), unique).await.unwrap();
    let mut ahead = JobsAhead::default();
    homes.bring(&mut ahead).await;
    homes
        .one
        .run("delete from tenantry_private.job where kind = 'unique'")
        .await;
    homes.one.as_tenant(tenant(1), unique).await.unwrap();
    assert_eq!(homes.carry(&ahead).await, 1);
    homes.assert_same("another with the key").await;
}

/// What an earlier process has brought is not known to this one.
#[tokio::test]
async fn another_process_begins_anew() {
    let homes = Homes::new().await;
    homes.bring(&mut JobsAhead::default()).await;
    let mut ahead = JobsAhead::default();
    assert_eq!(homes.bring(&mut ahead).await, 2 * MANY as usize);
    homes.assert_same("anew").await;
    // And so does who has brought nothing ahead.
    let all = carry_jobs(&homes.one.admin, &homes.other.admin, tenant(1), None).await;
    assert_eq!(all.unwrap(), u64::from(MANY));
    homes.assert_same("all of it").await;
}
