//! Fields that take one of a few words, as the contract names them.

use tenantry_core::{Isolation, Role};
use utoipa::openapi::{Object, ObjectBuilder, Type};

pub(super) fn role() -> Object {
    one_of(Role::ALL.map(Role::as_str))
}

pub(super) fn isolation() -> Object {
    one_of(Isolation::ALL.map(Isolation::as_str))
}

fn one_of<const N: usize>(words: [&'static str; N]) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}
