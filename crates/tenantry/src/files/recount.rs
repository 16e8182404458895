//! Making store and list agree again after anything.

use std::{collections::HashMap, time::SystemTime};

use super::{
    FileError, ScopedFiles,
    index::{self, State},
};

/// What a recount found, and mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recount {
    /// Uploads that were given up and files that were deleted, whose bytes are gone now.
    pub leftovers: u64,
    /// Bytes in the store that belonged to no file, and are gone now.
    pub orphans: u64,
    /// Files that are listed and not in the store, or of another size there. They stay listed: somebody has to decide.
    pub missing: u64,
    /// How many bytes were counted before.
    pub bytes_before: u64,
    /// How many there are.
    pub bytes: u64,
}

impl ScopedFiles {
    /// Removes what killed processes left, and counts the tenant's bytes anew. To be done once in a while, and after a
    /// restore of the database or of the store.
    ///
    /// What changed within [`upload_idle_max`](super::FilesConfig::upload_idle_max) is left to whoever is at work on it.
    ///
    /// # Errors
    ///
    /// [`FileError::Database`], [`FileError::Store`], [`FileError::Folder`]; what was mended until then is.
    ///
    /// # Cancel safety
    ///
    /// Dropped, a part is mended.
    pub async fn recount(&self) -> Result<Recount, FileError> {
        let mut recount = Recount {
            leftovers: self.sweep().await?,
            ..Recount::default()
        };
        let tenant = self.scope.context().tenant;
        let store = &self.inner().store;
        let mut listed: HashMap<_, _> = index::all(&self.scope)
            .await?
            .into_iter()
            .map(|(id, state, bytes)| (id, (state, bytes)))
            .collect();
        let idle_max = self.inner().config.upload_idle_max;
        for held in store.list(tenant).await? {
            let is_old = SystemTime::now()
                .duration_since(held.modified)
                .is_ok_and(|age| age >= idle_max);
            match held.id {
                Some(id) => match listed.remove(&id) {
                    Some((State::Stored, bytes)) if bytes != held.bytes => {
                        // Listed again, to be looked at below.
                        listed.insert(id, (State::Stored, bytes));
                    }
                    Some(_) => {}
                    // One that is younger may belong to a row that came after the list was read.
                    None if is_old => {
                        store.remove(tenant, id).await?;
                        recount.orphans += 1;
                    }
                    None => {}
                },
                None if is_old && is_staged(&held.name) => {
                    store.remove_staged(tenant, held.name).await?;
                    recount.orphans += 1;
                }
                None => {}
            }
        }
        for (id, (state, bytes)) in listed {
            if state == State::Stored && index::is_stored(&self.scope, id).await? {
                let opened = store.open(tenant, id).await?;
                if opened.is_none_or(|opened| opened.meta.size != bytes) {
                    tracing::error!(tenant.id = %tenant, file = %id, "a file that is listed is not in the store as it was kept");
                    recount.missing += 1;
                }
            }
        }
        (recount.bytes_before, recount.bytes) = index::count_anew(&self.scope).await?;
        Ok(recount)
    }
}

/// What a local folder calls a file that is being written: our name, and a number behind `#`.
fn is_staged(name: &str) -> bool {
    name.split_once('#').is_some_and(|(id, number)| {
        uuid::Uuid::try_parse(id).is_ok() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
