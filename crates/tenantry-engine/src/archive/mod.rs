//! Archives of one tenant: its rows in one file, from one snapshot, and back into any isolation.
//!
//! The file is a zstd-compressed tar, so that people can open it with what they have, and ends in a signature over every byte of it,
//! so that a program refuses what was changed before it reads any of it. The format is in `docs/adr/0023-archives.md`.
//!
//! What reads rows ([`Snapshot`]) and what writes them ([`Load`]) know nothing of files: a clone goes from one to the other.

mod advance;
mod ahead;
mod copy_text;
mod copying;
mod csv;
mod difference;
mod error;
mod export;
mod id_spans;
mod ids;
mod load;
mod manifest;
mod mask;
mod new_ids;
mod orphans;
mod pack;
mod seal;
mod signature;
mod snapshot;
mod tables;
mod tally;
mod tied;
mod unpack;

pub use copying::copy;
pub use difference::{KeyedDifference, TableDifference, difference};
pub use error::ArchiveError;
pub use export::{ExportOptions, export};
pub use ids::{IdError, IdPlan, KeptKey};
pub use load::{Load, load, replace};
pub use manifest::{
    Column, FORMAT, LeftOut, Manifest, Migrated, PackedTable, Reference, SequenceValue, TableHead, TenantHead,
};
pub use mask::{Mask, MaskError, MaskRule, Masks};
pub use new_ids::{IdOffsets, IdWish, NewIds};
pub use pack::{Packed, Packer};
pub use seal::{BACKUP_KEY_LEN, BackupKey, Opener, Sealer};
pub use signature::{ArchiveKey, Signer};
pub use snapshot::{Place, Snapshot};
pub use tally::Tally;
pub use unpack::{Chunk, Unpacker};
