//! For axum: refusals as problem details, bodies and queries that are read strictly, and cursors of lists.

mod body;
mod code;
mod cursor;
mod error;
mod extract;
mod fields;
#[cfg(feature = "files")]
mod files;
mod layer;
mod limit;
mod path;
mod problem;
mod refusal;
mod request_id;
mod request_log;
mod strict;
mod trace_context;

pub use body::{Body, BodyLimit, Query};
pub use code::Code;
pub use cursor::{CursorOwner, decode_cursor, encode_cursor};
pub use fields::{Fields, FromFields};
#[cfg(feature = "files")]
pub use files::{attachment, file_links};
pub use layer::{TenantLayer, TenantService, credentials};
pub use path::Path;
pub use problem::{FieldError, LimitHit, Problem};
pub use request_id::RequestId;
pub use request_log::RequestLog;
pub use trace_context::TraceContext;
