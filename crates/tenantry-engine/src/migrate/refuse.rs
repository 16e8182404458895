//! What the text of a migration alone already shows to be wrong.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::{
    body,
    header::{Header, Mode, Reference},
};

/// Offset, reason and mend.
pub(super) type Finding = (usize, String, String);

/// Schemas that a migration may name.
const NAMEABLE: [&str; 4] = ["pg_catalog", "information_schema", "tenantry", "tenantry_ext"];

/// Settings that a dump's head sets; they take effect in the twin only.
const HARMLESS_SETTINGS: [&str; 11] = [
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_encoding",
    "standard_conforming_strings",
    "check_function_bodies",
    "xmloption",
    "client_min_messages",
    "default_tablespace",
    "default_with_oids",
    "default_table_access_method",
    "row_security",
];

/// Settings that a header declares, and how. No bound at all is what a dump's head sets, and is harmless there too.
const DECLARED_SETTINGS: [(&str, &str); 2] = [
    ("lock_timeout", "lock timeout 500ms"),
    ("statement_timeout", "statement timeout 5min"),
];

/// Everything that is refused in one statement.
pub(super) fn by_text(statement: &SyntaxNode, header: &Header) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(by_kind(statement).filter(|_| !is_allowed(statement, header)));
    findings.extend(body::examine(statement, header));
    findings.extend(by_transaction(statement, header));
    findings.extend(by_mode(statement, header));
    for node in statement.descendants() {
        findings.extend(qualified(&node));
        findings.extend(setting(&node, header));
        findings.extend(too_long(&node));
        findings.extend(tenant_column(&node));
        findings.extend(by_part(&node));
    }
    findings
}

fn offset(node: &SyntaxNode) -> usize {
    usize::from(node.text_range().start())
}

fn by_kind(statement: &SyntaxNode) -> Option<Finding> {
    use SyntaxKind as K;
    let (reason, mend) = match statement.kind() {
        K::BEGIN
        | K::COMMIT_TRANSACTION
        | K::COMMIT_PREPARED
        | K::ROLLBACK_TRANSACTION
        | K::ROLLBACK_PREPARED
        | K::ROLLBACK_TO_SAVEPOINT
        | K::SAVEPOINT_CREATE
        | K::RELEASE_SAVEPOINT
        | K::PREPARE_TRANSACTION => (
            "a migration does not begin or end transactions",
            "remove it: each file runs in one transaction; declare `-- tenantry: no transaction` where that can't be",
        ),
        K::CREATE_DATABASE | K::DROP_DATABASE | K::ALTER_DATABASE => (
            "a migration belongs to the database it runs in",
            "remove it: Tenantry makes the databases",
        ),
        K::CREATE_SCHEMA | K::DROP_SCHEMA | K::ALTER_SCHEMA => (
            "the schema is chosen by the placement",
            "remove it and write the names without a schema",
        ),
        K::CREATE_ROLE
        | K::CREATE_USER
        | K::CREATE_GROUP
        | K::ALTER_ROLE
        | K::ALTER_USER
        | K::ALTER_GROUP
        | K::DROP_ROLE
        | K::DROP_USER
        | K::DROP_GROUP
        | K::SET_ROLE
        | K::RESET_ROLE
        | K::SET_SESSION_AUTH
        | K::RESET_SESSION_AUTH
        | K::REASSIGN
        | K::DROP_OWNED => (
            "roles belong to Tenantry",
            "remove it: the application's role is made with each tenant database",
        ),
        K::GRANT | K::REVOKE | K::ALTER_DEFAULT_PRIVILEGES => {
            ("grants are Tenantry's: they are made with each table", "remove it")
        }
        K::CREATE_MATERIALIZED_VIEW | K::ALTER_MATERIALIZED_VIEW | K::REFRESH => (
            "row security can't protect a materialized view, so one would hold every tenant's rows",
            "write a view, or a table that a job of each tenant fills",
        ),
        K::CREATE_FOREIGN_TABLE
        | K::ALTER_FOREIGN_TABLE
        | K::IMPORT_FOREIGN_SCHEMA
        | K::CREATE_SERVER
        | K::CREATE_FOREIGN_DATA_WRAPPER
        | K::CREATE_USER_MAPPING => (
            "row security can't protect a foreign table",
            "copy the data into a table, or read it from the application",
        ),
        K::CREATE_RULE | K::ALTER_RULE => (
            "a rule rewrites queries before row security sees them",
            "write a trigger",
        ),
        K::CREATE_EVENT_TRIGGER | K::ALTER_EVENT_TRIGGER => (
            "an event trigger acts on the whole database, so on other tenants too",
            "remove it",
        ),
        K::CREATE_PUBLICATION | K::ALTER_PUBLICATION | K::CREATE_SUBSCRIPTION | K::ALTER_SUBSCRIPTION => (
            "a publication shows every tenant's rows",
            "remove it: Tenantry makes publications with row filters",
        ),
        K::CREATE_TABLESPACE | K::ALTER_SYSTEM | K::LOAD | K::CHECKPOINT => (
            "this acts on the whole server",
            "remove it and do it once as administrator",
        ),
        K::CREATE_LANGUAGE | K::CREATE_ACCESS_METHOD | K::CREATE_CAST | K::CREATE_TRANSFORM => (
            "this acts on the whole database",
            "install it once per database as administrator, as an extension where there is one",
        ),
        K::LISTEN
        | K::NOTIFY
        | K::UNLISTEN
        | K::DISCARD
        | K::PREPARE
        | K::EXECUTE
        | K::DEALLOCATE
        | K::DECLARE
        | K::FETCH
        | K::MOVE
        | K::CLOSE
        | K::LOCK => (
            "this acts on the session, and a migration has none of its own",
            "remove it",
        ),
        K::COPY => (
            "a migration has no data stream to copy from",
            "take existing data over with `tenantry adopt`, or write inserts into a file declared `-- tenantry: seed`",
        ),
        _ => return None,
    };
    Some((offset(statement), reason.into(), mend.into()))
}

/// What PostgreSQL refuses in a transaction.
fn by_transaction(statement: &SyntaxNode, header: &Header) -> Option<Finding> {
    let concurrently = statement
        .descendants_with_tokens()
        .any(|element| element.kind() == SyntaxKind::CONCURRENTLY_KW);
    let outside = concurrently || statement.kind() == SyntaxKind::VACUUM;
    (outside && header.transaction).then(|| {
        (
            offset(statement),
            "this statement can't run in a transaction, and the file runs in one".into(),
            "move it to a file of its own that declares `-- tenantry: no transaction`".into(),
        )
    })
}

/// A materialized view, foreign table or rule that the file declares by its name.
fn is_allowed(statement: &SyntaxNode, header: &Header) -> bool {
    use SyntaxKind as K;
    matches!(
        statement.kind(),
        K::CREATE_MATERIALIZED_VIEW
            | K::ALTER_MATERIALIZED_VIEW
            | K::CREATE_FOREIGN_TABLE
            | K::ALTER_FOREIGN_TABLE
            | K::CREATE_RULE
            | K::ALTER_RULE
    ) && statement.descendants().any(|node| {
        let is_name = matches!(node.kind(), K::PATH | K::PATH_REF | K::RULE | K::RULE_REF);
        is_name && idents(&node).iter().any(|name| header.allowed.contains(name))
    })
}

/// Clauses that are refused wherever they stand.
fn by_part(node: &SyntaxNode) -> Option<Finding> {
    use SyntaxKind as K;
    let (reason, mend) = match node.kind() {
        K::OWNER_TO => ("the tables belong to Tenantry's owner role", "remove `owner to`"),
        K::SET_SCHEMA => ("the schema is chosen by the placement", "remove `set schema`"),
        K::DISABLE_RLS | K::NO_FORCE_RLS => (
            "row security is what keeps tenants apart",
            "remove it: Tenantry enables and forces it on every table",
        ),
        K::TEMP => (
            "a temporary table ends with the migration's session, so it only carries data",
            "use `with` in a file declared `-- tenantry: all tenants`",
        ),
        K::CREATE_TABLE_AS if !node.descendants().any(|child| child.kind() == K::WITH_NO_DATA) => (
            "`create table as` copies rows, and this file does not say of which tenants",
            "write `with no data`, and insert the rows in a file declared `-- tenantry: each tenant`",
        ),
        _ => return None,
    };
    Some((offset(node), reason.into(), mend.into()))
}

/// Data in a file that declares none, definitions in a file that declares data.
fn by_mode(statement: &SyntaxNode, header: &Header) -> Option<Finding> {
    use SyntaxKind as K;
    let at = offset(statement);
    let data = matches!(
        statement.kind(),
        K::INSERT
            | K::UPDATE
            | K::DELETE
            | K::MERGE
            | K::TRUNCATE
            | K::SELECT
            | K::CALL
            | K::VALUES
            | K::SELECT_INTO
            | K::COMPOUND_SELECT
            | K::TABLE
    );
    if header.mode == Mode::Schema {
        let told_below = statement.text().to_string().contains("set_config");
        if !data || header.reference != Reference::None || told_below {
            return None;
        }
        let verb = statement
            .first_token()
            .map(|token| token.text().to_lowercase())
            .unwrap_or_default();
        return Some((
            at,
            format!(
                "`{verb}` works on tenants' rows, and this file does not say of which tenants: \
                 run by the owner it would touch no row and say nothing"
            ),
            "move it to a file of its own that declares `-- tenantry: each tenant`, `-- tenantry: all tenants` \
             or `-- tenantry: seed` (`-- tenantry: reference` for rows that are the same for all)"
                .into(),
        ));
    }
    if !data && !matches!(statement.kind(), K::DO | K::SET) {
        return Some((
            at,
            "a file that declares data holds definitions too".into(),
            "move the definitions to a file of their own before it".into(),
        ));
    }
    if header.mode != Mode::AllTenants && statement.kind() == K::TRUNCATE {
        return Some((
            at,
            "`truncate` knows no tenants: it empties the table for all of them".into(),
            "write `delete from`".into(),
        ));
    }
    None
}

/// A name with a schema of the application's.
fn qualified(node: &SyntaxNode) -> Option<Finding> {
    use SyntaxKind as K;
    let parent = node.parent()?;
    let names: Vec<String> = match node.kind() {
        K::PATH | K::PATH_REF => {
            if matches!(parent.kind(), K::PATH | K::PATH_REF | K::CONFIG_PARAMETER_REF) {
                return None;
            }
            idents(node)
        }
        K::FIELD_EXPR => {
            if parent.kind() == K::FIELD_EXPR {
                return None;
            }
            let base = node.children().next()?;
            if !matches!(base.kind(), K::NAME_REF | K::FIELD_EXPR) {
                return None;
            }
            idents(node)
        }
        _ => return None,
    };
    let bare = match (node.kind(), parent.kind()) {
        (K::FIELD_EXPR, K::CALL_EXPR) => 1,
        (K::FIELD_EXPR, _) | (_, K::QUALIFIED_COLUMN_NAME_REF) => 2,
        _ => 1,
    };
    let schema = names.first().filter(|_| names.len() > bare)?;
    if NAMEABLE.contains(&schema.as_str()) {
        return None;
    }
    let rest = names[1..].join(".");
    Some((
        offset(node),
        format!(
            "`{}` names a schema, and the schema is chosen by the placement",
            names.join(".")
        ),
        format!("write `{rest}` (`tenantry adopt` strips the schema of an existing database)"),
    ))
}

fn idents(node: &SyntaxNode) -> Vec<String> {
    node.descendants_with_tokens()
        .filter_map(|element| element.into_token())
        .filter(|token| !token.kind().is_trivia() && token.kind() != SyntaxKind::DOT)
        .map(|token| unquoted(token.text()))
        .collect()
}

/// `set` and `set_config`.
fn setting(node: &SyntaxNode, header: &Header) -> Option<Finding> {
    use SyntaxKind as K;
    const MEND: &str = "remove it: Tenantry sets what a migration needs";
    match node.kind() {
        K::SET | K::RESET | K::SET_TRANSACTION => {
            let text = node.text().to_string().to_lowercase();
            let name = node
                .descendants()
                .find(|child| child.kind() == K::CONFIG_PARAMETER_REF)
                .map(|child| child.text().to_string().to_lowercase())
                .unwrap_or_default();
            let declared = DECLARED_SETTINGS.iter().find(|(declared, _)| *declared == name.trim());
            if let Some((_, declaration)) = declared {
                return (!is_unbounded(node, &text, header)).then(|| {
                    (
                        offset(node),
                        format!(
                            "`{}` changes the session, and each statement runs in one of Tenantry's",
                            node.text().to_string().trim_end_matches(';')
                        ),
                        format!("declare `-- tenantry: {declaration}` above the first statement, for the whole file"),
                    )
                });
            }
            let harmless = HARMLESS_SETTINGS.contains(&name.trim());
            (!harmless || text.contains("standard_conforming_strings") && text.contains("off")).then(|| {
                (
                    offset(node),
                    format!(
                        "`{}` changes the session",
                        node.text().to_string().trim_end_matches(';')
                    ),
                    MEND.to_owned(),
                )
            })
        }
        K::CALL_EXPR => {
            let function = node.children().next()?;
            (idents(&function).last()? == "set_config").then(|| {
                (
                    offset(node),
                    "`set_config` changes the session".to_owned(),
                    MEND.to_owned(),
                )
            })
        }
        _ => None,
    }
}

/// Whether a time-out is taken away, in a file whose settings take effect in the twin only.
fn is_unbounded(node: &SyntaxNode, text: &str, header: &Header) -> bool {
    let value = text.trim_end_matches(';').trim_end().rsplit(['=', ' ']).next();
    let is_zero = value.is_some_and(|value| matches!(value.trim_matches('\''), "0" | "default"));
    header.mode == Mode::Schema && (node.kind() == SyntaxKind::RESET || is_zero)
}

/// Names that PostgreSQL would cut off silently.
fn too_long(node: &SyntaxNode) -> Option<Finding> {
    let token = node
        .children_with_tokens()
        .filter_map(|element| element.into_token())
        .find(|token| token.kind() == SyntaxKind::IDENT && unquoted(token.text()).len() > 63)?;
    Some((
        usize::from(token.text_range().start()),
        format!(
            "the name `{}` has {} bytes, and PostgreSQL keeps 63",
            token.text(),
            unquoted(token.text()).len()
        ),
        "choose a shorter name".into(),
    ))
}

/// A column that carries the name of ours.
fn tenant_column(node: &SyntaxNode) -> Option<Finding> {
    use SyntaxKind as K;
    let defines = matches!(node.parent()?.kind(), K::COLUMN | K::ADD_COLUMN | K::RENAME_COLUMN);
    if !defines || node.kind() != K::COLUMN_NAME || unquoted(&node.text().to_string()) != tenantry_sql::TENANT_COLUMN {
        return None;
    }
    Some((
        offset(node),
        "`tenant_id` is the column that Tenantry adds to every table".into(),
        "leave it out where it means the customer; give it another name (`owner_tenant_id`) where it means something else"
            .into(),
    ))
}

/// A table that a statement writes.
pub(super) struct Write {
    pub(super) table: String,
    pub(super) inserts: bool,
    pub(super) names_tenant: bool,
}

/// The tables that a statement writes, those in its `with` included.
pub(super) fn writes(statement: &SyntaxNode) -> Vec<Write> {
    use SyntaxKind as K;
    let mut writes = Vec::new();
    for node in statement.descendants() {
        let inserts = node.kind() == K::INSERT
            || node.kind() == K::MERGE && node.descendants().any(|child| child.kind() == K::MERGE_INSERT);
        if !matches!(node.kind(), K::INSERT | K::UPDATE | K::DELETE | K::MERGE | K::TRUNCATE) {
            continue;
        }
        let named = |node: &SyntaxNode| {
            node.descendants()
                .filter(|child| child.kind() == K::COLUMN_TARGET_LIST)
                .flat_map(|list| idents(&list))
                .any(|name| name == "tenant_id")
        };
        let tables: Vec<_> = if node.kind() == K::TRUNCATE {
            node.descendants()
                .filter(|child| child.kind() == K::TABLE_NAME_REF)
                .collect()
        } else {
            node.descendants()
                .find(|child| matches!(child.kind(), K::RELATION_NAME_REF | K::TABLE_NAME_REF))
                .into_iter()
                .collect()
        };
        for table in tables {
            writes.push(Write {
                table: idents(&table).pop().unwrap_or_default(),
                inserts,
                names_tenant: named(&node),
            });
        }
    }
    writes
}

/// A name as the catalogs hold it: folded, or without its quotes.
pub(super) fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}
