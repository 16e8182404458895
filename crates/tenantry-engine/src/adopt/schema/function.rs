//! Functions and procedures, printed by PostgreSQL, with the schema's name taken off the head.

use super::order::{Piece, Rank};
use crate::adopt::{AdoptError, Source};

pub(super) async fn read(source: &Source) -> Result<Vec<Piece>, AdoptError> {
    const FUNCTIONS: &str = "
        select 'pg_proc'::regclass::oid, p.oid,
               'create or replace ' || case p.prokind when 'p' then 'procedure ' else 'function ' end
               || substr(pg_get_functiondef(p.oid),
                         length('CREATE OR REPLACE ') + case p.prokind when 'p' then length('PROCEDURE ') else length('FUNCTION ') end
                         + length(quote_ident(n.nspname)) + 2)
        from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = $1 and p.prokind in ('f', 'p', 'w')
          and not exists (select from pg_depend d where d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype in ('e', 'i'))
        order by p.oid";
    Piece::read(source, "functions", Rank::Function, FUNCTIONS).await
}
