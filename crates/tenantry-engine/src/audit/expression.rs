//! What a policy's expression lets through.
//!
//! PostgreSQL gives the expression back in a regular form, which is read here as far as AND, OR, NOT and comparisons go.
//! An expression *binds* a row to the tenant where it can only be true for rows whose tenant column equals something that
//! is no other column of the row: one branch of an AND is enough, every branch of an OR is needed.

mod tokens;

use self::tokens::{
    Token, closing, contains, ends_with, is_wrapped, names, sides, split, stripped, tokens, wraps_tenant,
};

/// What an expression does with rows of other tenants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bind {
    /// It can only be true for the tenant's rows, or never.
    Bound,
    /// It is always true.
    AlwaysTrue,
    /// It does not look at the tenant column.
    Ignores,
    /// It is true where the tenant column is null.
    NullTenant,
    /// It is true where the context is not set.
    NoContext,
    /// It matches the tenant by a pattern.
    Pattern,
    /// It names the tenant column and does not hold it to one value.
    Loose,
}

/// A policy's expression with the columns of its table.
pub(super) struct Expression<'a> {
    tokens: Vec<Token>,
    table: &'a str,
    tenant: &'a str,
    columns: &'a [String],
}

impl<'a> Expression<'a> {
    pub(super) fn new(text: &str, table: &'a str, tenant: &'a str, columns: &'a [String]) -> Self {
        Self {
            tokens: tokens(text),
            table,
            tenant,
            columns,
        }
    }

    pub(super) fn bind(&self) -> Bind {
        self.bind_of(&self.tokens)
    }

    /// Whether a function is called outside of a subselect, hence for each row.
    pub(super) fn calls_per_row(&self, is_context: impl Fn(&str) -> bool) -> bool {
        let (mut depth, mut selects) = (0_usize, Vec::new());
        for (at, token) in self.tokens.iter().enumerate() {
            if token.is("(") {
                depth += 1;
                if self.tokens.get(at + 1).is_some_and(|next| next.is("select")) {
                    selects.push(depth);
                }
            } else if token.is(")") {
                if selects.last() == Some(&depth) {
                    selects.pop();
                }
                depth = depth.saturating_sub(1);
            } else if let Token::Word(word) = token
                && selects.is_empty()
                && self.tokens.get(at + 1).is_some_and(|next| next.is("("))
                && is_context(word)
            {
                return true;
            }
        }
        false
    }

    /// Whether it holds a subselect.
    pub(super) fn asks_tables(&self) -> bool {
        self.tokens.iter().any(|token| token.is("select"))
    }

    /// Whether a part of it that is no function of the application's is another in another session.
    pub(super) fn looks_at_session(&self) -> bool {
        self.tokens
            .iter()
            .any(|token| SESSION.iter().any(|word| token.is(word)))
    }

    fn bind_of(&self, tokens: &[Token]) -> Bind {
        let tokens = stripped(tokens);
        let alternatives = split(tokens, "or");
        if alternatives.len() > 1 {
            return any_of(alternatives.iter().map(|part| self.bind_of(part)).collect());
        }
        let parts = split(tokens, "and");
        if parts.len() > 1 {
            let binds: Vec<Bind> = parts.iter().map(|part| self.bind_of(part)).collect();
            if binds.contains(&Bind::Bound) {
                return Bind::Bound;
            }
            let telling = |bind: &&Bind| !matches!(bind, Bind::AlwaysTrue | Bind::Ignores);
            return match binds.iter().find(telling) {
                Some(bind) => *bind,
                None if binds.contains(&Bind::Ignores) => Bind::Ignores,
                None => Bind::AlwaysTrue,
            };
        }
        match tokens {
            [Token::Word(word)] if word == "true" => Bind::AlwaysTrue,
            [Token::Word(word)] if word == "false" || word == "null" => Bind::Bound,
            [Token::Word(not), rest @ ..] if not == "not" => match self.bind_of(rest) {
                Bind::Ignores => Bind::Ignores,
                Bind::AlwaysTrue => Bind::Bound,
                // how PostgreSQL writes `is not distinct from`
                _ if contains(rest, &["is", "distinct", "from"]) => Bind::NullTenant,
                _ => Bind::Loose,
            },
            [Token::Word(word), arguments @ ..] if word == "coalesce" && is_wrapped(arguments) => {
                self.coalesce(&arguments[1..arguments.len() - 1])
            }
            [Token::Word(case), branches @ .., Token::Word(end)]
                if case == "case" && end == "end" && branches.first().is_some_and(|first| first.is("when")) =>
            {
                self.branches(&branches[1..])
            }
            _ => self.leaf(tokens),
        }
    }

    /// `coalesce(…)` of conditions: each may be the one that decides, and a comparison is null where there is no context.
    fn coalesce(&self, arguments: &[Token]) -> Bind {
        match any_of(split(arguments, ",").iter().map(|part| self.bind_of(part)).collect()) {
            Bind::AlwaysTrue => Bind::NoContext,
            bind => bind,
        }
    }

    /// The branches of a CASE with conditions: what one gives counts where its condition holds; without ELSE it is null.
    fn branches(&self, tokens: &[Token]) -> Bind {
        let mut otherwise = split(tokens, "else").into_iter();
        let whens = otherwise.next().unwrap_or_default();
        let mut binds = Vec::new();
        for when in split(whens, "when") {
            let [condition, result] = split(when, "then")[..] else {
                return Bind::Loose;
            };
            match (self.bind_of(condition), self.bind_of(result)) {
                (Bind::Bound, _) | (_, Bind::Bound) => binds.push(Bind::Bound),
                _ => return Bind::Loose,
            }
        }
        binds.extend(otherwise.map(|result| self.bind_of(result)));
        match any_of(binds) {
            Bind::Bound => Bind::Bound,
            _ => Bind::Loose,
        }
    }

    fn leaf(&self, tokens: &[Token]) -> Bind {
        if let Some(inner) = tokens
            .strip_prefix(&[Token::Word("exists".to_owned())])
            .filter(|rest| is_wrapped(rest))
        {
            // A subselect that does not look at this row's tenant says the same of every row.
            return if self.is_correlated(inner) {
                Bind::Bound
            } else {
                Bind::Ignores
            };
        }
        if let Some(constant) = constant_comparison(tokens) {
            return if constant { Bind::AlwaysTrue } else { Bind::Bound };
        }
        if !self.names_tenant(tokens) {
            let asks_for_null = ends_with(tokens, &["is", "null"]) || ends_with(tokens, &["=", "''"]);
            let asks_context = self.columns.iter().all(|column| !names(tokens, column));
            return if asks_for_null && asks_context {
                Bind::NoContext
            } else {
                Bind::Ignores
            };
        }
        if ends_with(tokens, &["is", "null"]) {
            return Bind::NullTenant;
        }
        if tokens.first().is_some_and(|token| token.is("coalesce")) || wraps_tenant(tokens, "coalesce", self.tenant) {
            return Bind::NullTenant;
        }
        if tokens
            .iter()
            .any(|token| ["~~", "~~*", "~", "~*", "^@"].iter().any(|pattern| token.is(pattern)))
        {
            return Bind::Pattern;
        }
        if tokens.first().is_some_and(|token| token.is("case")) {
            return Bind::Loose;
        }
        if let Some((left, right)) = sides(tokens, "=") {
            let (left, right) = (stripped(left), stripped(right));
            for (side, other) in [(left, right), (right, left)] {
                if self.is_tenant(side) && !self.reads_row(other) {
                    return Bind::Bound;
                }
            }
            return Bind::Loose;
        }
        // `tenant_id IN ( SELECT … )`
        if let Some((left, right)) = sides(tokens, "in")
            && self.is_tenant(stripped(left))
            && is_wrapped(right)
        {
            return Bind::Bound;
        }
        Bind::Loose
    }

    /// The tenant column itself, cast or not.
    fn is_tenant(&self, tokens: &[Token]) -> bool {
        let tokens = stripped(tokens);
        match tokens {
            [Token::Word(word)] => word == self.tenant,
            [.., Token::Symbol(dots), Token::Word(_)] if dots == "::" => self.is_tenant(&tokens[..tokens.len() - 2]),
            [.., Token::Symbol(dots), Token::Word(_), Token::Word(_)] if dots == "::" => {
                self.is_tenant(&tokens[..tokens.len() - 3])
            }
            _ => false,
        }
    }

    /// Whether it names the tenant column of the row from within a subselect, where PostgreSQL qualifies it.
    fn is_correlated(&self, tokens: &[Token]) -> bool {
        tokens
            .windows(3)
            .any(|window| window[0].is(self.table) && window[1].is(".") && window[2].is(self.tenant))
    }

    fn names_tenant(&self, tokens: &[Token]) -> bool {
        names(tokens, self.tenant)
    }

    /// Whether it reads a column of the row outside of a subselect's own tables.
    fn reads_row(&self, tokens: &[Token]) -> bool {
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at].is("(") && tokens.get(at + 1).is_some_and(|next| next.is("select")) {
                at = closing(tokens, at) + 1;
                continue;
            }
            if let Token::Word(word) = &tokens[at] {
                let called = tokens.get(at + 1).is_some_and(|next| next.is("(") || next.is("."));
                let qualified = at > 0 && (tokens[at - 1].is(".") || tokens[at - 1].is("::"));
                if !called && !qualified && self.columns.contains(word) {
                    return true;
                }
            }
            at += 1;
        }
        false
    }
}

/// What PostgreSQL says by itself about who asks.
const SESSION: &[&str] = &[
    "current_setting",
    "current_user",
    "session_user",
    "current_role",
    "system_user",
    "user",
    "current_database",
    "current_catalog",
    "current_schema",
    "current_schemas",
    "pg_backend_pid",
    "inet_client_addr",
    "pg_has_role",
];

/// What several conditions let through of which one is enough: the widest of them. One that is a dead end where the tenant
/// column can't be null comes last, or it would hide the others.
fn any_of(binds: Vec<Bind>) -> Bind {
    const WIDEST_FIRST: [Bind; 6] = [
        Bind::AlwaysTrue,
        Bind::NoContext,
        Bind::Loose,
        Bind::Pattern,
        Bind::Ignores,
        Bind::NullTenant,
    ];
    let beside_others = binds.iter().any(|bind| *bind != Bind::Ignores);
    match WIDEST_FIRST.into_iter().find(|bind| binds.contains(bind)) {
        None => Bind::Bound,
        // Beside a branch that names the tenant, one that does not is a way past it.
        Some(Bind::Ignores) if beside_others => Bind::Loose,
        Some(bind) => bind,
    }
}

/// `1 = 1` and the like.
fn constant_comparison(tokens: &[Token]) -> Option<bool> {
    let (left, right) = sides(tokens, "=")?;
    match (stripped(left), stripped(right)) {
        ([Token::Word(left)], [Token::Word(right)]) if left.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(left == right)
        }
        ([Token::Text(left), ..], [Token::Text(right), ..]) => Some(left == right),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Bind {
        let columns: Vec<String> = ["tenant_id", "id", "body", "owner_id", "is_public"]
            .map(str::to_owned)
            .into();
        Expression::new(text, "note", "tenant_id", &columns).bind()
    }

    #[test]
    fn what_holds_the_row_to_the_tenant_is_bound() {
        for text in [
            "(tenant_id = ( SELECT ctx.tenant_id() AS tenant_id))",
            "(( SELECT ctx.tenant_id() AS tenant_id) = tenant_id)",
            "((tenant_id = ( SELECT ctx.tenant_id() AS tenant_id)) AND (is_public OR (id > 3)))",
            "((is_public = true) AND (tenant_id = ctx.tenant_id()))",
            "((tenant_id)::text = current_setting('app.tenant'::text, true))",
            "(tenant_id IN ( SELECT m.tenant_id FROM app.member m WHERE (m.account = ctx.account_id())))",
            "(tenant_id = ANY (ctx.tenants()))",
            "(EXISTS ( SELECT 1 FROM app.member m WHERE (m.tenant_id = note.tenant_id)))",
            "((tenant_id IS NOT NULL) AND (tenant_id = ctx.tenant_id()))",
            "((tenant_id = ctx.a()) OR (tenant_id = ctx.b()))",
            "false",
            "(NOT true)",
            "COALESCE((tenant_id = ( SELECT ctx.tenant_id() AS tenant_id)), false)",
            "CASE WHEN (ctx.tenant_id() IS NULL) THEN false ELSE (tenant_id = ctx.tenant_id()) END",
            "CASE WHEN (tenant_id = ctx.tenant_id()) THEN is_public END",
            "CASE WHEN is_public THEN CASE WHEN (id > 3) THEN (tenant_id = ctx.tenant_id()) ELSE false END ELSE NULL END",
            "(tenant_id = (NULLIF(current_setting('app.t'::text, true), ''::text))::uuid)",
        ] {
            assert_eq!(bind(text), Bind::Bound, "{text}");
        }
    }

    #[test]
    fn what_does_not_is_told_apart() {
        for (text, expected) in [
            ("true", Bind::AlwaysTrue),
            ("(1 = 1)", Bind::AlwaysTrue),
            ("(true AND true)", Bind::AlwaysTrue),
            ("is_public", Bind::Ignores),
            ("(owner_id = ctx.account_id())", Bind::Ignores),
            ("(owner_id = ( SELECT ctx.tenant_id() AS tenant_id))", Bind::Ignores),
            ("((tenant_id = ctx.tenant_id()) OR is_public)", Bind::Loose),
            ("((tenant_id = ctx.tenant_id()) OR true)", Bind::AlwaysTrue),
            ("(tenant_id = owner_id)", Bind::Loose),
            ("(tenant_id <> ctx.tenant_id())", Bind::Loose),
            ("(tenant_id >= ctx.tenant_id())", Bind::Loose),
            ("(NOT (tenant_id = ctx.tenant_id()))", Bind::Loose),
            (
                "((tenant_id IS NULL) OR (tenant_id = ctx.tenant_id()))",
                Bind::NullTenant,
            ),
            ("(NOT (tenant_id IS DISTINCT FROM ctx.tenant_id()))", Bind::NullTenant),
            (
                "(EXISTS ( SELECT 1 FROM app.member m WHERE (m.tenant_id = ctx.tenant_id())))",
                Bind::Ignores,
            ),
            (
                "(COALESCE(tenant_id, ctx.tenant_id()) = ctx.tenant_id())",
                Bind::NullTenant,
            ),
            (
                "((ctx.tenant_id() IS NULL) OR (tenant_id = ctx.tenant_id()))",
                Bind::NoContext,
            ),
            (
                "((current_setting('app.t'::text, true) = ''::text) OR (tenant_id = ctx.tenant_id()))",
                Bind::NoContext,
            ),
            (
                "((tenant_id)::text ~~ (current_setting('app.t'::text) || '%'::text))",
                Bind::Pattern,
            ),
            // A branch for null rows, which may be a dead one, hides no other.
            (
                "((tenant_id IS NULL) OR (tenant_id = ctx.tenant_id()) OR (ctx.tenant_id() IS NULL))",
                Bind::NoContext,
            ),
            ("COALESCE((tenant_id = ctx.tenant_id()), true)", Bind::NoContext),
            ("COALESCE((tenant_id = ctx.tenant_id()), is_public)", Bind::Loose),
            (
                "CASE WHEN (ctx.tenant_id() IS NOT NULL) THEN (tenant_id = ctx.tenant_id()) ELSE true END",
                Bind::Loose,
            ),
            (
                "CASE is_public WHEN true THEN (tenant_id = ctx.tenant_id()) ELSE false END",
                Bind::Loose,
            ),
            (
                "CASE WHEN (tenant_id = ctx.tenant_id()) THEN true ELSE is_public END",
                Bind::Loose,
            ),
        ] {
            assert_eq!(bind(text), expected, "{text}");
        }
    }

    #[test]
    fn a_call_in_a_subselect_is_made_once() {
        let columns = ["tenant_id".to_owned()];
        let per_row =
            |text| Expression::new(text, "note", "tenant_id", &columns).calls_per_row(|name| name == "tenant_id");
        assert!(per_row("(tenant_id = ctx.tenant_id())"));
        assert!(!per_row("(tenant_id = ( SELECT ctx.tenant_id() AS tenant_id))"));
    }
}
