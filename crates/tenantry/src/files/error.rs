//! Why a file can't be kept or read.

use tenantry_bucket::BucketError;

use crate::Error;

/// Why a file can't be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The handle was made without a place for files.
    #[error("no place for files: give `Tenantry::with_files` one")]
    NotConfigured,
    /// The place is neither a folder nor one of a kind that this program knows.
    #[error("files are kept in a folder, or in `s3://bucket/prefix` by a program that has the feature `s3`")]
    Location,
    /// The path is none that files have.
    #[error("the path can't be used: {0}")]
    Path(#[from] PathError),
    /// The content type is no `type/subtype` of printable ASCII, or longer than 200 bytes.
    #[error("the content type is not of the form `type/subtype`")]
    ContentType,
    /// The tenant has no file of this path.
    #[error("there is no such file")]
    NotFound,
    /// The tenant has a file whose path differs in case or in the form of its characters only.
    #[error("the path looks like `{existing}`, which is there: use that one, or another name")]
    LookAlike {
        /// The path that is there.
        existing: String,
    },
    /// The tenant has no room for it.
    #[error("the tenant may have {max} bytes and has {used}: delete files, or raise its quota")]
    QuotaExceeded {
        /// What it has, with uploads that are under way.
        used: u64,
        /// What it may have.
        max: u64,
    },
    /// The file is larger than files may be.
    #[error("the file has more than the {max} bytes that are kept")]
    TooLarge {
        /// What is kept.
        max: u64,
    },
    /// The upload did not go on for so long that it was given up.
    #[error("the upload was given up: it did not go on for too long")]
    GivenUp,
    /// What was to be uploaded broke off.
    #[error("what was to be uploaded broke off")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store does not hold what the list says: somebody changed it there.
    #[error("the file in the store is not the one that was kept: {0}")]
    Damaged(&'static str),
    /// The tenant's database.
    #[error(transparent)]
    Database(#[from] Error),
    /// The bucket can't be used as it is configured.
    #[error(transparent)]
    Bucket(BucketError),
    /// The store can't be reached, or refuses.
    #[error("the store of files failed")]
    Store(#[from] object_store::Error),
    /// The folder of files.
    #[error("the folder of files failed")]
    Folder(#[source] std::io::Error),
    /// Links are not configured.
    #[error("no keys of links: set `FilesConfig::link_keys`")]
    NoLinkKeys,
    /// The link is not one that was signed here, or its time is over, or who signed it has no right to the file any more.
    #[error("the link is not valid, or not any more")]
    BadLink,
    /// The link is for something else.
    #[error("the link is not for this")]
    WrongVerb,
}

impl From<BucketError> for FileError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Store(error) => Self::Store(error),
            error => Self::Bucket(error),
        }
    }
}

/// Why a text is no path of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Nothing, or more than 1024 bytes, or a name of more than 255.
    #[error("a path has 1 to 1024 bytes, each of its names 1 to 255")]
    Length,
    /// It begins or ends with `/`, or has two in a row: it would be absolute, or a folder.
    #[error("names are separated by single `/`, with none before or after them")]
    Slash,
    /// A name is `.` or `..`.
    #[error("no name is `.` or `..`")]
    Dots,
    /// A name begins or ends with a blank, or ends with a dot: some systems take that away.
    #[error("no name begins or ends with a blank or ends with a dot")]
    Edge,
    /// A control character, a backslash, or a character that is not seen.
    #[error("no backslash, control or invisible character")]
    Character,
    /// `%` before two hex digits: something on the way would decode it.
    #[error("`%` before two hex digits is not taken: pass the path decoded")]
    Encoded,
}
