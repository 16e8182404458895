//! Buckets of object stores: how one is named, entered with the environment's settings, and what it means when one refuses.
//!
//! Apart, because files and backups both stand in buckets and neither of their crates may import the other.

mod error;
mod objects;
#[cfg(feature = "s3")]
mod s3;

use std::sync::Arc;

use object_store::{ObjectStore, path::Path as ObjectPath};

pub use error::BucketError;
pub use objects::Objects;

/// Object stores take no smaller parts of an upload, but as its last.
pub const PART_BYTES_MIN: usize = 5 << 20;

/// A bucket, and where in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bucket {
    /// What messages call it: `s3://bucket`.
    pub name: String,
    /// How it is reached.
    pub objects: Arc<dyn ObjectStore>,
    /// Below it stands all that is ours.
    pub prefix: ObjectPath,
}

impl Bucket {
    /// The bucket that `s3://bucket/prefix` names, with settings as the environment calls them (`AWS_ENDPOINT` and the like; others
    /// are passed over). `None` for any other text, and in a program that was built without the feature `s3`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`BucketError::PlainHttp`], [`BucketError::Settings`].
    #[cfg(feature = "s3")]
    pub fn open<K: AsRef<str>, V: Into<String>>(
        location: &str,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Option<Self>, BucketError> {
        s3::open(location, settings)
    }

    /// None: this program was built without the feature `s3`.
    ///
    /// # Errors
    ///
    /// None.
    #[cfg(not(feature = "s3"))]
    pub fn open<K: AsRef<str>, V: Into<String>>(
        _location: &str,
        _settings: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Option<Self>, BucketError> {
        Ok(None)
    }
}

/// What the environment says of buckets.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("AWS_"))
}
