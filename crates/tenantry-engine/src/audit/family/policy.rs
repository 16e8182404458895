//! What policies say.

use std::collections::BTreeSet;

use super::{name, quoted};
use crate::audit::{
    Finding, Severity, Subject,
    catalog::{Catalog, Function, Policy, Relation, settings_read},
    expression::{Bind, Expression},
    prove::Weakness,
};

pub(super) fn find(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let mut found = Vec::new();
    for table in catalog
        .relations
        .values()
        .filter(|table| table.is_table() && !table.of_extension)
    {
        let policies = catalog.policies_of(table.oid);
        if policies.is_empty() {
            continue;
        }
        if let Some(tenant) = &table.tenant_column
            && table.row_security
        {
            openings(catalog, table, tenant, policies, &mut found);
        }
        context(catalog, subject, table, policies, &mut found);
        for policy in policies {
            asked_tables(catalog, table, policy, &mut found);
            for role in &policy.bypassing_roles {
                found.push(Finding::new(
                    "MT036",
                    object(table, policy),
                    format!("the role {role} bypasses row security"),
                    format!(
                        "alter role {} nobypassrls; or drop policy {} on {}",
                        name(role),
                        name(&policy.name),
                        quoted(table)
                    ),
                ));
            }
        }
    }
    functions(catalog, &mut found);
    found
}

fn object(table: &Relation, policy: &Policy) -> String {
    format!("{}.{}", table.object(), policy.name)
}

/// A command that a policy is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::audit) enum Command {
    Select,
    Insert,
    Update,
    Delete,
}

impl Command {
    const ALL: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    fn is_of(self, policy: &Policy) -> bool {
        let letter = match self {
            Self::Select => 'r',
            Self::Insert => 'a',
            Self::Update => 'w',
            Self::Delete => 'd',
        };
        policy.command == '*' || policy.command == letter
    }

    fn may(self, table: &Relation) -> bool {
        match self {
            Self::Select => table.may_select,
            Self::Insert => table.may_insert,
            Self::Update => table.may_update,
            Self::Delete => table.may_delete,
        }
    }

    /// The sides of a policy that PostgreSQL evaluates, and that the role could use.
    fn sides(self, table: &Relation) -> Vec<Side> {
        match self {
            Self::Select | Self::Delete => vec![Side::Using],
            Self::Insert => vec![Side::Check],
            // Who can't name the tenant column leaves it as it was.
            Self::Update if !table.tenant_updatable => vec![Side::Using],
            Self::Update => vec![Side::Using, Side::Check],
        }
    }
}

/// Which rows a policy is asked about: those that are there, or those that are being made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::audit) enum Side {
    Using,
    Check,
}

/// A way through one policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Opening {
    command: Command,
    side: Side,
    bind: Bind,
}

/// Without `with check` PostgreSQL asks the `using` expression about new rows as well, in restrictive policies too.
fn text(policy: &Policy, side: Side) -> Option<&str> {
    match side {
        Side::Using => policy.using_text.as_deref(),
        Side::Check => policy.check_text.as_deref().or(policy.using_text.as_deref()),
    }
}

fn bind(catalog: &Catalog, table: &Relation, tenant: &str, policy: &Policy, side: Side) -> Bind {
    let Some(text) = text(policy, side) else {
        return Bind::Bound;
    };
    let expression = Expression::new(text, &table.name, tenant, &policy.columns);
    match expression.bind() {
        // It holds the row to what a table says, and that table says the same to everybody.
        Bind::Bound if expression.asks_tables() && is_same_for_all(catalog, policy, &expression) => Bind::Loose,
        bind => bind,
    }
}

/// Whether nothing that the policy's expressions look at depends on who asks.
fn is_same_for_all(catalog: &Catalog, policy: &Policy, expression: &Expression<'_>) -> bool {
    let open = |asked: &Relation| asked.is_table() && !asked.row_security;
    !expression.looks_at_session()
        && policy.functions.is_empty()
        && policy
            .relations
            .iter()
            .all(|asked| catalog.relations.get(asked).is_some_and(open))
}

fn openings(catalog: &Catalog, table: &Relation, tenant: &str, policies: &[Policy], found: &mut Vec<Finding>) {
    let applying = |permissive: bool| {
        policies
            .iter()
            .filter(move |policy| policy.applies && policy.permissive == permissive)
    };
    let floored = |command: Command, side: Side| {
        applying(false).any(|policy| command.is_of(policy) && bind(catalog, table, tenant, policy, side) == Bind::Bound)
    };
    let (mut open, mut bound) = (Vec::new(), Vec::new());
    for policy in applying(true) {
        let mut through = Vec::new();
        for command in Command::ALL {
            if !command.is_of(policy) || !command.may(table) {
                continue;
            }
            // An own row may be made of any row that may be changed, but only where it can be given to oneself.
            let kept = command == Command::Update
                && !table.tenant_updatable
                && (bind(catalog, table, tenant, policy, Side::Check) == Bind::Bound || floored(command, Side::Check));
            for side in command.sides(table) {
                let bind = bind(catalog, table, tenant, policy, side);
                if bind == Bind::Bound {
                    bound.push((command, policy.name.as_str()));
                } else if !kept && !floored(command, side) {
                    through.push(Opening { command, side, bind });
                }
            }
        }
        if let Some(opening) = worst(table, &through) {
            found.push(finding(catalog, table, tenant, policy, opening));
            open.extend(through.iter().map(|opening| (opening.command, policy.name.as_str())));
        }
    }
    let beside = open.iter().find_map(|(command, opener)| {
        let other = bound.iter().find(|(other, name)| other == command && name != opener)?;
        Some((*opener, other.1))
    });
    if let Some((opener, other)) = beside {
        found.push(Finding::new(
            "MT023",
            table.object(),
            format!("the policy {opener} is joined by OR to {other} and opens what that one protects"),
            format!("drop policy {} on {}", name(opener), quoted(table)),
        ));
    }
    if applying(true).next().is_some() && applying(false).next().is_none() {
        let tenant = name(tenant);
        found.push(Finding::new(
            "MT024",
            table.object(),
            "it has permissive policies only",
            format!(
                "create policy floor on {} as restrictive using ({tenant} = (select <the context>))",
                quoted(table)
            ),
        ));
    }
}

/// A column that can't be null makes the branch for null rows a dead one.
fn is_dead(table: &Relation, opening: Opening) -> bool {
    opening.bind == Bind::NullTenant && table.tenant_not_null == Some(true)
}

/// What a reader sees is worse than what a writer can do, and a live branch than a dead one.
fn worst(table: &Relation, through: &[Opening]) -> Option<Opening> {
    let mut through = through.to_vec();
    through.sort_by_key(|opening| {
        (
            is_dead(table, *opening),
            opening.side == Side::Check,
            opening.command as u8,
        )
    });
    through.first().copied()
}

fn finding(catalog: &Catalog, table: &Relation, tenant: &str, policy: &Policy, opening: Opening) -> Finding {
    let reads_less = opening.side == Side::Check
        && policy.check_text.is_some()
        && policy.using_text.is_some()
        && bind(catalog, table, tenant, policy, Side::Using) == Bind::Bound;
    let id = match opening.bind {
        _ if reads_less => "MT025",
        Bind::AlwaysTrue => "MT021",
        Bind::Ignores | Bind::Bound => "MT022",
        Bind::NullTenant => "MT026",
        Bind::NoContext => "MT037",
        Bind::Pattern => "MT035",
        Bind::Loose => "MT038",
    };
    let says = text(policy, opening.side).unwrap_or_default();
    let command = format!("{:?}", opening.command).to_lowercase();
    let clause = match opening.side {
        Side::Using => "using",
        Side::Check => "with check",
    };
    let finding = Finding::new(
        id,
        object(table, policy),
        format!("for {command}, {clause} {says}"),
        format!(
            "alter policy {} on {} {clause} ({} = (select <the context>))",
            name(&policy.name),
            quoted(table),
            name(tenant)
        ),
    );
    if is_dead(table, opening) {
        return finding.at(Severity::Info);
    }
    finding.usable_by(match (opening.command, opening.side) {
        (Command::Update, Side::Check) => Weakness::Moves { relation: table.oid },
        (_, Side::Check) => Weakness::Inserts { relation: table.oid },
        (Command::Update, Side::Using) => Weakness::Updates { relation: table.oid },
        (Command::Delete, Side::Using) => Weakness::Deletes { relation: table.oid },
        _ => Weakness::Table { relation: table.oid },
    })
}

/// Where policies take the tenant from; said once a table, since its policies mostly do the same.
fn context(catalog: &Catalog, subject: &Subject, table: &Relation, policies: &[Policy], found: &mut Vec<Finding>) {
    let texts = |policy: &Policy| {
        [policy.using_text.clone(), policy.check_text.clone()]
            .into_iter()
            .flatten()
            .collect::<Vec<String>>()
            .join(" ")
    };
    let called = |policy: &Policy| -> Vec<&Function> {
        let functions = policy.functions.iter().filter_map(|oid| catalog.functions.get(oid));
        // The mechanism of ours is compared as a whole (MT110).
        functions.filter(|function| function.schema != "tenantry").collect()
    };
    let mend = format!(
        "alter policy {} on {} using (…)",
        name(&policies[0].name),
        quoted(table)
    );
    let mut forgeable = BTreeSet::new();
    let (mut per_row, mut by_role, mut cast, mut to_public) = (None, None, None, None);
    for policy in policies {
        let said = texts(policy);
        let mut settings = settings_read(&said);
        settings.extend(
            called(policy)
                .iter()
                .flat_map(|function| settings_read(&function.source)),
        );
        forgeable.extend(settings.into_iter().filter(|setting| setting.contains('.')));
        if let Some(using) = &policy.using_text {
            let tenant = table.tenant_column.as_deref().unwrap_or_default();
            let is_context = |word: &str| {
                word == "current_setting"
                    || policy
                        .functions
                        .iter()
                        .filter_map(|oid| catalog.functions.get(oid))
                        .any(|function| function.arguments == 0 && function.name == word)
            };
            if Expression::new(using, &table.name, tenant, &policy.columns).calls_per_row(is_context) {
                per_row.get_or_insert(policy);
            }
        }
        let lower = said.to_lowercase();
        if (lower.contains("current_user") || lower.contains("session_user"))
            && policy.functions.is_empty()
            && !lower.contains("current_setting(")
        {
            by_role.get_or_insert(policy);
        }
        let sources: Vec<String> = called(policy)
            .iter()
            .map(|function| function.source.to_lowercase())
            .chain([lower])
            .collect();
        if sources.iter().any(|source| casts_setting(source)) {
            cast.get_or_insert(policy);
        }
        if policy.permissive && policy.roles == [0] && !tenantry_sql::POLICY_NAMES.contains(&policy.name.as_str()) {
            to_public.get_or_insert(policy);
        }
    }
    if !forgeable.is_empty() {
        let settings: Vec<String> = forgeable.into_iter().collect();
        found.push(Finding::new(
            "MT030",
            table.object(),
            format!("its policies read {}, which any SQL can set", settings.join(", ")),
            mend.clone(),
        ));
    }
    if let Some(policy) = per_row {
        found.push(Finding::new(
            "MT027",
            table.object(),
            format!("the policy {} evaluates its context for each row", policy.name),
            mend.clone(),
        ));
    }
    if let Some(policy) = by_role {
        let finding = Finding::new(
            "MT032",
            table.object(),
            format!("the policy {} decides by the database's role", policy.name),
            mend.clone(),
        );
        found.push(if subject.app_roles.len() > 1 {
            finding.at(Severity::Info)
        } else {
            finding
        });
    }
    if let Some(policy) = cast {
        found.push(Finding::new(
            "MT033",
            table.object(),
            format!("the policy {} casts a setting that may be ''", policy.name),
            mend,
        ));
    }
    if let Some(policy) = to_public {
        let app = super::roles(subject);
        found.push(Finding::new(
            "MT020",
            table.object(),
            format!("the policy {} is for every role", policy.name),
            format!("alter policy {} on {} to {app}", name(&policy.name), quoted(table)),
        ));
    }
}

fn casts_setting(source: &str) -> bool {
    let casts = [
        "::uuid",
        "::int",
        "::bigint",
        "as uuid)",
        "as int)",
        "as integer)",
        "as bigint)",
    ];
    source.contains("current_setting(")
        && casts.iter().any(|cast| source.contains(cast))
        && !["nullif", "case ", "coalesce"]
            .iter()
            .any(|guard| source.contains(guard))
}

fn asked_tables(catalog: &Catalog, table: &Relation, policy: &Policy, found: &mut Vec<Finding>) {
    for asked in policy.relations.iter().filter_map(|oid| catalog.relations.get(oid)) {
        if asked.is_table() && !asked.row_security && asked.is_writable() {
            found.push(Finding::new(
                "MT034",
                object(table, policy),
                format!("it asks {}, which the application role can write", asked.object()),
                format!("revoke insert, update, delete on {} from public", quoted(asked)),
            ));
        }
    }
}

/// What is wrong with the functions that policies call, once a function.
fn functions(catalog: &Catalog, found: &mut Vec<Finding>) {
    let called: BTreeSet<i64> = catalog
        .policies
        .values()
        .flatten()
        .flat_map(|policy| policy.functions.clone())
        .collect();
    for function in called.iter().filter_map(|oid| catalog.functions.get(oid)) {
        if function.schema == "tenantry" || function.of_extension {
            continue;
        }
        let signature = &function.signature;
        // A floor that does without the function holds what it gets wrong.
        let tables: Vec<i64> = catalog
            .policies
            .iter()
            .filter(|(_, policies)| policies.iter().any(|policy| policy.functions.contains(&function.oid)))
            .filter(|(_, policies)| {
                policies
                    .iter()
                    .filter(|policy| !policy.permissive && policy.applies)
                    .all(|policy| policy.functions.contains(&function.oid))
            })
            .map(|(relation, _)| *relation)
            .collect();
        if function.volatility == 'v' {
            found.push(Finding::new(
                "MT028",
                signature.as_str(),
                "it is volatile, and a policy calls it",
                format!("alter function {signature} stable"),
            ));
        }
        let settings = settings_read(&function.source);
        if function.volatility == 'i' && !settings.is_empty() {
            let finding = Finding::new(
                "MT029",
                signature.as_str(),
                format!("it says immutable and reads {}", settings.join(", ")),
                format!("alter function {signature} stable"),
            );
            found.push(if tables.is_empty() {
                finding.at(Severity::Error)
            } else {
                finding.usable_by(Weakness::Folded {
                    relations: tables.clone(),
                })
            });
        }
        if !function.is_bound() {
            let finding = Finding::new(
                "MT031",
                signature.as_str(),
                "its body is a string and it has no search path of its own",
                format!("alter function {signature} set search_path = pg_catalog, pg_temp"),
            );
            found.push(if catalog.facts.creates_functions() && !tables.is_empty() {
                finding.usable_by(Weakness::Hijacked {
                    relations: tables,
                    function: function.oid,
                })
            } else {
                finding.at(Severity::Warn)
            });
        }
    }
}
