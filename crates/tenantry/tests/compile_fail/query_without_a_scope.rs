//! The application's handle has no query: only a scope has.

async fn unscoped(tenantry: tenantry::Tenantry) {
    let _ = tenantry.query("select * from contact", &[]).await;
}

fn main() {}
