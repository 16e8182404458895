//! How a file that was edited after it had been applied differs from what was applied.

use similar::TextDiff;
use tenantry_catalog::{CatalogError, Db, app_text, placement::Site};
use tenantry_core::TenantDatabaseId;
use tenantry_engine::migrate::{self, File, Files};

use crate::Ops;

/// As many lines of a difference are shown.
const LINES_MAX: usize = 60;
/// And as many characters of each: a file of rows may have all of them in one line, and each schema keeps what it is told.
const LINE_CHARS_MAX: usize = 200;
/// So many lines around a change.
const AROUND: usize = 2;

impl Ops {
    /// Keeps the texts of the configured files, those of single tenants too, for whoever edits one.
    pub(crate) async fn keep_texts(&self, files: &Files) -> Result<(), CatalogError> {
        let own: Vec<Files> = files.overlay_slugs().filter_map(|slug| files.overlay(slug)).collect();
        let all = std::iter::once(files).chain(&own).flat_map(Files::as_slice);
        let texts: Vec<_> = all.map(|file| (&*file.checksum, &*file.text)).collect();
        let client = self.catalog().client().await?;
        app_text::keep(&client, &texts).await
    }

    /// The difference of the first file that the schema had otherwise, the fleet's before the tenant's own, as `diff -u` writes it; `None` where
    /// there is none, or nobody kept how it was.
    pub(super) async fn edited_difference(&self, site: &Site) -> Result<Option<String>, CatalogError> {
        let Some(files) = &self.fleet().migrations else {
            return Ok(None);
        };
        let client = self.catalog().client().await?;
        let database = site.database.id;
        if let Some((file, was)) = first_edited(&client, files, database, &site.schema).await? {
            return Ok(was.map(|was| difference(&file.name, &was, &file.text)));
        }
        let Some(own) = site.slug.as_ref().and_then(|slug| files.overlay(slug)) else {
            return Ok(None);
        };
        let edited = first_edited(&client, &own, database, &migrate::overlay_name(&site.schema)).await?;
        Ok(edited.and_then(|(file, was)| Some(difference(&file.name, &was?, &file.text))))
    }
}

/// The first of these files that was applied with another text, and that text where it was kept.
async fn first_edited<'a>(
    db: &impl Db,
    files: &'a Files,
    database: TenantDatabaseId,
    ledger: &str,
) -> Result<Option<(&'a File, Option<String>)>, CatalogError> {
    let known: Vec<_> = files
        .as_slice()
        .iter()
        .map(|file| (file.version, &*file.checksum))
        .collect();
    let others = app_text::list_others(db, database, ledger, &known).await?;
    Ok(others.into_iter().find_map(|(version, text)| {
        let file = files.as_slice().iter().find(|file| file.version == version)?;
        Some((file, text))
    }))
}

fn difference(name: &str, was: &str, is: &str) -> String {
    let whole = TextDiff::from_lines(was, is)
        .unified_diff()
        .context_radius(AROUND)
        .header(&format!("{name} (as it was applied)"), &format!("{name} (as it is)"))
        .to_string();
    let shown: Vec<String> = whole.lines().take(LINES_MAX).map(shortened).collect();
    let more = whole.lines().count().saturating_sub(LINES_MAX);
    let mut text = shown.join("\n");
    if more > 0 {
        text.push_str(&format!("\n… {more} more lines"));
    }
    text
}

fn shortened(line: &str) -> String {
    let mut chars = line.chars();
    let mut shown: String = chars.by_ref().take(LINE_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_was_and_what_is() {
        let shown = difference(
            "0001_a.sql",
            "create table a (\n  id int\n);\n",
            "create table a (\n  id bigint\n);\n",
        );
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "--- 0001_a.sql (as it was applied)");
        assert!(
            lines.contains(&"-  id int") && lines.contains(&"+  id bigint"),
            "{shown}"
        );
        let long: String = (0..200).map(|number| format!("{number}\n")).collect();
        assert!(difference("a", &long, "").ends_with("… 143 more lines"));
        let wide = difference("a", &"x".repeat(1000), &"y".repeat(1000));
        let removed = wide.lines().find(|line| line.starts_with("-x"));
        let chars = removed.map(|line| line.chars().count());
        assert_eq!(chars, Some(LINE_CHARS_MAX + 1), "{wide}");
    }
}
