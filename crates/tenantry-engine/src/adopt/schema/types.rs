//! Enums, domains, composite and range types.

use super::order::{Piece, Rank};
use crate::adopt::{AdoptError, Source};

pub(super) async fn read(source: &Source) -> Result<Vec<Piece>, AdoptError> {
    const TYPES: &str = "
        select 'pg_type'::regclass::oid, t.oid,
               case t.typtype
                 when 'e' then format('create type %I as enum (%s)', t.typname,
                   (select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder) from pg_enum where enumtypid = t.oid))
                 when 'd' then format('create domain %I as %s', t.typname, format_type(t.typbasetype, t.typtypmod))
                   || coalesce((select ' collate ' || quote_ident(collname) from pg_collation c
                                where c.oid = t.typcollation and c.oid <> (select typcollation from pg_type b where b.oid = t.typbasetype)), '')
                   || coalesce(' default ' || t.typdefault, '')
                   || case when t.typnotnull then ' not null' else '' end
                   || coalesce((select string_agg(format(' constraint %I %s', conname, pg_get_constraintdef(oid, true)), '' order by oid)
                                from pg_constraint where contypid = t.oid and contype = 'c'), '')
                 when 'c' then format('create type %I as (%s)', t.typname,
                   (select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
                    from pg_attribute where attrelid = t.typrelid and attnum > 0 and not attisdropped))
                 when 'r' then format('create type %I as range (subtype = %s)', t.typname,
                   (select format_type(rngsubtype, null) from pg_range where rngtypid = t.oid))
               end
        from pg_type t
        left join pg_class c on c.oid = t.typrelid
        where t.typnamespace = quote_ident($1)::regnamespace
          and (t.typtype in ('e', 'd', 'r') or (t.typtype = 'c' and c.relkind = 'c'))
          and not exists (select from pg_depend d where d.objid = t.oid and d.classid = 'pg_type'::regclass and d.deptype = 'e')
        order by t.oid";
    Piece::read(source, "types", Rank::Type, TYPES).await
}
