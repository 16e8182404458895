//! A file's statements as `squawk-syntax` sees them: bounds, lines, kinds, and the few texts that a difference between catalogs can't carry.

use squawk_syntax::{
    SourceFile, SyntaxKind, SyntaxNode,
    ast::{self, AstNode},
};

use super::{files::File, refusal::Refusal, refuse};

/// One statement of a file, free of the syntax tree.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// Kind of the tree's node.
    pub(crate) kind: SyntaxKind,
    /// Line of its first token.
    pub(crate) line: u32,
    /// Its text, without comments around it and without the semicolon.
    pub(crate) text: String,
    /// `using` of the type changes in it: column and expression.
    pub(crate) using: Vec<(String, String)>,
    /// Actions of an `alter table` that leave no trace in the snapshot (storage, statistics, options, triggers).
    pub(crate) untraced: Vec<String>,
    /// The table of an `alter table`, as written, with `only`.
    pub(crate) altered: Option<String>,
    /// Whether it says `concurrently`.
    pub(crate) concurrently: bool,
    /// The extension of a `create extension`.
    pub(crate) extension: Option<String>,
    /// The tables that it inserts into, updates, deletes from or truncates.
    pub(crate) written: Vec<String>,
    /// Tables that it inserts into without naming `tenant_id`.
    pub(crate) inserts_without_tenant: Vec<String>,
}

impl Statement {
    /// Line of a place in the statement's text, as PostgreSQL reports it: characters, from 1.
    pub(crate) fn line_at(&self, position: u32) -> u32 {
        let before = self.text.chars().take(position.saturating_sub(1) as usize);
        let newlines = before.filter(|character| *character == '\n').count();
        self.line.saturating_add(u32::try_from(newlines).unwrap_or(0))
    }
}

/// Reads a file's statements.
///
/// # Errors
///
/// Everything in the file that is refused for what its text says.
pub(crate) fn read(file: &File) -> Result<Vec<Statement>, Vec<Refusal>> {
    let parse = SourceFile::parse(&file.text);
    let lines = Lines::new(&file.text);
    let refusal = |offset: usize, reason: String, mend: &str| Refusal {
        file: file.name.clone(),
        line: lines.at(offset),
        reason,
        mend: mend.to_owned(),
    };
    if let Some(error) = parse.errors().first() {
        let offset = usize::from(error.range().start());
        // The rows of a dump's `copy … from stdin` are what can't be read; the statement above them is what to mend.
        let copy = parse
            .tree()
            .stmts()
            .map(|stmt| stmt.syntax().clone())
            .find(|stmt| stmt.kind() == SyntaxKind::COPY && usize::from(stmt.text_range().start()) < offset);
        if let Some(copy) = copy {
            let findings = refuse::by_text(&copy, &file.header).into_iter();
            return Err(findings
                .map(|(offset, reason, mend)| refusal(offset, reason, &mend))
                .collect());
        }
        return Err(vec![unreadable(file, &lines, offset, error.message())]);
    }
    let mut refusals = Vec::new();
    let mut statements = Vec::new();
    for node in parse.tree().stmts().map(|stmt| stmt.syntax().clone()) {
        if node.kind() == SyntaxKind::EMPTY_STMT {
            continue;
        }
        for (offset, reason, mend) in refuse::by_text(&node, &file.header) {
            refusals.push(refusal(offset, reason, &mend));
        }
        statements.push(statement(&node, &lines));
    }
    if refusals.is_empty() {
        Ok(statements)
    } else {
        Err(refusals)
    }
}

fn unreadable(file: &File, lines: &Lines, offset: usize, message: &str) -> Refusal {
    let line = lines.at(offset);
    let text = file.text.lines().nth(line as usize - 1).unwrap_or("");
    let (reason, mend) = if text.trim_start().starts_with('\\') {
        (
            format!("`{}` is a command of psql, not SQL", text.trim()),
            "remove it; load data with `tenantry adopt` or in a file declared `-- tenantry: seed`",
        )
    } else {
        (
            format!("cannot read the statement: {message}"),
            "mend the syntax; one statement ends with one semicolon",
        )
    };
    Refusal {
        file: file.name.clone(),
        line,
        reason,
        mend: mend.to_owned(),
    }
}

fn statement(node: &SyntaxNode, lines: &Lines) -> Statement {
    let start = usize::from(node.text_range().start());
    let text = node.text().to_string();
    let alter = ast::AlterTable::cast(node.clone());
    let actions: Vec<_> = alter
        .iter()
        .flat_map(ast::AlterTable::actions)
        .map(|action| action.syntax().clone())
        .collect();
    let writes = refuse::writes(node);
    Statement {
        kind: node.kind(),
        line: lines.at(start),
        text: text.trim_end().trim_end_matches(';').trim_end().to_owned(),
        using: actions.iter().filter_map(using).collect(),
        untraced: actions
            .iter()
            .filter(|action| is_untraced(action))
            .map(|action| action.text().to_string())
            .collect(),
        altered: alter
            .and_then(|alter| alter.table_relation_name())
            .map(|table| table.syntax().text().to_string()),
        concurrently: node
            .descendants_with_tokens()
            .any(|element| element.kind() == SyntaxKind::CONCURRENTLY_KW),
        extension: ast::CreateExtension::cast(node.clone())
            .and_then(|create| create.extension())
            .map(|extension| refuse::unquoted(&extension.syntax().text().to_string())),
        inserts_without_tenant: writes
            .iter()
            .filter(|write| write.inserts && !write.names_tenant)
            .map(|write| write.table.clone())
            .collect(),
        written: writes.into_iter().map(|write| write.table).collect(),
    }
}

fn using(action: &SyntaxNode) -> Option<(String, String)> {
    let alter = ast::AlterColumn::cast(action.clone())?;
    let ast::AlterColumnOption::SetType(set_type) = alter.option()? else {
        return None;
    };
    let column = alter.column_name_ref()?.syntax().text().to_string();
    let text = set_type.using_expr()?.syntax().text().to_string();
    let expression = text.get("using".len()..)?.trim().to_owned();
    Some((refuse::unquoted(&column), expression))
}

/// Whether an action changes nothing that the snapshot holds and nothing that isolation depends on.
fn is_untraced(action: &SyntaxNode) -> bool {
    let kind = match ast::AlterColumn::cast(action.clone()).and_then(|alter| alter.option()) {
        Some(option) => option.syntax().kind(),
        None => action.kind(),
    };
    matches!(
        kind,
        SyntaxKind::CLUSTER_ON
            | SyntaxKind::SET_WITHOUT_CLUSTER
            | SyntaxKind::ENABLE_TRIGGER
            | SyntaxKind::DISABLE_TRIGGER
            | SyntaxKind::ENABLE_ALWAYS_TRIGGER
            | SyntaxKind::ENABLE_REPLICA_TRIGGER
            | SyntaxKind::REPLICA_IDENTITY
            | SyntaxKind::SET_OPTIONS
            | SyntaxKind::SET_OPTIONS_LIST
            | SyntaxKind::RESET_OPTIONS
            | SyntaxKind::SET_LOGGED
            | SyntaxKind::SET_UNLOGGED
            | SyntaxKind::SET_STATISTICS
            | SyntaxKind::SET_STORAGE
            | SyntaxKind::SET_COMPRESSION
            | SyntaxKind::RESTART
            | SyntaxKind::SET_SEQUENCE_OPTION
            | SyntaxKind::SET_GENERATED_OPTIONS
    )
}

/// Turns byte offsets into line numbers.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            starts: std::iter::once(0).chain(newlines).collect(),
        }
    }

    fn at(&self, offset: usize) -> u32 {
        let line = self.starts.partition_point(|start| *start <= offset);
        u32::try_from(line).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::Files;

    fn read_text(text: &str) -> Result<Vec<Statement>, Vec<Refusal>> {
        let files = Files::from_embedded([("0001_a.sql", text)]).expect("loads");
        read(&files.as_slice()[0])
    }

    #[test]
    fn what_applications_write_is_read() {
        let text = format!("-- tenantry: no transaction\n{}", include_str!("statement_corpus.sql"));
        let statements = read_text(&text).unwrap_or_else(|refusals| panic!("{refusals:#?}"));
        assert_eq!(statements.len(), text.matches("-- next").count());
    }

    #[test]
    fn statements_keep_their_lines_and_lose_their_comments() {
        let statements =
            read_text("-- one\n/* two */ create table a (\n  id int -- x\n);\n\ncreate table b ();").expect("reads");
        assert_eq!(statements[0].line, 2);
        assert!(statements[0].text.starts_with("create table a"));
        assert!(statements[0].text.ends_with(')'));
        assert_eq!(statements[1].line, 6);
        assert_eq!(statements[0].line_at(18), 3, "the second line of the statement");
    }

    #[test]
    fn using_expressions_are_found_by_column() {
        let text = "alter table a alter \"B c\" type int using (\"B c\"::int), alter column d set data type text;";
        let statements = read_text(text).expect("reads");
        assert_eq!(statements[0].using, [("B c".to_owned(), "(\"B c\"::int)".to_owned())]);
    }

    #[test]
    fn rows_of_a_dump_are_refused_at_their_copy() {
        let refusals = read_text("create table a (id int);\nCOPY a (id) FROM stdin;\n1\tit's\n\\.\n").unwrap_err();
        assert_eq!(refusals[0].line, 2);
        assert!(refusals[0].mend.contains("tenantry adopt"), "{refusals:?}");
    }

    #[test]
    fn a_parse_error_names_its_line() {
        let refusals = read_text("create table a (id int);\ncreate tabel b ();").unwrap_err();
        assert_eq!(refusals[0].line, 2);
    }
}
