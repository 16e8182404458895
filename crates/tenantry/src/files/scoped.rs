//! One tenant's files.

use std::sync::Arc;

use tenantry_core::Context;
use unicode_normalization::UnicodeNormalization as _;

use super::{FileError, FilePath, Files, StoredFile, index, shared::Inner};
use crate::Scope;

/// The longest page of a list.
const PAGE_MAX: usize = 1000;
/// Rows that are cleared away in one go.
pub(super) const SWEEP: i64 = 1000;

/// One tenant's files; made by [`Scope::files`].
#[derive(Clone, Debug)]
pub struct ScopedFiles {
    pub(super) files: Files,
    pub(super) scope: Scope,
    pub(super) bytes_max: u64,
    pub(super) file_bytes_max: u64,
}

impl Scope {
    /// The tenant's files.
    ///
    /// # Errors
    ///
    /// [`FileError::NotConfigured`].
    pub fn files(&self) -> Result<ScopedFiles, FileError> {
        let files = self.tenantry().files().ok_or(FileError::NotConfigured)?.clone();
        Ok(ScopedFiles {
            bytes_max: files.0.config.tenant_bytes_max,
            file_bytes_max: files.0.config.file_bytes_max,
            files,
            scope: self.clone(),
        })
    }
}

impl ScopedFiles {
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.files.0
    }

    /// Whose files, who acts, with which rights.
    pub fn context(&self) -> &Context {
        self.scope.context()
    }

    /// The same with another bound of all its bytes, for example its plan's.
    #[must_use]
    pub fn with_quota(self, bytes_max: u64) -> Self {
        Self { bytes_max, ..self }
    }

    /// The same for no larger files than this.
    #[must_use]
    pub fn with_file_max(self, bytes_max: u64) -> Self {
        Self {
            file_bytes_max: self.file_bytes_max.min(bytes_max),
            ..self
        }
    }

    /// How many bytes the tenant has, with those of uploads that are under way.
    ///
    /// # Errors
    ///
    /// [`FileError::Database`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn used(&self) -> Result<u64, FileError> {
        index::used(&self.scope).await
    }

    /// What is known of a file.
    ///
    /// # Errors
    ///
    /// [`FileError::NotFound`], [`FileError::Path`], [`FileError::Database`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn stat(&self, path: &str) -> Result<StoredFile, FileError> {
        let path = FilePath::parse(path)?;
        let located = index::locate(&self.scope, &path).await?;
        Ok(located.ok_or(FileError::NotFound)?.file)
    }

    /// Files whose paths begin with `prefix`, in the order of their paths' bytes, after the path `after`: the last one of a
    /// page is where the next begins. At most 1000.
    ///
    /// # Errors
    ///
    /// [`FileError::Database`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(scope: tenantry::Scope) -> Result<(), tenantry::files::FileError> {
    /// let files = scope.files()?;
    /// let mut after = String::new();
    /// loop {
    ///     let page = files.list("letters/", &after, 100).await?;
    ///     let Some(last) = page.last() else { break };
    ///     after = last.path.clone();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<StoredFile>, FileError> {
        let [prefix, after] = [prefix, after].map(|text| text.nfc().filter(|c| *c != '\0').collect::<String>());
        let limit = limit.min(PAGE_MAX) as i64;
        index::list(&self.scope, &prefix, &after, limit).await
    }

    /// Removes a file; whether there was one.
    ///
    /// # Errors
    ///
    /// [`FileError::Path`], [`FileError::Database`], and what the store answers: the file is not listed any more then, and
    /// its bytes go with the next [`recount`](Self::recount).
    ///
    /// # Cancel safety
    ///
    /// Dropped, the file is there, or it is not and its bytes go with the next recount.
    pub async fn delete(&self, path: &str) -> Result<bool, FileError> {
        let path = FilePath::parse(path)?;
        let Some(id) = index::doom(&self.scope, &path).await? else {
            return Ok(false);
        };
        self.remove(id).await?;
        Ok(true)
    }

    /// Removes the bytes of a file that was taken out, and then forgets it.
    pub(super) async fn remove(&self, id: uuid::Uuid) -> Result<(), FileError> {
        self.inner().store.remove(self.scope.context().tenant, id).await?;
        index::forget(&self.scope, id).await
    }

    /// Gives up uploads that did not go on for too long, and removes what was taken out; how many.
    pub(super) async fn sweep(&self) -> Result<u64, FileError> {
        let mut removed = 0;
        loop {
            let left = index::leftovers(&self.scope, self.inner().config.upload_idle_max, SWEEP).await?;
            if left.is_empty() {
                return Ok(removed);
            }
            for id in left {
                self.remove(id).await?;
                removed += 1;
            }
        }
    }
}
