//! Turns the effect of one statement on the twin into steps for every placement.

use squawk_syntax::SyntaxKind;

use super::{
    change::{Change, Outcome},
    column, constraint, foreign_key, function, grant, index, kind, name, partition, sequence, table, trigger, view,
};

/// The steps of one statement; `schema` is the twin's, quoted.
pub(super) fn isolate(change: &Change<'_>, schema: &str) -> Outcome {
    let mut out = Outcome::new(change.statement.line);
    function::examined(change, &mut out);
    trigger::examine_policies(change, &mut out);
    name::examined(change, &mut out);
    if runs_as_written(change.statement.kind) {
        if left_a_trace(change) {
            out.sql(change.statement.text.clone());
        }
        constraint::dropped_full_checks(change, &mut out);
        sequence::granted(change, &mut out);
        return out;
    }
    went(change, &mut out);
    renamed(change, &mut out);
    came(change, schema, &mut out);
    grant::granted(change, &mut out);
    untraced(change, &mut out);
    out
}

/// What went, dependants first, under the names from before.
fn went(change: &Change<'_>, out: &mut Outcome) {
    trigger::dropped(change, out);
    trigger::dropped_policies(change, out);
    view::dropped(change, out);
    constraint::dropped(change, out);
    index::dropped(change, out);
    table::dropped(change, out);
}

fn renamed(change: &Change<'_>, out: &mut Outcome) {
    kind::renamed(change, out);
    table::renamed(change, out);
    column::renamed(change, out);
    constraint::renamed(change, out);
    index::renamed(change, out);
    sequence::renamed(change, out);
    view::renamed(change, out);
}

/// What came, in the order in which one needs the other.
fn came(change: &Change<'_>, schema: &str, out: &mut Outcome) {
    kind::made(change, out);
    sequence::made(change, out);
    table::made(change, out);
    partition::moved(change, out);
    column::altered(change, out);
    sequence::owned(change, out);
    sequence::dropped(change, out);
    function::made(change, schema, out);
    function::dropped(change, out);
    kind::dropped(change, out);
    constraint::made(change, out);
    constraint::altered(change, out);
    index::made(change, out);
    foreign_key::made(change, out);
    view::made(change, out);
    trigger::made(change, out);
}

/// Actions of an `alter table` that the snapshot does not hold, on the table under its name of now.
fn untraced(change: &Change<'_>, out: &mut Outcome) {
    if let Some(table) = &change.statement.altered {
        for action in &change.statement.untraced {
            out.sql(format!("alter table {table} {action}"));
        }
    }
}

/// Statements that mean the same on isolated tables as on plain ones.
fn runs_as_written(kind: SyntaxKind) -> bool {
    use SyntaxKind as K;
    matches!(
        kind,
        K::CREATE_FUNCTION
            | K::CREATE_PROCEDURE
            | K::CREATE_AGGREGATE
            | K::ALTER_FUNCTION
            | K::ALTER_PROCEDURE
            | K::ALTER_ROUTINE
            | K::ALTER_AGGREGATE
            | K::DROP_FUNCTION
            | K::DROP_PROCEDURE
            | K::DROP_ROUTINE
            | K::DROP_AGGREGATE
            | K::CREATE_TYPE
            | K::ALTER_TYPE
            | K::DROP_TYPE
            | K::CREATE_DOMAIN
            | K::ALTER_DOMAIN
            | K::DROP_DOMAIN
            | K::CREATE_SEQUENCE
            | K::ALTER_SEQUENCE
            | K::DROP_SEQUENCE
            | K::CREATE_TRIGGER
            | K::ALTER_TRIGGER
            | K::DROP_TRIGGER
            | K::CREATE_POLICY
            | K::ALTER_POLICY
            | K::DROP_POLICY
            | K::CREATE_COLLATION
            | K::ALTER_COLLATION
            | K::DROP_COLLATION
            | K::CREATE_OPERATOR
            | K::ALTER_OPERATOR
            | K::DROP_OPERATOR
            | K::CREATE_OPERATOR_CLASS
            | K::ALTER_OPERATOR_CLASS
            | K::DROP_OPERATOR_CLASS
            | K::CREATE_OPERATOR_FAMILY
            | K::ALTER_OPERATOR_FAMILY
            | K::DROP_OPERATOR_FAMILY
            | K::CREATE_STATISTICS
            | K::ALTER_STATISTICS
            | K::DROP_STATISTICS
            | K::CREATE_TEXT_SEARCH_CONFIGURATION
            | K::ALTER_TEXT_SEARCH_CONFIGURATION
            | K::DROP_TEXT_SEARCH_CONFIG
            | K::CREATE_TEXT_SEARCH_DICTIONARY
            | K::ALTER_TEXT_SEARCH_DICTIONARY
            | K::DROP_TEXT_SEARCH_DICT
            | K::COMMENT_ON
            | K::CREATE_MATERIALIZED_VIEW
            | K::ALTER_MATERIALIZED_VIEW
            | K::DROP_MATERIALIZED_VIEW
            | K::CREATE_FOREIGN_TABLE
            | K::ALTER_FOREIGN_TABLE
            | K::DROP_FOREIGN_TABLE
            | K::CREATE_RULE
            | K::ALTER_RULE
            | K::DROP_RULE
            | K::DROP_TABLE
            | K::DROP_VIEW
            | K::DROP_INDEX
            | K::ALTER_INDEX
            | K::ANALYZE
            | K::VACUUM
            | K::REINDEX
            | K::CLUSTER
    )
}

/// Whether the text is needed: `drop … if exists` of nothing is not.
fn left_a_trace(change: &Change<'_>) -> bool {
    use SyntaxKind as K;
    let (before, after) = (change.before, change.after);
    match change.statement.kind {
        K::DROP_TABLE | K::DROP_VIEW | K::DROP_INDEX => {
            before.tables.len() != after.tables.len()
                || before.views.len() != after.views.len()
                || before.indexes.len() != after.indexes.len()
        }
        _ => true,
    }
}
