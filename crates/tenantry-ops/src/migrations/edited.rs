//! How a file that was edited after it had been applied differs from what was applied.

use similar::TextDiff;
use tenantry_catalog::{CatalogError, app_text, placement::Site};
use tenantry_engine::migrate::{self, File, Files};

use crate::Ops;

/// As many lines of a difference are shown.
const LINES_MAX: usize = 60;
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
        let applied = app_text::list_applied(&client, site.database.id, &site.schema).await?;
        if let Some((file, was)) = first_edited(files, &applied) {
            return Ok(was.map(|was| difference(&file.name, was, &file.text)));
        }
        let Some(own) = site.slug.as_ref().and_then(|slug| files.overlay(slug)) else {
            return Ok(None);
        };
        let ledger = migrate::overlay_name(&site.schema);
        let applied = app_text::list_applied(&client, site.database.id, &ledger).await?;
        let edited = first_edited(&own, &applied);
        Ok(edited.and_then(|(file, was)| Some(difference(&file.name, was?, &file.text))))
    }
}

/// The first of these files that was applied with another text, and that text where it was kept.
fn first_edited<'a>(
    files: &'a Files,
    applied: &'a [(i64, String, Option<String>)],
) -> Option<(&'a File, Option<&'a str>)> {
    applied.iter().find_map(|(version, checksum, text)| {
        let file = files.as_slice().iter().find(|file| file.version == *version)?;
        (file.checksum != *checksum).then_some((file, text.as_deref()))
    })
}

fn difference(name: &str, was: &str, is: &str) -> String {
    let whole = TextDiff::from_lines(was, is)
        .unified_diff()
        .context_radius(AROUND)
        .header(&format!("{name} (as it was applied)"), &format!("{name} (as it is)"))
        .to_string();
    let mut lines: Vec<&str> = whole.lines().collect();
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    let mut text = lines.join("\n");
    if more > 0 {
        text.push_str(&format!("\n… {more} more lines"));
    }
    text
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
    }
}
