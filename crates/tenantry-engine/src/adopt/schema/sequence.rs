//! Sequences that no identity or serial column brings along.

use super::order::{Piece, Rank};
use crate::adopt::{AdoptError, Source};

/// True for a sequence `s` (its `pg_class` row) that the short form `serial` makes again: owned by its column, with the
/// name and the settings that the short form gives.
pub(super) const IS_SERIAL: &str = "exists (
    select from pg_depend d
    join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    join pg_class o on o.oid = a.attrelid
    join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
    join pg_sequence q on q.seqrelid = s.oid
    where d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype = 'a'
      and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) and a.attnotnull
      and q.seqtypid = a.atttypid and q.seqincrement = 1 and q.seqstart = 1 and q.seqmin = 1 and not q.seqcycle
      and s.relname = o.relname || '_' || a.attname || '_seq'
      and pg_get_expr(f.adbin, f.adrelid) = format('nextval(%L::regclass)', s.oid::regclass::text))";

pub(super) async fn read(source: &Source) -> Result<Vec<Piece>, AdoptError> {
    let sequences = format!(
        "select 'pg_class'::regclass::oid, s.oid,
                format('create sequence %I as %s increment by %s minvalue %s maxvalue %s start with %s cache %s%s', s.relname,
                       format_type(q.seqtypid, null), q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache,
                       case when q.seqcycle then ' cycle' else '' end)
         from pg_class s
         join pg_sequence q on q.seqrelid = s.oid
         where s.relkind = 'S' and s.relnamespace = quote_ident($1)::regnamespace
           and not exists (select from pg_depend d where d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype in ('e', 'i'))
           and not {IS_SERIAL}
         order by s.oid"
    );
    Piece::read(source, "sequences", Rank::Sequence, &sequences).await
}

/// Sequences that belong to a column without being its `serial`.
pub(super) async fn owners(source: &Source) -> Result<Vec<String>, AdoptError> {
    let owners = format!(
        "select format('alter sequence %I owned by %s.%I', s.relname, a.attrelid::regclass, a.attname)
         from pg_class s
         join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype = 'a'
         join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
         where s.relkind = 'S' and s.relnamespace = quote_ident($1)::regnamespace and not {IS_SERIAL}
         order by s.oid"
    );
    source.statements("sequence owners", &owners).await
}
