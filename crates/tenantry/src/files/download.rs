//! Files on their way out.

use std::fmt;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};

use super::{FileError, FilePath, ScopedFiles, StoredFile, index};

/// How often a file that is replaced while it is opened is looked for again.
const LOOKS_MAX: usize = 20;

/// A file that is read piece by piece. Dropping it closes it.
pub struct Download {
    file: StoredFile,
    pieces: BoxStream<'static, Result<Bytes, object_store::Error>>,
    left: u64,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("file", &self.file)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl ScopedFiles {
    /// Opens a file. It is read as it is now, also if it is replaced or deleted meanwhile, where the store lets an open file be read to
    /// its end: a local folder does.
    ///
    /// # Errors
    ///
    /// [`FileError::NotFound`], [`FileError::Path`], [`FileError::Damaged`], [`FileError::Database`], [`FileError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn download(&self, path: &str) -> Result<Download, FileError> {
        let path = FilePath::parse(path)?;
        let tenant = self.scope.context().tenant;
        for _ in 0..LOOKS_MAX {
            let located = index::locate(&self.scope, &path).await?.ok_or(FileError::NotFound)?;
            let Some(opened) = self.inner().store.open(tenant, located.id).await? else {
                // Replaced since; or gone, which the next look tells.
                continue;
            };
            if opened.meta.size != located.file.bytes {
                return Err(FileError::Damaged("it has another size"));
            }
            return Ok(Download {
                left: located.file.bytes,
                file: located.file,
                pieces: opened.into_stream(),
            });
        }
        Err(FileError::Damaged("it is listed and not there"))
    }
}

impl Download {
    /// What is known of the file.
    pub fn file(&self) -> &StoredFile {
        &self.file
    }

    /// The next piece; `None` at the end of the whole file, never before.
    ///
    /// # Errors
    ///
    /// [`FileError::Store`], [`FileError::Damaged`] where the file ends too soon or goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FileError> {
        let Some(piece) = self.pieces.next().await.transpose()? else {
            return match self.left {
                0 => Ok(None),
                _ => Err(FileError::Damaged("it ends too soon")),
            };
        };
        let len = piece.len() as u64;
        self.left = self.left.checked_sub(len).ok_or(FileError::Damaged("it goes on"))?;
        Ok(Some(piece))
    }

    /// The same as a stream, for a response's body.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, FileError>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|piece| (piece, download)))
        })
    }
}
