//! The audit log shows tampering.

use serde_json::json;
use tenantry_catalog::{
    Catalog, MasterKey,
    audit_log::{self, Entry},
};
use tenantry_testing::database;

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_a_removed_and_an_inserted_entry_show() {
    let database = database().await;
    let catalog = Catalog::connect(&database.url(), &MasterKey::from_bytes([7; 32]))
        .await
        .unwrap();
    let writers = (0..4).map(|writer| {
        let catalog = catalog.clone();
        async move {
            for number in 0..5 {
                let mut client = catalog.client().await.unwrap();
                let transaction = client.transaction().await.unwrap();
                let entry = Entry {
                    actor: &format!("operator:{writer}"),
                    action: "tenant.update",
                    tenant: None,
                    target: "x",
                    before: None,
                    after: Some(json!({ "number": number })),
                    origin: "127.0.0.1",
                    request_id: "r",
                };
                audit_log::append(&transaction, &entry).await.unwrap();
                transaction.commit().await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let client = catalog.client().await.unwrap();
    let entries = audit_log::list(&client, None, None, 100).await.unwrap();
    assert_eq!(entries.len(), 20);
    assert_eq!(audit_log::first_broken(&client).await.unwrap(), None);
    let (newest, fifth) = (entries[0].id, entries[15].id);
    for (tamper, mend, shows_at) in [
        (
            "update audit_log set actor = 'nobody' where id = $1",
            "update audit_log set actor = b.actor from kept as b where b.id = audit_log.id",
            fifth,
        ),
        (
            "update audit_log set after = '{}' where id = $1",
            "update audit_log set after = b.after from kept as b where b.id = audit_log.id",
            fifth,
        ),
        (
            "delete from audit_log where id = $1",
            "insert into audit_log overriding system value select * from kept where id not in (select id from audit_log)",
            fifth + 1,
        ),
    ] {
        client
            .batch_execute("create temp table kept as select * from audit_log")
            .await
            .unwrap();
        client.execute(tamper, &[&fifth]).await.unwrap();
        assert_eq!(
            audit_log::first_broken(&client).await.unwrap(),
            Some(shows_at),
            "{tamper}"
        );
        client.batch_execute(mend).await.unwrap();
        client.batch_execute("drop table kept").await.unwrap();
        assert_eq!(audit_log::first_broken(&client).await.unwrap(), None, "{mend}");
    }
    client
        .execute(
            "insert into audit_log (actor, action, previous_hash, hash) select 'nobody', 'x', hash, hash from audit_log where id = $1",
            &[&newest],
        )
        .await
        .unwrap();
    assert!(audit_log::first_broken(&client).await.unwrap().is_some());
}
