//! Queries of diesel run on a scope's transaction, and on nothing else of ours.

use diesel_async::RunQueryDsl;

async fn unscoped(mut tenantry: tenantry::Tenantry) {
    let _ = diesel::sql_query("select * from contact").execute(&mut tenantry).await;
}

fn main() {}
