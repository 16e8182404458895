//! What a maintained linter says of a migration: DDL that stops an application that runs, or that old code can't live with.

use squawk_linter::{Linter, Rule};
use squawk_syntax::SourceFile;

use super::File;

/// What the linter says of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintFinding {
    /// The file's name.
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// The linter's name of the rule; `-- squawk-ignore <rule>` above the statement accepts it.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub help: Option<String>,
}

/// What does not apply: Tenantry sets time-outs and transactions itself and chooses the schema, and taste is no danger.
const EXCLUDED: [Rule; 13] = [
    Rule::RequireTimeoutSettings,
    Rule::RequireLockTimeout,
    Rule::RequireStatementTimeout,
    Rule::BanUncommittedTransaction,
    Rule::RequireTableSchema,
    Rule::PreferRobustStmts,
    Rule::PreferBigintOverInt,
    Rule::PreferBigintOverSmallint,
    Rule::PreferIdentity,
    Rule::PreferTextField,
    Rule::PreferTimestampTz,
    Rule::BanCharField,
    Rule::PreferRepack,
];

/// Findings in one file, in its order.
#[must_use]
pub fn lint(file: &File) -> Vec<LintFinding> {
    let mut linter = Linter::with_rules(&[], &EXCLUDED);
    linter.settings.assume_in_transaction = file.header.transaction;
    let parsed = SourceFile::parse(&file.text);
    let mut violations = linter.lint(&parsed, &file.text);
    violations.sort_by_key(|violation| violation.text_range.start());
    let findings = violations.into_iter().map(|violation| LintFinding {
        file: file.name.clone(),
        line: line_of(&file.text, usize::from(violation.text_range.start())),
        rule: violation.code.to_string(),
        message: violation.message,
        help: violation.help,
    });
    findings.collect()
}

fn line_of(text: &str, offset: usize) -> u32 {
    let before = text.get(..offset).unwrap_or_default();
    u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::Files;

    fn rules(sql: &str) -> Vec<(u32, String)> {
        let files = Files::from_embedded([("0001_a.sql", sql)]).unwrap();
        let findings = lint(&files.as_slice()[0]);
        findings.into_iter().map(|found| (found.line, found.rule)).collect()
    }

    #[test]
    fn what_stops_an_application_that_runs_is_found_on_its_line() {
        let found = rules(
            "create table a (id int primary key);\n\nalter table old\n  add constraint c check (x > 0);\nalter table old drop column y;",
        );
        assert!(
            found.contains(&(4, "constraint-missing-not-valid".to_owned())),
            "{found:?}"
        );
        assert!(
            found.iter().any(|(line, rule)| *line == 5 && rule == "ban-drop-column"),
            "{found:?}"
        );
    }

    #[test]
    fn taste_and_what_tenantry_does_itself_are_not_told() {
        assert_eq!(rules("create table a (id int primary key, name varchar(10));"), []);
    }

    #[test]
    fn a_finding_can_be_accepted() {
        assert_eq!(
            rules("-- squawk-ignore ban-drop-column\nalter table old drop column y;"),
            []
        );
    }
}
