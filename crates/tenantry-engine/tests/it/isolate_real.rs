//! Real applications' schemas, written by others for one customer.

use std::path::PathBuf;

use crate::support::{World, derived, files};

/// The folder beside the repository, or where `TENANTRY_SHARED` says.
pub(crate) fn shared(file: &str) -> Option<String> {
    let folder = std::env::var_os("TENANTRY_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = folder.join("data").join(file);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!(
            "SKIPPED: {} is not there; set TENANTRY_SHARED to the folder that holds data/",
            path.display()
        );
    }
    text
}

/// Without the rows, which come in by adoption.
pub(crate) fn definitions(text: &str) -> String {
    let mut inside = false;
    text.lines()
        .map(|line| {
            inside |= line.trim_start().to_lowercase().starts_with("insert into");
            let kept = if inside { "" } else { line };
            inside &= !line.trim_end().ends_with(';');
            kept
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn northwind_is_isolated_without_refusals() {
    let Some(text) = shared("northwind.sql") else { return };
    let all = match derived(&files(&[("0001_northwind.sql", &definitions(&text))])).await {
        Ok(all) => all,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(all.tables.len(), 14);
    let world = World::new().await;
    world.apply(&all).await.expect("applies");
    assert_eq!(world.constraint("pk_orders").await, "PRIMARY KEY (tenant_id, order_id)");
    assert_eq!(
        world.constraint("fk_orders_customers").await,
        "FOREIGN KEY (tenant_id, customer_id) REFERENCES app.customers(tenant_id, customer_id)"
    );
}

#[tokio::test]
async fn chinook_is_isolated_without_refusals() {
    let Some(text) = shared("chinook.sql") else { return };
    let all = match derived(&files(&[("0001_chinook.sql", &definitions(&text))])).await {
        Ok(all) => all,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(all.tables.len(), 11);
    let world = World::new().await;
    world.apply(&all).await.expect("applies");
    assert_eq!(
        world.index("album_artist_id_idx").await,
        "CREATE INDEX album_artist_id_idx ON app.album USING btree (tenant_id, artist_id)"
    );
}
