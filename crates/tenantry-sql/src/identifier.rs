//! Names of objects, quoted.

use std::fmt;

/// How many bytes of a name PostgreSQL keeps; it cuts longer ones without an error, so that two names may become one.
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// A name that PostgreSQL keeps whole. `Display` writes it quoted, always: quoting is never wrong, and leaving it out is
/// as soon as a keyword is added.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identifier(String);

/// The text cannot be the name of an object.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifierError {
    /// Nothing.
    #[error("a name is empty")]
    Empty,
    /// PostgreSQL would cut it.
    #[error("the name `{name}` has {bytes} bytes: PostgreSQL keeps {MAX_IDENTIFIER_BYTES}, choose a shorter one")]
    TooLong {
        /// The name.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// A zero byte ends the text for the server.
    #[error("a name holds a zero byte")]
    ZeroByte,
}

impl Identifier {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// Where the name is empty, longer than 63 bytes or holds a zero byte.
    pub fn new(name: impl Into<String>) -> Result<Self, IdentifierError> {
        let name = name.into();
        if name.is_empty() {
            return Err(IdentifierError::Empty);
        }
        if name.contains('\0') {
            return Err(IdentifierError::ZeroByte);
        }
        if name.len() > MAX_IDENTIFIER_BYTES {
            let bytes = name.len();
            return Err(IdentifierError::TooLong { name, bytes });
        }
        Ok(Self(name))
    }

    /// The name itself, unquoted: to be bound as a parameter.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A name with its schema.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Qualified {
    /// The schema.
    pub schema: Identifier,
    /// The object in it.
    pub name: Identifier,
}

impl Qualified {
    /// Checks both names.
    ///
    /// # Errors
    ///
    /// As [`Identifier::new`].
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Result<Self, IdentifierError> {
        Ok(Self {
            schema: Identifier::new(schema)?,
            name: Identifier::new(name)?,
        })
    }
}

impl fmt::Display for Qualified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What a statement may call a table: its name alone, where the search path says the rest, or with its schema.
pub trait TableName: fmt::Display {}

impl TableName for Identifier {}
impl TableName for Qualified {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(Identifier::new("order").unwrap().to_string(), "\"order\"");
        assert_eq!(
            Identifier::new("a\"; drop table b; --").unwrap().to_string(),
            "\"a\"\"; drop table b; --\""
        );
        assert_eq!(Qualified::new("a.b", "c").unwrap().to_string(), "\"a.b\".\"c\"");
    }

    #[test]
    fn what_postgresql_would_cut_is_refused() {
        assert!(Identifier::new("ä".repeat(31)).is_ok());
        assert!(matches!(
            Identifier::new("ä".repeat(32)),
            Err(IdentifierError::TooLong { bytes: 64, .. })
        ));
        assert_eq!(Identifier::new(""), Err(IdentifierError::Empty));
        assert_eq!(Identifier::new("a\0b"), Err(IdentifierError::ZeroByte));
    }
}
