//! What a policy's expression lets through.
//!
//! PostgreSQL gives the expression back in a regular form, which is read here as far as AND, OR, NOT and comparisons go.
//! An expression *binds* a row to the tenant where it can only be true for rows whose tenant column equals something that
//! is no other column of the row: one branch of an AND is enough, every branch of an OR is needed.

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

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    /// A bare word, in lower case, or a quoted name as it is.
    Word(String),
    Text(String),
    Symbol(String),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        match self {
            Self::Word(text) => text == word,
            Self::Symbol(text) => text == word,
            Self::Text(_) => false,
        }
    }
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

    fn bind_of(&self, tokens: &[Token]) -> Bind {
        let tokens = stripped(tokens);
        let alternatives = split(tokens, "or");
        if alternatives.len() > 1 {
            let loose = |bind: &Bind| *bind != Bind::Bound;
            let binds: Vec<Bind> = alternatives.iter().map(|part| self.bind_of(part)).collect();
            let some_bound = binds.contains(&Bind::Bound) || binds.iter().any(|bind| *bind != Bind::Ignores);
            return match binds.into_iter().find(loose) {
                None => Bind::Bound,
                // Beside a branch that names the tenant, one that does not is a way past it.
                Some(Bind::Ignores) if some_bound => Bind::Loose,
                Some(bind) => bind,
            };
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
            _ => self.leaf(tokens),
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

fn names(tokens: &[Token], column: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        matches!(token, Token::Word(word) if word == column)
            // a function of that name is none, nor is an output column
            && !tokens.get(at + 1).is_some_and(|next| next.is("("))
            && !(at > 0 && tokens[at - 1].is("as"))
    })
}

fn wraps_tenant(tokens: &[Token], function: &str, tenant: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        token.is(function)
            && tokens.get(at + 1).is_some_and(|next| next.is("("))
            && names(&tokens[at + 1..=closing(tokens, at + 1)], tenant)
    })
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

fn ends_with(tokens: &[Token], end: &[&str]) -> bool {
    let is = |token: &Token, word: &str| match token {
        Token::Text(text) => word == "''" && text.is_empty(),
        token => token.is(word),
    };
    // PostgreSQL casts the constant: `= ''::text`
    let tokens = match tokens {
        [rest @ .., Token::Symbol(dots), Token::Word(_)] if dots == "::" => rest,
        tokens => tokens,
    };
    tokens.len() > end.len()
        && tokens[tokens.len() - end.len()..]
            .iter()
            .zip(end)
            .all(|(token, word)| is(token, word))
}

fn contains(tokens: &[Token], words: &[&str]) -> bool {
    tokens
        .windows(words.len())
        .any(|window| window.iter().zip(words).all(|(token, word)| token.is(word)))
}

/// The position of the parenthesis that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    tokens.len().saturating_sub(1)
}

fn is_wrapped(tokens: &[Token]) -> bool {
    tokens.first().is_some_and(|token| token.is("(")) && closing(tokens, 0) + 1 == tokens.len()
}

fn stripped(mut tokens: &[Token]) -> &[Token] {
    while is_wrapped(tokens) && !tokens.get(1).is_some_and(|next| next.is("select")) {
        tokens = &tokens[1..tokens.len() - 1];
    }
    tokens
}

/// The parts between a word that stands in no parentheses and no CASE.
fn split<'t>(tokens: &'t [Token], word: &str) -> Vec<&'t [Token]> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        if token.is("(") || token.is("case") || token.is("[") {
            depth += 1;
        } else if token.is(")") || token.is("end") || token.is("]") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && token.is(word) {
            parts.push(&tokens[begin..at]);
            begin = at + 1;
        }
    }
    parts.push(&tokens[begin..]);
    parts
}

fn sides<'t>(tokens: &'t [Token], operator: &str) -> Option<(&'t [Token], &'t [Token])> {
    match split(tokens, operator).as_slice() {
        [left, right] => Some((left, right)),
        _ => None,
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < characters.len() {
        let character = characters[at];
        let begin = at;
        at += 1;
        if character.is_whitespace() {
            continue;
        }
        if character == '\'' || character == '"' {
            let mut inner = String::new();
            while at < characters.len() {
                if characters[at] == character {
                    if characters.get(at + 1) != Some(&character) {
                        break;
                    }
                    at += 1;
                }
                inner.push(characters[at]);
                at += 1;
            }
            at += 1;
            tokens.push(if character == '\'' {
                Token::Text(inner)
            } else {
                Token::Word(inner)
            });
        } else if character.is_alphanumeric() || character == '_' {
            while at < characters.len() && (characters[at].is_alphanumeric() || "_$".contains(characters[at])) {
                at += 1;
            }
            let word: String = characters[begin..at].iter().collect();
            tokens.push(Token::Word(word.to_lowercase()));
        } else if "()[],.;".contains(character) {
            tokens.push(Token::Symbol(character.to_string()));
        } else {
            while at < characters.len() && "+-*/<>=~!@#%^&|`?:".contains(characters[at]) {
                at += 1;
            }
            tokens.push(Token::Symbol(characters[begin..at].iter().collect()));
        }
    }
    tokens
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
