//! Stored words that become types of ours again.

use std::str::FromStr;

use tokio_postgres::Row;

use crate::CatalogError;

/// Reads a text column as a type of ours; a word this program does not know is an error, not a guess.
pub(crate) fn parsed<T: FromStr>(row: &Row, index: usize, column: &'static str) -> Result<T, CatalogError> {
    row.try_get::<_, &str>(index)?
        .parse()
        .map_err(|_| CatalogError::Unknown { column })
}

/// The same of a column that may be null.
pub(crate) fn parsed_opt<T: FromStr>(row: &Row, index: usize, column: &'static str) -> Result<Option<T>, CatalogError> {
    let text = row.try_get::<_, Option<&str>>(index)?;
    text.map(|text| text.parse().map_err(|_| CatalogError::Unknown { column }))
        .transpose()
}

/// An enum whose variants are words in a column.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in tables, routes and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::text::UnknownWord),
                }
            }
        }
    };
}
pub(crate) use words;

/// The text is none of the words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this word is not known")]
pub struct UnknownWord;
