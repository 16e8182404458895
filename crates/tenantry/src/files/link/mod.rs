//! Signed links: who has one may do one thing with one file of one tenant, for a while.

mod keys;
mod token;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenantry_core::{Actor, Context, Role};

use super::{FileError, FilePath, ScopedFiles};
use crate::{Error, ErrorKind, Tenantry, Verified};
pub use keys::{LinkKey, LinkKeyError, LinkKeys};
pub use token::LinkVerb;
use token::{Claims, Signer};

/// The longest life of a link.
const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a link opens.
#[derive(Debug)]
pub struct LinkedFile {
    /// The tenant's files, with the rights of who signed the link, and no more than the link's.
    pub files: ScopedFiles,
    /// The file.
    pub path: FilePath,
    /// How large a file may be that is uploaded.
    pub bytes_max: u64,
}

impl ScopedFiles {
    /// Signs a link to download this file, whether it is there or not: the text that [`Tenantry::open_file_link`] takes, and that
    /// [`tenantry::axum::file_links`](crate::axum::file_links) takes in the query as `link`.
    ///
    /// It lives a week at most. It ends sooner when its key is given up, when the tenant is suspended or deleted, or when
    /// the person who signed it is no member any more, or the API key that did is revoked or over. Whoever has it can pass it on: it
    /// is a credential.
    ///
    /// # Errors
    ///
    /// [`FileError::Path`], [`FileError::NoLinkKeys`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example(scope: tenantry::Scope) -> Result<String, tenantry::files::FileError> {
    /// use std::time::Duration;
    ///
    /// let link = scope.files()?.link("letters/ada.txt", Duration::from_secs(900))?;
    /// Ok(format!("https://app.example.com/files?link={link}"))
    /// # }
    /// ```
    pub fn link(&self, path: &str, life: Duration) -> Result<String, FileError> {
        self.sign(path, LinkVerb::Download, life, 0)
    }

    /// Signs a link to upload a file of at most so many bytes to this path, in the place of one that is there.
    ///
    /// # Errors
    ///
    /// As [`link`](Self::link), and [`ErrorKind::ReadOnlyRole`] for who may not write.
    pub fn upload_link(&self, path: &str, bytes_max: u64, life: Duration) -> Result<String, FileError> {
        if !self.scope.context().role.may_write() {
            return Err(Error::new(ErrorKind::ReadOnlyRole, "a viewer signs no links to upload").into());
        }
        self.sign(path, LinkVerb::Upload, life, bytes_max)
    }

    fn sign(&self, path: &str, verb: LinkVerb, life: Duration, bytes_max: u64) -> Result<String, FileError> {
        let keys = self.inner().config.link_keys.as_ref().ok_or(FileError::NoLinkKeys)?;
        let context = self.scope.context();
        let claims = Claims {
            tenant: context.tenant,
            signer: Signer::of(context),
            role: context.role.min(verb.role()),
            verb,
            ends_at_s: seconds(SystemTime::now() + life.min(LIFE_MAX)),
            bytes_max,
            path: FilePath::parse(path)?,
        };
        Ok(claims.sign(keys))
    }
}

impl LinkVerb {
    /// What a link gives at most.
    fn role(self) -> Role {
        match self {
            Self::Download => Role::Viewer,
            Self::Upload => Role::Member,
        }
    }
}

impl Tenantry {
    /// Checks a link, and gives what it opens.
    ///
    /// # Errors
    ///
    /// [`FileError::BadLink`] for one that is not signed here, or changed, or over, or whose signer is no member any more, is an API
    /// key that is revoked or over, or may not do by now what the link is for;
    /// [`FileError::WrongVerb`]; [`FileError::NotConfigured`], [`FileError::NoLinkKeys`]; [`FileError::Database`] where the
    /// catalog can't be asked. That the tenant is suspended or gone is told by what is done with the files.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn open_file_link(&self, link: &str, verb: LinkVerb) -> Result<LinkedFile, FileError> {
        let files = self.files().ok_or(FileError::NotConfigured)?;
        let keys = files.0.config.link_keys.as_ref().ok_or(FileError::NoLinkKeys)?;
        let claims = Claims::open(link, keys).ok_or(FileError::BadLink)?;
        if claims.ends_at_s <= seconds(SystemTime::now()) {
            return Err(FileError::BadLink);
        }
        if claims.verb != verb {
            return Err(FileError::WrongVerb);
        }
        let unknown = |error: crate::ResolveError| Error::new(ErrorKind::Unavailable, error.to_string());
        let (actor, role_now) = match claims.signer {
            Signer::Account(account) => {
                let resolver = self.resolver().map_err(unknown)?;
                let role = resolver.role_of(claims.tenant, account).await.map_err(unknown)?;
                (Actor::Account(account), role)
            }
            Signer::ApiKey(key) => {
                let resolver = self.resolver().map_err(unknown)?;
                let role = resolver.role_of_key(claims.tenant, key).await.map_err(unknown)?;
                (Actor::ApiKey(key), role)
            }
            Signer::Application => {
                let reason = "signed link to a file".to_owned();
                (Actor::System { reason }, Some(claims.role))
            }
        };
        let role = role_now.ok_or(FileError::BadLink)?.min(claims.role);
        // A link to write gives nobody who may only read by now the right to read either: it is refused as a whole.
        if role < verb.role() {
            return Err(FileError::BadLink);
        }
        let context = Context {
            tenant: claims.tenant,
            actor,
            role,
        };
        Ok(LinkedFile {
            files: self.scope(Verified::new(context)).files()?,
            path: claims.path,
            bytes_max: claims.bytes_max,
        })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
