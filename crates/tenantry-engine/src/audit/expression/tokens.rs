//! An expression's text, as PostgreSQL writes it, as words and symbols, and how to find one's way among them.

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    /// A bare word, in lower case, or a quoted name as it is.
    Word(String),
    Text(String),
    Symbol(String),
}

impl Token {
    pub(super) fn is(&self, word: &str) -> bool {
        match self {
            Self::Word(text) => text == word,
            Self::Symbol(text) => text == word,
            Self::Text(_) => false,
        }
    }
}

pub(super) fn ends_with(tokens: &[Token], end: &[&str]) -> bool {
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

pub(super) fn contains(tokens: &[Token], words: &[&str]) -> bool {
    tokens
        .windows(words.len())
        .any(|window| window.iter().zip(words).all(|(token, word)| token.is(word)))
}

/// The position of the parenthesis that closes the one at `open`.
pub(super) fn closing(tokens: &[Token], open: usize) -> usize {
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

pub(super) fn is_wrapped(tokens: &[Token]) -> bool {
    tokens.first().is_some_and(|token| token.is("(")) && closing(tokens, 0) + 1 == tokens.len()
}

pub(super) fn stripped(mut tokens: &[Token]) -> &[Token] {
    while is_wrapped(tokens) && !tokens.get(1).is_some_and(|next| next.is("select")) {
        tokens = &tokens[1..tokens.len() - 1];
    }
    tokens
}

/// The parts between a word that stands in no parentheses and no CASE.
pub(super) fn split<'t>(tokens: &'t [Token], word: &str) -> Vec<&'t [Token]> {
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

pub(super) fn sides<'t>(tokens: &'t [Token], operator: &str) -> Option<(&'t [Token], &'t [Token])> {
    match split(tokens, operator).as_slice() {
        [left, right] => Some((left, right)),
        _ => None,
    }
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
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

pub(super) fn names(tokens: &[Token], column: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        matches!(token, Token::Word(word) if word == column)
            // a function of that name is none, nor is an output column
            && !tokens.get(at + 1).is_some_and(|next| next.is("("))
            && !(at > 0 && tokens[at - 1].is("as"))
    })
}

pub(super) fn wraps_tenant(tokens: &[Token], function: &str, tenant: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        token.is(function)
            && tokens.get(at + 1).is_some_and(|next| next.is("("))
            && names(&tokens[at + 1..=closing(tokens, at + 1)], tenant)
    })
}
