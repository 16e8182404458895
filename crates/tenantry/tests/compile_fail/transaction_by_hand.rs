//! A transaction comes from a scope only, and ends once.

async fn twice(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
    let transaction = scope.begin().await?;
    transaction.commit().await?;
    transaction.commit().await
}

fn by_hand() -> tenantry::Transaction {
    tenantry::Transaction {}
}

fn main() {}
