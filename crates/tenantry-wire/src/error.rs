//! What can go wrong on a connection.

use std::{fmt, io};

/// Why a call on a connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No socket to the server, or it went away.
    #[error("the connection to PostgreSQL failed")]
    Io(#[source] io::Error),
    /// The server closed the connection in the middle of a call.
    #[error("PostgreSQL closed the connection")]
    Closed,
    /// Encryption was asked for and could not be had.
    #[error("no encrypted connection: {0}")]
    Tls(String),
    /// The server did not let us in by a method we accept.
    #[error("authentication failed: {0}")]
    Authentication(String),
    /// PostgreSQL answered with an error.
    #[error("{0}")]
    Database(Box<DbError>),
    /// A parameter's Rust type does not fit the statement's type.
    #[error("parameter ${number} cannot be sent: {source}")]
    Parameter {
        /// Which parameter, counted from 1 as in the statement.
        number: usize,
        /// Why it could not be encoded.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The statement wants another number of parameters.
    #[error("the statement takes {expected} parameters, {given} were given")]
    ParameterCount {
        /// How many the statement has.
        expected: usize,
        /// How many came.
        given: usize,
    },
    /// A value does not fit the Rust type it was asked for as.
    #[error("column {column} cannot be read: {source}")]
    Column {
        /// The column's name or position.
        column: String,
        /// Why it could not be decoded.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The statement or its parameters exceed what one message may hold.
    #[error("a message of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// The size it would have had, or what the server announced.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The statements of the raw lane give more than their caller takes; the connection is closed.
    #[error("the result exceeds the limit of {bytes_max} bytes: ask for less")]
    ResultTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// A statement ended the transaction that carries its context; the connection is closed.
    #[error("the statement ended the transaction that it ran in")]
    TransactionEnded,
    /// The statement began a COPY where none was expected.
    #[error("COPY is not a query: use `copy_out` to read in bulk and `insert_many` to write")]
    UnexpectedCopy,
    /// The server sent what the protocol does not allow here; the connection is closed.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// The session changed a setting that the connection relies on; the connection is closed.
    #[error("the session changed `{0}`, which the connection relies on")]
    Drift(String),
    /// An earlier call on this connection was abandoned, so its state is unknown.
    #[error("the connection is not usable: an earlier call on it was abandoned")]
    Unusable,
    /// The statement does not belong on a scoped connection; it was not sent.
    #[error("`{statement}` does not belong here: {mend}")]
    Refused {
        /// Its first word.
        statement: String,
        /// What to do instead.
        mend: &'static str,
    },
    /// A statement of the transaction had failed, so that it was undone instead of kept.
    #[error("the transaction was undone, because a statement in it failed")]
    TransactionFailed,
    /// The address does not say enough.
    #[error("the database address is not usable: {0}")]
    Address(String),
}

impl Error {
    /// PostgreSQL's own error, if it is one.
    pub fn database(&self) -> Option<&DbError> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }

    /// The SQLSTATE, if PostgreSQL answered with an error.
    pub fn code(&self) -> Option<&str> {
        self.database().map(DbError::code)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What sentences of the seal begin with.
const SEAL_PREFIX: &str = "tenantry: ";
/// How the sealed tier says that the session is another's, after all that the carrier holds.
const MISMATCH: &str = " tenantry: the session is not bound as this call expects";

/// An error that PostgreSQL reported.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct DbError {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) position: Option<u32>,
    pub(crate) schema: Option<String>,
    pub(crate) table: Option<String>,
    pub(crate) column: Option<String>,
    pub(crate) constraint: Option<String>,
}

impl DbError {
    /// An error that another driver received.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: without_carrier(message.into()),
            ..Self::default()
        }
    }

    /// The same with what PostgreSQL says beside the message.
    #[must_use]
    pub fn with_advice(self, detail: Option<&str>, hint: Option<&str>) -> Self {
        Self {
            detail: detail.map(str::to_owned),
            hint: hint.map(str::to_owned),
            ..self
        }
    }

    /// The same with what it is about.
    #[must_use]
    pub fn about(self, table: Option<&str>, column: Option<&str>, constraint: Option<&str>) -> Self {
        Self {
            table: table.map(str::to_owned),
            column: column.map(str::to_owned),
            constraint: constraint.map(str::to_owned),
            ..self
        }
    }

    /// The same with how bad it is, and where in the statement.
    #[must_use]
    pub fn at(self, severity: Option<String>, position: Option<u32>) -> Self {
        Self {
            severity: severity.unwrap_or_default(),
            position,
            ..self
        }
    }

    /// The severity, for example `ERROR` or `FATAL`, never translated.
    pub fn severity(&self) -> &str {
        &self.severity
    }

    /// The SQLSTATE: five characters.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// More about it; may hold values of the row.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// What PostgreSQL suggests.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Where in the statement, counted in characters from 1.
    pub fn position(&self) -> Option<u32> {
        self.position
    }

    /// The schema the error is about.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The table the error is about.
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// The column the error is about.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// The constraint that was violated.
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    /// What the seal says, where the error is its: after `tenantry: `.
    ///
    /// The sealed tier can raise an error only by a text that is no uuid, so the sentence may stand inside of
    /// PostgreSQL's own: `invalid input syntax for type uuid: "tenantry: …"`.
    pub fn tenantry_sentence(&self) -> Option<&str> {
        self.message
            .find(SEAL_PREFIX)
            .map(|start| &self.message[start + SEAL_PREFIX.len()..])
    }

    /// Reads the body of an ErrorResponse or NoticeResponse: fields of a tag and a text that ends in zero.
    pub(crate) fn parse(mut body: &[u8]) -> Self {
        let mut error = Self::default();
        while let Some((&tag, rest)) = body.split_first() {
            let Some(end) = rest.iter().position(|&byte| byte == 0).filter(|_| tag != 0) else {
                break;
            };
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            body = &rest[end + 1..];
            match tag {
                // `V` is the severity in English whatever the server speaks; `S` comes first from servers before 9.6.
                b'S' if error.severity.is_empty() => error.severity = text,
                b'V' => error.severity = text,
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'P' => error.position = text.parse().ok(),
                b's' => error.schema = Some(text),
                b't' => error.table = Some(text),
                b'c' => error.column = Some(text),
                b'n' => error.constraint = Some(text),
                _ => {}
            }
        }
        error.message = without_carrier(error.message);
        error
    }
}

/// Takes away what a message quotes of the carrier before the seal's sentence: it says whose the session is, and nobody who
/// is told that it is another's needs to know that.
fn without_carrier(mut message: String) -> String {
    let quoted = message.find('"').map(|quote| quote + 1);
    let sentence = message.find(MISMATCH).map(|space| space + 1);
    if let (Some(quoted), Some(sentence)) = (quoted, sentence)
        && quoted < sentence
    {
        message.replace_range(quoted..sentence, "");
    }
    message
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for DbError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_unknown_ones_skipped() {
        let error = DbError::parse(b"SFEHLER\0VERROR\0C23505\0Mduplicate\0nemail_key\0tcontact\0Xwhat\0P12\0\0");
        assert_eq!(
            (error.severity(), error.code(), error.message()),
            ("ERROR", "23505", "duplicate")
        );
        assert_eq!(
            (error.constraint(), error.table(), error.position()),
            (Some("email_key"), Some("contact"), Some(12))
        );
        assert_eq!(error.detail(), None);
    }

    #[test]
    fn whose_the_session_is_stands_in_no_error() {
        let said =
            "invalid input syntax for type uuid: \"5555aaaa tenantry: the session is not bound as this call expects\"";
        let kept = "invalid input syntax for type uuid: \"tenantry: the session is not bound as this call expects\"";
        assert_eq!(DbError::new("22P02", said).message(), kept);
        assert_eq!(
            DbError::parse(format!("C22P02\0M{said}\0\0").as_bytes()).message(),
            kept
        );
        assert_eq!(DbError::new("22P02", kept).message(), kept);
        let other = "invalid input syntax for type uuid: \"5555aaaa\"";
        assert_eq!(DbError::new("22P02", other).message(), other);
    }

    #[test]
    fn the_seals_sentence_is_found_inside_of_postgresqls() {
        let error = |message: &str| DbError {
            message: message.to_owned(),
            ..DbError::default()
        };
        let wrapped = error("invalid input syntax for type uuid: \"tenantry: fenced: look\"");
        assert_eq!(wrapped.tenantry_sentence(), Some("fenced: look\""));
        assert_eq!(
            error("tenantry: the tenant is moving").tenantry_sentence(),
            Some("the tenant is moving")
        );
        assert_eq!(
            error("invalid input syntax for type uuid: \"x\"").tenantry_sentence(),
            None
        );
    }

    #[test]
    fn a_torn_body_is_no_panic() {
        for end in 0..12 {
            DbError::parse(&b"SERROR\0C23505"[..end]);
        }
    }
}
