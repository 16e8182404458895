//! Files on their way in.

use std::{error::Error as StdError, mem, pin::pin};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use object_store::{MultipartUpload, PutPayload};
use tenantry_core::Excess;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{
    FileError, FilePath, ScopedFiles, StoredFile,
    index::{self, Placed, Room},
};
use crate::Error;

const CONTENT_TYPE_LEN_MAX: usize = 200;
/// How often two who put files at one path at once may be in each other's way.
const PLACINGS_MAX: usize = 5;

impl ScopedFiles {
    /// Keeps a file, in the place of one of the same path: readers find the old one whole until the new one is, and both are
    /// never mixed. Each piece is counted before it is sent, and one part of [`FilesConfig::part_bytes`](super::FilesConfig) is in
    /// memory at a time, beside the largest piece of `data`.
    ///
    /// The content type is what the sender says; it is not checked against the bytes.
    ///
    /// # Errors
    ///
    /// Any [`FileError`] but those of links. A role that may not write has
    /// [`ErrorKind::ReadOnlyRole`](crate::ErrorKind::ReadOnlyRole), and a tenant that has as many bytes as its plan gives
    /// [`ErrorKind::PlanLimit`](crate::ErrorKind::PlanLimit).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or an error in `data`, leaves nothing: what was sent is removed in the background. What a
    /// process leaves that is killed meanwhile goes once it has been idle for
    /// [`upload_idle_max`](super::FilesConfig::upload_idle_max), with the next recount or when room is needed.
    pub async fn upload<E>(
        &self,
        path: &str,
        content_type: &str,
        data: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<StoredFile, FileError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let path = FilePath::parse(path)?;
        let content_type = check_content_type(content_type)?;
        self.require_room().await?;
        let id = Uuid::now_v7();
        // From before the row is there: what is dropped while it is being made may have been made.
        let mut upload = Upload {
            files: self.clone(),
            id,
            multipart: None,
            sending: None,
            bytes: 0,
            has_swept: false,
            is_over: false,
        };
        if let Some(existing) = index::begin(&self.scope, id, &path, content_type).await?
            && existing != path.as_str()
        {
            return Err(FileError::LookAlike { existing });
        }
        upload.send_all(data).await?;
        upload.place(&path).await
    }

    /// Refuses a file where the tenant has as many bytes as its plan gives, as it was measured last: also behind a link, where no layer
    /// has asked.
    async fn require_room(&self) -> Result<(), FileError> {
        let grant = self
            .scope
            .pools()
            .grant(self.scope.caller())
            .await
            .map_err(Error::from)?;
        match grant.excess.iter().find(|excess| excess.limit == Excess::STORAGE) {
            Some(excess) => {
                Err(Error::plan_limit(excess, "it can keep files again when some, or rows, are removed").into())
            }
            None => Ok(()),
        }
    }
}

fn check_content_type(content_type: &str) -> Result<&str, FileError> {
    let is_plain = content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let has_both = content_type
        .split_once('/')
        .is_some_and(|(kind, of)| !kind.is_empty() && !of.is_empty());
    if is_plain && has_both && content_type.len() <= CONTENT_TYPE_LEN_MAX {
        Ok(content_type)
    } else {
        Err(FileError::ContentType)
    }
}

/// A file on its way in, which leaves nothing unless it comes to its place.
struct Upload {
    files: ScopedFiles,
    id: Uuid,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// What the store does at this moment.
    sending: Option<JoinHandle<Result<(), FileError>>>,
    bytes: u64,
    has_swept: bool,
    is_over: bool,
}

impl Upload {
    async fn send_all<E>(&mut self, data: impl Stream<Item = Result<Bytes, E>>) -> Result<(), FileError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let store = self.files.inner().store.clone();
        let part_bytes = store.part_bytes(self.files.inner().config.part_bytes);
        let (mut part, mut part_len) = (Vec::new(), 0);
        let mut data = pin!(data);
        while let Some(piece) = data.next().await {
            let mut piece = piece.map_err(|error| FileError::Source(error.into()))?;
            // To the byte: some stores take an upload only if all of its parts but the last have one size.
            while part_len + piece.len() >= part_bytes {
                part.push(piece.split_to(part_bytes - part_len));
                part_len = 0;
                self.send(mem::take(&mut part), part_bytes).await?;
            }
            if !piece.is_empty() {
                part_len += piece.len();
                part.push(piece);
            }
        }
        let tenant = self.files.scope.context().tenant;
        match &mut self.multipart {
            None => {
                self.make_room(part_len).await?;
                let id = self.id;
                self.finish(async move { store.put(tenant, id, PutPayload::from_iter(part)).await })
                    .await
            }
            Some(_) => {
                if part_len > 0 {
                    self.send(part, part_len).await?;
                }
                // The last moment at which somebody may have given it up, or the tenant may have been taken out of service.
                self.make_room(0).await?;
                match self.multipart.take() {
                    Some(mut multipart) => {
                        self.finish(async move {
                            let Err(error) = multipart.complete().await else {
                                return Ok(());
                            };
                            // Nobody else knows the parts: they would stay for ever where the store has no rule that removes them.
                            let _ = multipart.abort().await;
                            Err(store.failed(error))
                        })
                        .await
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Lets the store do this to its end, also when nobody waits for it any more: a folder writes in a thread of its own, which is not
    /// stopped by a drop, and who cleans up before it is done would leave what it writes afterwards.
    async fn finish(
        &mut self,
        act: impl Future<Output = Result<(), FileError>> + Send + 'static,
    ) -> Result<(), FileError> {
        let sent = self.sending.insert(tokio::spawn(act)).await;
        self.sending = None;
        sent.unwrap_or_else(|ended| Err(FileError::Folder(std::io::Error::other(ended))))
    }

    async fn send(&mut self, part: Vec<Bytes>, part_len: usize) -> Result<(), FileError> {
        self.make_room(part_len).await?;
        if self.multipart.is_none() {
            let tenant = self.files.scope.context().tenant;
            self.multipart = Some(self.files.inner().store.begin(tenant, self.id).await?);
        }
        if let Some(multipart) = &mut self.multipart {
            let sent = multipart.put_part(PutPayload::from_iter(part)).await;
            sent.map_err(|error| self.files.inner().store.failed(error))?;
        }
        Ok(())
    }

    /// Counts bytes before they are sent.
    async fn make_room(&mut self, bytes: usize) -> Result<(), FileError> {
        let file_bytes_max = self.files.file_bytes_max;
        self.bytes += bytes as u64;
        if self.bytes > file_bytes_max {
            return Err(FileError::TooLarge { max: file_bytes_max });
        }
        let max = self.files.bytes_max;
        loop {
            match index::grow(&self.files.scope, self.id, bytes as u64, max).await? {
                Room::Given => return Ok(()),
                Room::GivenUp => return Err(FileError::GivenUp),
                // What killed processes left is nobody's, so that it can't keep a tenant from its room for ever.
                Room::Full { .. } if !self.has_swept => {
                    self.has_swept = true;
                    self.files.sweep().await?;
                }
                Room::Full { used } => return Err(FileError::QuotaExceeded { used, max }),
            }
        }
    }

    /// The bytes are there: now the file is.
    async fn place(mut self, path: &FilePath) -> Result<StoredFile, FileError> {
        for _ in 0..PLACINGS_MAX {
            match index::place(&self.files.scope, self.id, path).await? {
                Placed::Here { file, replaced } => {
                    self.is_over = true;
                    if let Some(replaced) = replaced
                        && let Err(error) = self.files.remove(replaced).await
                    {
                        // It is not listed any more; the next recount removes it.
                        tracing::warn!(tenant.id = %self.files.scope.context().tenant, %error, "a replaced file could not be removed yet");
                    }
                    return Ok(file);
                }
                Placed::GivenUp => return Err(FileError::GivenUp),
                Placed::Taken => {
                    let existing = index::look_alike(&self.files.scope, path).await?;
                    if let Some(existing) = existing.filter(|existing| existing != path.as_str()) {
                        return Err(FileError::LookAlike { existing });
                    }
                }
            }
        }
        Err(FileError::GivenUp)
    }
}

impl Drop for Upload {
    /// Removes what was sent, in the background. Whether it came to its place after all is asked before.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (files, id) = (self.files.clone(), self.id);
        let (sending, multipart) = (self.sending.take(), self.multipart.take());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // The next recount finds it.
            return;
        };
        runtime.spawn(async move {
            if let Some(sending) = sending {
                let _ = sending.await;
            }
            if let Some(mut multipart) = multipart
                && let Err(error) = multipart.abort().await
            {
                tracing::debug!(%error, "an upload's parts could not be removed");
            }
            let removed = async {
                if index::doom_upload(&files.scope, id).await? {
                    files.remove(id).await?;
                }
                Ok::<_, FileError>(())
            };
            if let Err(error) = removed.await {
                tracing::warn!(
                    tenant.id = %files.scope.context().tenant, %error,
                    "what an upload left could not be removed yet; a recount will"
                );
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_one_line_of_two_words() {
        for good in ["text/plain", "application/vnd.x+json; charset=utf-8"] {
            assert!(check_content_type(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text",
            "/plain",
            "text/",
            "text/plain\r\nx: y",
            "text/\u{e9}",
            &"x/".repeat(101),
        ] {
            assert!(check_content_type(bad).is_err(), "{bad}");
        }
    }
}
