//! The one row that says which installation this is, and whether the master key is its own.

use tenantry_core::InstallationId;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{CatalogError, Column, secret::Cipher};

const CHECK: Column = Column {
    table: "installation",
    column: "key_check",
    id: Uuid::nil(),
};
const CHECK_TEXT: &[u8] = b"tenantry master key";

/// Makes the row if there is none; refuses a key that does not open the row that is there.
pub(crate) async fn ensure(client: &Client, cipher: &Cipher) -> Result<InstallationId, CatalogError> {
    let mut random = [0; 4];
    aws_lc_rs::rand::fill(&mut random).expect("the operating system gives randomness");
    let id = InstallationId::from_random(random);
    client
        .execute(
            "insert into installation (id, key_check) values ($1, $2) on conflict (singleton) do nothing",
            &[&id.as_str(), &cipher.seal(CHECK, CHECK_TEXT)],
        )
        .await?;
    let row = client.query_one("select id, key_check from installation", &[]).await?;
    let opened = cipher.open(CHECK, row.get(1)).map_err(|_| CatalogError::WrongKey)?;
    if opened != CHECK_TEXT {
        return Err(CatalogError::WrongKey);
    }
    row.get::<_, &str>(0).parse().map_err(|_| CatalogError::Unknown {
        column: "installation.id",
    })
}
