//! The change stream of a move: what a tenant writes at its old home reaches the new one while the move goes on.
//!
//! In this order, each step of which can be asked for again:
//!
//! 0. [`hindrance`] says whether the source can have one at all.
//! 1. [`make_publication`] and then [`make_slot`] at the source; [`Snapshot`] says what the copy reads and where the stream
//!    begins. A publication is made for one move and never altered: changes of a table that joins one late can be lost.
//! 2. [`prepare_target`] and [`begin_position`] at the target; the copy, from [`Snapshot::take`]. One that was broken off goes on with what
//!    is left: [`snapshot_beside`], an applier that brings [`only`](Applier::only) what is there up to that, and the position.
//! 3. [`Applier::start`] and [`Applier::run`] until a [`Marker`] that was written at the source, as often as it is asked for.
//!    Each transaction of the source takes effect exactly once: its rows and the position behind it are committed together.
//! 4. [`pair`] and [`compare`]: both sides at one position, row for row, while both go on. From there on the applier keeps which rows it
//!    writes ([`Applier::touched`]), so that these alone are left to be compared when the source is closed
//!    ([`Recheck`](super::Recheck)).
//! 5. [`drop_slot`], [`drop_publication`], [`forget_position`]; what a process that died has left, [`list_slots`] and
//!    [`list_publications`] find by the installation's mark.
//!
//! The two directions of a move are never both at work: what one writes, the other would bring back.
//!
//! Names tell whose they are: the installation's id, the move's and the direction.

mod able;
mod apply;
mod batch;
mod compare;
mod copied;
mod error;
mod marker;
mod name;
mod position;
mod publication;
mod row;
mod slot;
mod statement;
mod table;
mod touched;

pub use able::{hindrance, hindrance_of_server, hindrance_of_tables, keeps_log_without_bound};
pub use apply::{Applied, Applier, Plan, Until};
pub use compare::{Compared, Difference, Pair, TableCompared, Way, compare, pair};
pub use copied::{Begun, Kept, read_kept};
pub(super) use copied::{note_begun, note_copied};
pub use error::StreamError;
pub use marker::{Marker, emit_marker};
pub use name::{Direction, StreamName};
pub use position::{begin_position, forget_position, list_positions, prepare_target, read_position};
pub use publication::{OurPublication, drop_publication, list_publications, make_publication};
pub use slot::{OurSlot, Snapshot, drop_slot, list_slots, make_slot, snapshot_beside};
pub use touched::{Key, Touched, TouchedTable};
