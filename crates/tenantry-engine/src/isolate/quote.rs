//! Names and texts that come from the catalogs, quoted.

use tenantry_sql::{Identifier, Literal};

/// A name.
pub(crate) fn name(name: &str) -> Identifier {
    Identifier::new(name).expect("the catalogs hold no empty or overlong names")
}

/// A name, quoted.
pub(crate) fn ident(text: &str) -> String {
    name(text).to_string()
}

/// Names with commas between them.
pub(crate) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// A text constant.
pub(crate) fn literal(text: &str) -> String {
    Literal::new(text)
        .expect("PostgreSQL's texts hold no zero byte")
        .to_string()
}
