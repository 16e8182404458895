//! A transaction for diesel does not give its connection away, nor can it be begun or ended by diesel.

fn connection(transaction: &mut tenantry::diesel::Transaction) -> &mut diesel_async::AsyncPgConnection {
    transaction
}

async fn nested(transaction: &mut tenantry::diesel::Transaction) {
    let _ = diesel_async::AsyncConnection::begin_test_transaction(transaction).await;
}

fn main() {}
