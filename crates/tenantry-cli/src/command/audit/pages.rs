//! The pages in `docs/audit/`.

use std::path::Path;

use tenantry_engine::audit;

use crate::{
    failure::Failure,
    output::{Done, Output},
};

/// Writes a page for each check, and the list of them.
pub(super) fn write(folder: &Path, output: Output) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let mut pages = 1;
    std::fs::write(folder.join("README.md"), audit::index_page())?;
    for check in audit::checks() {
        std::fs::write(folder.join(format!("{}.md", check.id)), audit::page(check))?;
        pages += 1;
    }
    Ok(output.answer(&Done {
        text: format!("{pages} pages in {}", folder.display()),
        json: serde_json::json!({ "pages": pages }),
    })?)
}
