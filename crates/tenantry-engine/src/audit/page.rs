//! The pages of `docs/audit/`, from the registry.

use std::fmt::Write as _;

use super::{check::Check, registry};

/// The page of a check.
pub fn page(check: &Check) -> String {
    let Check {
        id,
        name,
        severity,
        title,
        why,
        mend,
        notes,
    } = check;
    let mut text = format!(
        "# {id} {name}\n\n{title}.\n\n| | |\n|---|---|\n| Severity | {severity}, or less where the finding says so |\n\n\
         ## Why it matters\n\n{why}\n\n## Mend\n\n```text\n{mend}\n```\n"
    );
    if !notes.is_empty() {
        write!(text, "\n## When it fires\n\n{notes}\n").expect("a string takes all");
    }
    text
}

/// The list of all checks.
pub fn index_page() -> String {
    let mut text = String::from(
        "# The audit's checks\n\n`tenantry audit` looks for these in databases of ours and in any PostgreSQL from 15 on; \
         [how to use it](../audit.md). *Critical* is kept for what lets the application role read or change a row of another \
         tenant; with `--prove` it stays critical only where an exploit, rolled back afterwards, showed it.\n\n\
         | Check | Name | At most | What is wrong |\n|---|---|---|---|\n",
    );
    for Check {
        id,
        name,
        severity,
        title,
        ..
    } in registry::checks()
    {
        writeln!(text, "| [{id}]({id}.md) | {name} | {severity} | {title} |").expect("a string takes all");
    }
    text
}
