//! Bodies of functions and `do` blocks, which the parser sees as text: what in them could not be right anywhere.

use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::{
    header::{Header, Mode},
    refuse::{Finding, unquoted},
};

/// Findings in the bodies of a statement, at the body's place.
pub(super) fn examine(statement: &SyntaxNode, header: &Header) -> Vec<Finding> {
    let is_block = statement.kind() == SyntaxKind::DO;
    statement
        .descendants_with_tokens()
        .filter_map(|element| element.into_token())
        .filter(|token| is_body(token.kind()) && (is_block || is_in_definition(token.parent())))
        .flat_map(|token| {
            let at = usize::from(token.text_range().start());
            let (inner, skipped) = inner(token.text());
            let words = words(&inner);
            findings(&words, is_block && header.mode == Mode::Schema)
                .into_iter()
                .map(move |(offset, reason, mend)| (at + skipped + offset, reason, mend))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_body(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        SyntaxKind::DOLLAR_QUOTED_STRING | SyntaxKind::STRING | SyntaxKind::ESC_STRING
    )
}

fn is_in_definition(parent: Option<SyntaxNode>) -> bool {
    parent
        .and_then(|literal| literal.parent())
        .is_some_and(|node| node.kind() == SyntaxKind::AS_DEFINITION)
}

/// A body without its quotes, and how many bytes those took.
fn inner(text: &str) -> (String, usize) {
    if let Some(rest) = text.strip_prefix('$')
        && let Some(end) = rest.find('$')
    {
        let tag = end + 2;
        let body = text.get(tag..text.len().saturating_sub(tag)).unwrap_or_default();
        return (body.to_owned(), tag);
    }
    let quote = text.find('\'').map_or(0, |at| at + 1);
    let body = text.get(quote..text.len().saturating_sub(1)).unwrap_or_default();
    (body.replace("''", "'"), quote)
}

/// Offset and lower-case text of each word and sign outside strings and comments.
fn words(body: &str) -> Vec<(usize, String)> {
    SourceFile::parse(body)
        .syntax_node()
        .descendants_with_tokens()
        .filter_map(|element| element.into_token())
        .filter(|token| !token.kind().is_trivia() && !is_body(token.kind()))
        .map(|token| (usize::from(token.text_range().start()), unquoted(token.text())))
        .collect()
}

fn findings(words: &[(usize, String)], data_is_refused: bool) -> Vec<Finding> {
    let word = |at: usize| words.get(at).map_or("", |(_, word)| word.as_str());
    let mut findings = Vec::new();
    for (at, (offset, this)) in words.iter().enumerate() {
        let before = at.checked_sub(1).map_or(";", word);
        if matches!(this.as_str(), "public" | "app") && word(at + 1) == "." && before != "." {
            findings.push((
                *offset,
                format!(
                    "`{this}.{}` names a schema, and the schema is chosen by the placement",
                    word(at + 2)
                ),
                format!("write `{}`", word(at + 2)),
            ));
        }
        let switches = matches!(this.as_str(), "set" | "reset") && matches!(word(at + 1), "role" | "session")
            || this == "set_config" && word(at + 1) == "(";
        if switches {
            findings.push((
                *offset,
                format!("`{this} {}` changes the session", word(at + 1)),
                "remove it: the context and the role are Tenantry's".into(),
            ));
        }
        let begins = matches!(before, ";" | "begin" | "then" | "else" | "loop");
        let writes = matches!(this.as_str(), "insert" | "update" | "delete" | "merge" | "truncate");
        if data_is_refused && begins && writes {
            findings.push((
                *offset,
                format!("`{this}` works on tenants' rows, and this file does not say of which tenants"),
                "move it to a file of its own that declares `-- tenantry: each tenant` or `-- tenantry: all tenants`"
                    .into(),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(body: &str) -> Vec<String> {
        let found = findings(&words(body), true);
        found.into_iter().map(|(_, reason, _)| reason).collect()
    }

    #[test]
    fn triggers_events_and_locks_are_no_writes() {
        assert!(
            reasons("begin perform 1 from t for update; if tg_op = 'UPDATE' then return new; end if; end").is_empty()
        );
        assert!(reasons("begin execute 'create table x on update cascade'; -- update t\n end").is_empty());
    }

    #[test]
    fn writes_switches_and_schemas_are_found() {
        assert_eq!(reasons("begin update t set a = 1; end").len(), 1);
        assert_eq!(reasons("begin if true then delete from t; end if; end").len(), 1);
        assert_eq!(reasons("begin set role x; end").len(), 1);
        assert_eq!(reasons("begin perform set_config('a', 'b', true); end").len(), 1);
        assert_eq!(reasons("select * from public.t").len(), 1);
    }
}
