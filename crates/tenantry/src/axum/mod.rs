//! For axum: refusals as problem details, and bodies and queries that are read strictly.

mod body;
mod code;
mod fields;
mod problem;

pub use body::{Body, BodyLimit, Query};
pub use code::Code;
pub use fields::{Fields, FromFields};
pub use problem::{FieldError, Problem};
