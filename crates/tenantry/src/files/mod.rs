//! Files, each of one tenant: in a local folder or in an object store, listed in the tenant's own tables.
//!
//! Files are reached through a [`Scope`](crate::Scope) and in no other way. A file's path is a name in the tenant's table
//! [`MIGRATION`] makes, which has the row security, the roles, the moves and the purge of every other table; its bytes stand
//! in the store as `t/<tenant>/<id>`, both ids of ours. So no path that anybody can write leads to another place in the store.
//!
//! ```no_run
//! use bytes::Bytes;
//! use futures_util::stream;
//! use tenantry::{Scope, files::FileError};
//!
//! async fn keep(scope: &Scope) -> Result<(), FileError> {
//!     let files = scope.files()?;
//!     let data = stream::iter([Ok::<_, std::io::Error>(Bytes::from("Dear Ada"))]);
//!     files.upload("letters/ada.txt", "text/plain", data).await?;
//!     let mut letter = files.download("letters/ada.txt").await?;
//!     while let Some(piece) = letter.next().await? {
//!         println!("{} bytes", piece.len());
//!     }
//!     Ok(())
//! }
//! ```

mod config;
mod download;
mod error;
mod folder;
mod index;
mod link;
mod path;
mod recount;
mod scoped;
mod shared;
mod store;
mod upload;

pub use config::FilesConfig;
pub use download::Download;
pub use error::{FileError, PathError};
pub use index::{MIGRATION, StoredFile};
pub use link::{LinkKey, LinkKeyError, LinkKeys, LinkVerb, LinkedFile};
pub use path::FilePath;
pub use recount::Recount;
pub use scoped::ScopedFiles;
pub use shared::Files;
pub use tenantry_bucket::BucketError;
