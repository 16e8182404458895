//! Which statements belong on a scoped connection, and which on one of the raw lane.

use crate::Error;

/// Checks a statement before it is prepared; one that is in the cache has passed.
///
/// Connections serve one tenant after another. What outlives a transaction (a prepared statement, a cursor with hold, a
/// temporary table, a setting, a listener) would reach the next tenant, so only statements that leave nothing behind are
/// let through. Row security does not rest on this: it keeps a faulty statement from troubling others.
///
/// # Errors
///
/// [`Error::Refused`] with what to do instead.
pub fn admit(sql: &str) -> Result<(), Error> {
    let word = first_word(sql);
    const ADMITTED: [&str; 10] = [
        "select", "insert", "update", "delete", "merge", "with", "values", "table", "explain", "call",
    ];
    if ADMITTED.iter().any(|admitted| admitted.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    Err(Error::Refused {
        statement: word.to_ascii_lowercase(),
        mend: mend(word),
    })
}

/// Whether a statement that is admitted may still leave something in its session: then the session serves nobody else.
///
/// Settings and locks of the session can be reached by functions in any query. What is found here costs a connection and
/// no check on the way of other statements; what hides from it can only make later calls on this connection fail, and is
/// noticed then.
pub fn leaves_traces(sql: &str) -> bool {
    const WORDS: [&str; 7] = [
        "set_config",
        "setseed",
        "pg_settings",
        "pg_advisory_lock",
        "pg_try_advisory_lock",
        "tenantry.enter",
        "tenantry.leave",
    ];
    let sql = sql.to_ascii_lowercase();
    WORDS.iter().any(|word| sql.contains(word))
}

/// Whether a statement may commit before it ends, as procedures may: what failed of it may have taken effect in part.
pub fn may_commit(sql: &str) -> bool {
    first_word(sql).eq_ignore_ascii_case("call")
}

/// Checks a statement from outside the application's code, for a connection that serves this one call and is closed then.
///
/// What stays in the session is nobody's concern there. Refused is what ends the transaction that carries the context, what
/// outlasts the session (rights, objects, a role's stored settings), what reaches other sessions at once (locks on whole
/// tables, notifications), what changes the stream of messages, and `do`, by which all of these could be had. PostgreSQL
/// takes one statement at a time here, so the first word tells what it is; row security does not rest on it.
pub(crate) fn admit_raw(sql: &str) -> Result<(), Error> {
    const ADMITTED: [&str; 20] = [
        "select",
        "insert",
        "update",
        "delete",
        "merge",
        "with",
        "values",
        "table",
        "explain",
        "call",
        "set",
        "reset",
        "show",
        "prepare",
        "execute",
        "deallocate",
        "declare",
        "fetch",
        "move",
        "close",
    ];
    let word = first_word(sql);
    let admitted = ADMITTED.iter().any(|admitted| admitted.eq_ignore_ascii_case(word));
    // It ends the transaction too, and what it prepared outlasts every session.
    let two_phase = word.eq_ignore_ascii_case("prepare") && second_word(sql).eq_ignore_ascii_case("transaction");
    if admitted && !two_phase {
        return Ok(());
    }
    Err(Error::Refused {
        statement: word.to_ascii_lowercase(),
        mend: raw_mend(word),
    })
}

/// Checks a statement that is to read in bulk.
pub(crate) fn admit_copy(sql: &str) -> Result<(), Error> {
    if first_word(sql).eq_ignore_ascii_case("copy") {
        return Ok(());
    }
    Err(Error::Refused {
        statement: first_word(sql).to_ascii_lowercase(),
        mend: "`copy_out` takes `copy … to stdout`",
    })
}

fn mend(word: &str) -> &'static str {
    match word.to_ascii_lowercase().as_str() {
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            "use `transaction`, which carries the context along"
        }
        "copy" => "use `copy_out` to read in bulk and `insert_many` to write",
        "create" | "alter" | "drop" | "grant" | "revoke" | "truncate" | "comment" => {
            "changes of the schema stand in a migration"
        }
        "set" | "reset" | "discard" => "settings would reach the next tenant on this connection",
        "prepare" | "deallocate" | "execute" => "statements are prepared by themselves",
        "declare" | "fetch" | "close" | "move" => "use `query_stream` for large results",
        "listen" | "unlisten" | "notify" | "do" => "it would act beyond the tenant or outlast the call",
        "" => "the statement is empty",
        _ => "only queries and changes of rows belong here",
    }
}

fn raw_mend(word: &str) -> &'static str {
    match word.to_ascii_lowercase().as_str() {
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" | "prepare" => {
            "all of it is one transaction, which ends with the script"
        }
        "copy" => "select the rows",
        "create" | "alter" | "drop" | "grant" | "revoke" | "truncate" | "comment" => {
            "changes of the schema and of rights stand in a migration"
        }
        "listen" | "unlisten" | "notify" | "lock" | "do" => "it would act beyond the tenant or outlast the call",
        "discard" => "the connection is closed after the script, with all that is in it",
        "" => "the statement is empty",
        _ => "only queries, changes of rows and settings belong here",
    }
}

fn second_word(sql: &str) -> &str {
    let first = first_word(sql);
    // `first` is a part of `sql`: what follows it is found by its place.
    let end = first.as_ptr() as usize - sql.as_ptr() as usize + first.len();
    first_word(&sql[end..])
}

/// The first word, past blanks, comments and opening parentheses.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '(' || c == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
        } else if rest.starts_with("/*") {
            rest = past_block_comment(rest);
        } else {
            break;
        }
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    &rest[..end]
}

/// Block comments nest in PostgreSQL.
pub(crate) fn past_block_comment(sql: &str) -> &str {
    let bytes = sql.as_bytes();
    let (mut depth, mut at) = (0_u32, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return &sql[at..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_changes_of_rows_are_admitted() {
        for sql in [
            "select 1",
            "  WITH a as (select 1) select * from a",
            "(select 1) union (select 2)",
            "-- why\n/* a /* nested */ one */ insert into t values (1)",
            "values (1)",
            "merge into t using u on true when matched then delete",
        ] {
            assert!(admit(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn settings_and_locks_of_the_session_are_traces() {
        assert!(leaves_traces("select SET_CONFIG('row_security', 'off', false)"));
        assert!(leaves_traces("select pg_try_advisory_lock(1)"));
        assert!(!leaves_traces("select pg_advisory_xact_lock(1)"));
    }

    #[test]
    fn what_outlasts_the_call_is_refused() {
        for sql in [
            "prepare s as select 1",
            "DEALLOCATE all",
            "/* select */ declare c cursor with hold for select 1",
            "create temp table contacts ()",
            "set search_path = x",
            "discard all",
            "listen x",
            "do $$ begin end $$",
            "commit",
            "copy t to stdout",
            "",
            "-- select",
            "/* select",
            ";",
            "selectx 1",
        ] {
            assert!(matches!(admit(sql), Err(Error::Refused { .. })), "{sql}");
        }
    }

    #[test]
    fn the_raw_lane_takes_what_ends_with_its_connection() {
        for sql in [
            "select 1",
            "set search_path = x",
            "reset all",
            "prepare s as select 1",
            "PREPARE /* x */ transactions as select 1",
            "declare c cursor with hold for select 1",
            "fetch all c",
        ] {
            assert!(admit_raw(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn the_raw_lane_refuses_what_ends_its_transaction_or_outlasts_it() {
        for sql in [
            "commit",
            ";;/* select */ commit",
            "\u{b}commit",
            "rollback to savepoint x",
            "prepare transaction 'x'",
            "prepare -- as\n /* as */ TRANSACTION 'x'",
            "copy t from stdin",
            "do $$ begin end $$",
            "alter role current_user set search_path = x",
            "create temp table t ()",
            "lock table t",
            "notify x",
            "discard all",
            "",
        ] {
            assert!(matches!(admit_raw(sql), Err(Error::Refused { .. })), "{sql}");
        }
    }
}
