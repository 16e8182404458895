//! Triggers and rewrite rules; isolation refuses the latter with their line.

use crate::adopt::{AdoptError, Source};

pub(super) async fn read(source: &Source) -> Result<Vec<String>, AdoptError> {
    const TRIGGERS: &str = "
        select pg_get_triggerdef(t.oid, true)
        from pg_trigger t
        join pg_class c on c.oid = t.tgrelid
        where not t.tgisinternal and t.tgparentid = 0 and c.relnamespace = quote_ident($1)::regnamespace
        union all
        select pg_get_ruledef(r.oid, true)
        from pg_rewrite r
        join pg_class c on c.oid = r.ev_class
        where r.rulename <> '_RETURN' and c.relnamespace = quote_ident($1)::regnamespace";
    source.statements("triggers", TRIGGERS).await
}
