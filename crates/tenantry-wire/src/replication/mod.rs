//! Logical replication: what a server changed, as messages of its own plugin `pgoutput`.
//!
//! [`Replication`] is a connection that makes slots, and becomes a [`ChangeStream`] that reads one; [`Message::decode`]
//! reads what the plugin wrote, and knows no connection. Nothing here says what becomes of a change.

mod decode;
mod feed;
mod lsn;
mod message;
mod session;
mod stream;

pub use decode::DecodeError;
pub use feed::Feed;
pub use lsn::{Lsn, LsnError};
pub use message::{Identity, Message, Old, Relation, RelationColumn, Tuple, Value};
pub use session::{Identified, NewSlot, Replication, SlotRequest};
pub use stream::ChangeStream;
