//! What a statement in scope costs the planner and the executor: one evaluation, and the index as without us.

use tenantry_core::Tier;

use crate::seal_support::{Fixture, in_each_tier};

in_each_tier! { a_statement_in_scope_uses_the_index_and_reads_the_tenant_once }

async fn a_statement_in_scope_uses_the_index_and_reads_the_tenant_once(fixture: Fixture) {
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    session
        .client
        .batch_execute(
            "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off",
        )
        .await
        .unwrap();
    for (statement, evaluations) in [
        ("select body from app.note where id = $1", 1),
        // of the tenant and of the role, and each check of the new row by itself
        ("update app.note set body = 'x' where id = $1", 5),
        ("delete from app.note where id = $1", 2),
    ] {
        session.begin(fixture.a).await;
        session
            .client
            .batch_execute(&format!("prepare asked (int) as {statement}"))
            .await
            .unwrap();
        let rows = session
            .client
            .query("explain (costs off) execute asked (1)", &[])
            .await
            .unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let text = plan.join("\n");
        let condition = plan.iter().find(|line| line.contains("Index Cond:")).expect(&text);
        assert!(condition.contains("(tenant_id = "), "{text}");
        assert!(condition.contains("(id = $1)"), "{text}");
        let evaluated = plan
            .iter()
            .filter(|line| line.trim_start().starts_with("InitPlan"))
            .count();
        assert_eq!(evaluated, evaluations, "{text}");
        session
            .client
            .batch_execute("rollback; deallocate asked")
            .await
            .unwrap();
    }
}

in_each_tier! { an_insert_is_checked_three_times_and_asks_the_expectation_of_the_tenant_only }

async fn an_insert_is_checked_three_times_and_asks_the_expectation_of_the_tenant_only(fixture: Fixture) {
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    // With `returning` PostgreSQL checks the new row by the policies for reading too: they are the same, and add nothing.
    for statement in [
        "insert into app.note (id) values (7)",
        "insert into app.note (id) values (7) returning id",
    ] {
        session.begin(fixture.a).await;
        let rows = session
            .client
            .query(&format!("explain (verbose, costs off) {statement}"), &[])
            .await
            .unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let text = plan.join("\n");
        let evaluated = plan.iter().filter(|line| line.trim_start().starts_with("InitPlan"));
        assert_eq!(evaluated.count(), 3, "{text}");
        if fixture.made.tier == Tier::Sealed {
            let asked = plan.iter().filter(|line| line.contains("'tenantry.expect'"));
            // the default, the permissive policy and the floor
            assert_eq!(asked.count(), 3, "{text}");
        }
        session.client.batch_execute("rollback").await.unwrap();
    }
}
