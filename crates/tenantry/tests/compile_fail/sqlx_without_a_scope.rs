//! Queries of sqlx run on a scope or its transaction, and on nothing else of ours.

async fn unscoped(tenantry: tenantry::Tenantry) {
    let _ = sqlx::query("select * from contact").execute(&tenantry).await;
}

fn main() {}
