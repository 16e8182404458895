//! Views, and materialized views, which isolation refuses with their line.

use super::order::{Piece, Rank};
use crate::adopt::{AdoptError, Source};

pub(super) async fn read(source: &Source) -> Result<Vec<Piece>, AdoptError> {
    const VIEWS: &str = "
        select 'pg_class'::regclass::oid, c.oid,
               format(E'create %s %I%s as\\n%s', case c.relkind when 'm' then 'materialized view' else 'view' end, c.relname,
                      coalesce(' with (' || (select string_agg(o, ', ') from unnest(c.reloptions) o where o !~ '^security_invoker') || ')', ''),
                      rtrim(pg_get_viewdef(c.oid, true), ';'))
        from pg_class c
        where c.relkind in ('v', 'm') and c.relnamespace = quote_ident($1)::regnamespace
          and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')
        order by c.oid";
    Piece::read(source, "views", Rank::View, VIEWS).await
}
