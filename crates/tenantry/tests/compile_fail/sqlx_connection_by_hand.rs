//! A transaction for sqlx does not give its connection away, nor can it be ended and used on.

fn connection(transaction: &mut tenantry::sqlx::Transaction) -> &mut sqlx::PgConnection {
    transaction
}

async fn nested(transaction: &mut tenantry::sqlx::Transaction) {
    let _ = sqlx::Connection::begin(transaction).await;
}

async fn twice(transaction: tenantry::sqlx::Transaction) {
    let _ = transaction.commit().await;
    let _ = transaction.commit().await;
}

fn main() {}
