//! Indexes that no constraint brings along.

use crate::adopt::{AdoptError, Source};

pub(super) async fn read(source: &Source) -> Result<Vec<String>, AdoptError> {
    // An index on a partitioned table is printed with ONLY and would leave the partitions out.
    const INDEXES: &str = "
        select regexp_replace(pg_get_indexdef(i.indexrelid, 0, true), ' ON ONLY ', ' ON ')
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        join pg_class t on t.oid = i.indrelid and t.relkind in ('r', 'p', 'm')
        where c.relnamespace = quote_ident($1)::regnamespace
          and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
          and not exists (select from pg_inherits where inhrelid = i.indexrelid)
          and not exists (select from pg_depend d where d.objid = t.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')
        order by i.indexrelid";
    source.statements("indexes", INDEXES).await
}
