//! The same with a scope, which compiles: what fails beside it fails for want of one.

async fn scoped(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
    scope.query("select * from contact", &[]).await?;
    let transaction = scope.begin().await?;
    transaction.commit().await
}

fn main() {}
