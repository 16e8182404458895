//! Foreign keys, after all tables, because they may stand in circles.

use crate::adopt::{AdoptError, Source};

pub(super) async fn read(source: &Source) -> Result<Vec<String>, AdoptError> {
    const FOREIGN_KEYS: &str = "
        select format(E'alter table %s\\n    add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(k.oid, true))
        from pg_constraint k
        join pg_class c on c.oid = k.conrelid
        where k.contype = 'f' and k.conparentid = 0 and c.relnamespace = quote_ident($1)::regnamespace
        order by k.oid";
    source.statements("foreign keys", FOREIGN_KEYS).await
}
