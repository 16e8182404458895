//! In which order definitions can be run: after what they depend on, otherwise by kind and age.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use crate::adopt::{AdoptError, Source};

/// A catalog object: the oid of its catalog table and its own.
pub(super) type Object = (u32, u32);

/// The order of kinds where nothing depends on anything. Functions come late because the bodies of some are checked when
/// they are made; a table that needs one pulls it forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    Extension,
    Type,
    Sequence,
    Table,
    View,
    Function,
}

/// One definition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Piece {
    rank: Rank,
    object: Object,
    sql: String,
}

impl Piece {
    /// Reads pieces by a query of three columns (catalog, oid, text). Its only parameter is the schema, where it has one.
    pub(super) async fn read(
        source: &Source,
        part: &'static str,
        rank: Rank,
        query: &str,
    ) -> Result<Vec<Self>, AdoptError> {
        let statement = source.client.prepare(query).await.map_err(AdoptError::read(part))?;
        let rows = match statement.params().len() {
            0 => source.client.query(&statement, &[]).await,
            _ => source.client.query(&statement, &[&source.schema]).await,
        };
        let rows = rows.map_err(AdoptError::read(part))?;
        Ok(rows
            .iter()
            .map(|row| Self {
                rank,
                object: (row.get(0), row.get(1)),
                sql: row.get(2),
            })
            .collect())
    }
}

/// Who depends on whom, with the parts of a table or view counted as the table or view.
pub(super) async fn dependencies(source: &Source) -> Result<Vec<(Object, Object)>, AdoptError> {
    const DEPENDENCIES: &str = "
        with whole as (
            select 'pg_rewrite'::regclass::oid as classid, oid as objid, 'pg_class'::regclass::oid as wholeclass, ev_class as whole
            from pg_rewrite
            union all
            select 'pg_attrdef'::regclass, oid, 'pg_class'::regclass, adrelid from pg_attrdef
            union all
            select 'pg_constraint'::regclass, oid, 'pg_class'::regclass, conrelid from pg_constraint where conrelid <> 0 and contype <> 'f'
            union all
            select 'pg_constraint'::regclass, oid, 'pg_type'::regclass, contypid from pg_constraint where contypid <> 0
            union all
            select 'pg_type'::regclass, t.oid, 'pg_class'::regclass, t.typrelid
            from pg_type t join pg_class c on c.oid = t.typrelid and c.relkind <> 'c'
            union all
            select 'pg_type'::regclass, t.oid, 'pg_class'::regclass, e.typrelid
            from pg_type t join pg_type e on e.oid = t.typelem join pg_class c on c.oid = e.typrelid and c.relkind <> 'c'
            union all
            select 'pg_type'::regclass, t.oid, 'pg_type'::regclass, t.typelem
            from pg_type t join pg_type e on e.oid = t.typelem where t.typcategory = 'A' and e.typrelid = 0
        )
        select coalesce(a.wholeclass, d.classid), coalesce(a.whole, d.objid),
               coalesce(b.wholeclass, d.refclassid), coalesce(b.whole, d.refobjid)
        from pg_depend d
        left join whole a on a.classid = d.classid and a.objid = d.objid
        left join whole b on b.classid = d.refclassid and b.objid = d.refobjid
        where d.deptype in ('n', 'a')
          and not exists (select from pg_constraint f where f.oid = d.objid and d.classid = 'pg_constraint'::regclass and f.contype = 'f')
        union all
        select 'pg_class'::regclass, inhrelid, 'pg_class'::regclass, inhparent from pg_inherits";
    let rows = source
        .client
        .query(DEPENDENCIES, &[])
        .await
        .map_err(AdoptError::read("dependencies"))?;
    Ok(rows
        .iter()
        .map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3))))
        .collect())
}

/// The definitions' texts, each after those it depends on. Definitions in a circle, which PostgreSQL would not have let
/// anybody make in one go, come last in their usual order.
pub(super) fn sort(pieces: Vec<Piece>, dependencies: &[(Object, Object)]) -> Vec<String> {
    let mut waiting: BTreeMap<Object, Piece> = pieces.into_iter().map(|piece| (piece.object, piece)).collect();
    let edges: BTreeSet<(Object, Object)> = dependencies
        .iter()
        .filter(|(object, on)| object != on && waiting.contains_key(object) && waiting.contains_key(on))
        .copied()
        .collect();
    let mut open: BTreeMap<Object, usize> = waiting.keys().map(|object| (*object, 0)).collect();
    let mut dependents: BTreeMap<Object, Vec<Object>> = BTreeMap::new();
    for (object, on) in edges {
        *open.entry(object).or_default() += 1;
        dependents.entry(on).or_default().push(object);
    }
    let mut ready: BinaryHeap<Reverse<Piece>> = BinaryHeap::new();
    for object in open.iter().filter(|(_, count)| **count == 0).map(|(object, _)| object) {
        ready.extend(waiting.remove(object).map(Reverse));
    }
    let mut sorted = Vec::new();
    while let Some(Reverse(piece)) = ready.pop() {
        for dependent in dependents.remove(&piece.object).unwrap_or_default() {
            let count = open.entry(dependent).or_default();
            *count -= 1;
            if *count == 0 {
                ready.extend(waiting.remove(&dependent).map(Reverse));
            }
        }
        sorted.push(piece.sql);
    }
    let mut circle: Vec<Piece> = waiting.into_values().collect();
    circle.sort();
    sorted.extend(circle.into_iter().map(|piece| piece.sql));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(rank: Rank, oid: u32) -> Piece {
        Piece {
            rank,
            object: (1, oid),
            sql: oid.to_string(),
        }
    }

    #[test]
    fn what_is_needed_comes_first_and_the_rest_keeps_its_kinds_order() {
        let pieces = vec![
            piece(Rank::Function, 5),
            piece(Rank::Table, 4),
            piece(Rank::View, 3),
            piece(Rank::Type, 9),
        ];
        assert_eq!(sort(pieces.clone(), &[]), ["9", "4", "3", "5"]);
        assert_eq!(sort(pieces.clone(), &[((1, 4), (1, 5))]), ["9", "3", "5", "4"]);
        assert_eq!(
            sort(pieces, &[((1, 4), (1, 5)), ((1, 5), (1, 4))]),
            ["9", "3", "4", "5"]
        );
    }
}
