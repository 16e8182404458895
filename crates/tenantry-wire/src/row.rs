//! Rows as they came, decoded when a column is asked for.

use std::sync::Arc;

use bytes::Bytes;
use postgres_types::{FromSql, Kind, Type, WrongType};

use crate::Error;

/// A column of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    pub(crate) name: String,
    pub(crate) type_: Type,
}

impl Column {
    /// The name the statement gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type.
    pub fn type_(&self) -> &Type {
        &self.type_
    }
}

/// A row of a result, in the binary format.
///
/// The bytes stay as they came; reading the n-th column steps over the ones before it, which is cheaper than an index
/// of all columns for the few columns that rows have.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[Column]>,
    body: Bytes,
}

impl Row {
    pub(crate) fn new(columns: Arc<[Column]>, body: Bytes) -> Self {
        Self { columns, body }
    }

    /// The result's columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many columns the row has.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether the row has no columns, as those of `select` alone.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Reads a column as a Rust type.
    ///
    /// # Errors
    ///
    /// [`Error::Column`] when there is no such column, its type does not fit, or it is null and `T` is no `Option`.
    pub fn get<'a, T: FromSql<'a>>(&'a self, index: impl ColumnIndex) -> Result<T, Error> {
        let Some(position) = index.position(&self.columns) else {
            return Err(Error::Column {
                column: index.describe(),
                source: "the result has no such column".into(),
            });
        };
        let column = &self.columns[position];
        let wrong = |source| Error::Column {
            column: column.name.clone(),
            source,
        };
        let type_ = match column.type_.kind() {
            // An enum's label is its text, for who reads it as one.
            Kind::Enum(_) if !T::accepts(&column.type_) => &Type::TEXT,
            _ => &column.type_,
        };
        if !T::accepts(type_) {
            return Err(wrong(Box::new(WrongType::new::<T>(column.type_.clone()))));
        }
        T::from_sql_nullable(type_, self.field(position)?).map_err(wrong)
    }

    /// The bytes of a column in PostgreSQL's binary format, `None` for null.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] when the row is shorter than it says.
    pub fn field(&self, position: usize) -> Result<Option<&[u8]>, Error> {
        const TORN: Error = Error::Protocol("a row is shorter than it says");
        let mut rest = self.body.get(2..).ok_or(TORN)?;
        for _ in 0..position {
            let (length, after) = rest.split_first_chunk().ok_or(TORN)?;
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            rest = after.get(length..).ok_or(TORN)?;
        }
        let (length, after) = rest.split_first_chunk().ok_or(TORN)?;
        // A negative length stands for null.
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => after.get(..length).map(Some).ok_or(TORN),
            Err(_) => Ok(None),
        }
    }
}

/// What names a column: its position counted from 0, or its name.
pub trait ColumnIndex: sealed::Sealed {
    #[doc(hidden)]
    fn position(&self, columns: &[Column]) -> Option<usize>;
    #[doc(hidden)]
    fn describe(&self) -> String;
}

impl ColumnIndex for usize {
    fn position(&self, columns: &[Column]) -> Option<usize> {
        Some(*self).filter(|position| *position < columns.len())
    }

    fn describe(&self) -> String {
        self.to_string()
    }
}

impl ColumnIndex for &str {
    fn position(&self, columns: &[Column]) -> Option<usize> {
        columns.iter().position(|column| column.name == *self)
    }

    fn describe(&self) -> String {
        (*self).to_owned()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for usize {}
    impl Sealed for &str {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(body: &'static [u8]) -> Row {
        let column = |name: &str, type_| Column {
            name: name.to_owned(),
            type_,
        };
        Row::new(
            Arc::new([column("a", Type::INT4), column("b", Type::TEXT)]),
            Bytes::from_static(body),
        )
    }

    #[test]
    fn columns_are_found_by_position_and_name() {
        let row = row(b"\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x02hi");
        assert_eq!(row.get::<i32>(0).unwrap(), 7);
        assert_eq!(row.get::<&str>("b").unwrap(), "hi");
        assert!(row.get::<i64>("a").is_err());
        assert!(row.get::<i32>("c").is_err());
        assert!(row.get::<i32>(2).is_err());
    }

    #[test]
    fn null_needs_an_option() {
        let row = row(b"\0\x02\xff\xff\xff\xff\0\0\0\x02hi");
        assert_eq!(row.get::<Option<i32>>(0).unwrap(), None);
        assert!(row.get::<i32>(0).is_err());
        assert_eq!(row.get::<&str>(1).unwrap(), "hi");
    }

    #[test]
    fn a_torn_row_is_an_error() {
        let whole: &'static [u8] = b"\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x02hi";
        for end in 0..whole.len() {
            assert!(row(&whole[..end]).get::<&str>(1).is_err(), "{end}");
        }
    }
}
