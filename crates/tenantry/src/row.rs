//! Rows, and types made from them.

use postgres_types::FromSql;
pub use tenantry_wire::ColumnIndex;

use crate::{Error, ErrorKind};

/// A row of a scoped query.
#[derive(Clone, Debug)]
pub struct Row(pub(crate) tenantry_wire::Row);

impl Row {
    /// Reads a column, named by its position from 0 or by its name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Column`] when there is no such column, its type does not fit, or it is null and `T` is no `Option`.
    pub fn get<'a, T: FromSql<'a>>(&'a self, index: impl ColumnIndex) -> Result<T, Error> {
        self.0
            .get(index)
            .map_err(|error| Error::new(ErrorKind::Column, error.to_string()).with_source(error))
    }

    /// The names of the columns, in their order.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.0.columns().iter().map(|column| column.name())
    }

    /// How many columns the row has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A type that can be made from a row: by name with [`from_row!`](crate::from_row), or by position for tuples.
pub trait FromRow: Sized {
    /// Makes the value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Column`] when a column is missing or does not fit.
    fn from_row(row: &Row) -> Result<Self, Error>;
}

/// Implements [`FromRow`] for a struct whose fields are named like the columns.
///
/// ```
/// struct Contact {
///     id: uuid::Uuid,
///     name: String,
///     email: Option<String>,
/// }
/// tenantry::from_row!(Contact { id, name, email });
/// ```
#[macro_export]
macro_rules! from_row {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::FromRow for $type {
            fn from_row(row: &$crate::Row) -> ::core::result::Result<Self, $crate::Error> {
                ::core::result::Result::Ok(Self { $($field: row.get(::core::stringify!($field))?),* })
            }
        }
    };
}

macro_rules! tuples {
    ($($($type:ident $position:tt),+;)*) => {$(
        impl<$($type: for<'a> FromSql<'a>),+> FromRow for ($($type,)+) {
            fn from_row(row: &Row) -> Result<Self, Error> {
                Ok(($(row.get::<$type>($position)?,)+))
            }
        }
    )*};
}

tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4;
    A 0, B 1, C 2, D 3, E 4, F 5;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
}

impl FromRow for Row {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(row.clone())
    }
}
