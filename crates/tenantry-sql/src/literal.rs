//! Text constants, quoted.

use std::fmt;

/// A text constant. `Display` writes it quoted, and the same whatever `standard_conforming_strings` is set to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Literal(String);

/// A zero byte ends the text for the server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a text constant holds a zero byte")]
pub struct LiteralError;

impl Literal {
    /// Checks a text.
    ///
    /// # Errors
    ///
    /// Where it holds a zero byte.
    pub fn new(text: impl Into<String>) -> Result<Self, LiteralError> {
        let text = text.into();
        if text.contains('\0') {
            return Err(LiteralError);
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self.0.replace('\'', "''");
        if quoted.contains('\\') {
            write!(f, "E'{}'", quoted.replace('\\', "\\\\"))
        } else {
            write!(f, "'{quoted}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(Literal::new("it's").unwrap().to_string(), "'it''s'");
        assert_eq!(Literal::new("a\\'b").unwrap().to_string(), "E'a\\\\''b'");
        assert_eq!(Literal::new("a\0"), Err(LiteralError));
    }
}
