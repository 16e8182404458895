//! Passwords: which are accepted, and how they are stored and checked.

use std::{
    collections::HashSet,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version, password_hash::phc::PasswordHash,
};
use secrecy::{ExposeSecret, SecretString};
use tenantry_core::Email;
use tokio::sync::Semaphore;

/// The fewest characters.
pub const PASSWORD_LEN_MIN: usize = 8;
/// The most characters; more would only be work for the hash.
pub const PASSWORD_LEN_MAX: usize = 128;

/// Memory in KiB, passes and lanes of Argon2id: the second of the equal choices in OWASP's password storage cheat sheet.
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// What log-ins to accounts that don't exist are checked against, so that they take as long: made with [`COST`], and no
/// known password's.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$dGVuYW50cnkgbm9ib2R5IQ$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// How many callers may wait for a hash. At some 50 ms each, later ones would wait longer than anybody does.
const WAITING_MAX: usize = 200;

/// A password that keeps the rules: 8 to 128 characters, none of the common ones, not the person's own e-mail.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// Why a text is no acceptable password.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Too short or too long.
    #[error("a password has 8 to 128 characters")]
    Length,
    /// One of those that everybody tries first.
    #[error("this password is among the most common ones: choose another")]
    Common,
    /// It is the e-mail, or the part before the `@`.
    #[error("a password may not be the e-mail address: choose another")]
    Email,
}

impl Password {
    /// Checks a new password of the person with this e-mail.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn new(text: impl Into<String>, email: &Email) -> Result<Self, PasswordError> {
        let text = text.into();
        if !(PASSWORD_LEN_MIN..=PASSWORD_LEN_MAX).contains(&text.chars().count()) {
            return Err(PasswordError::Length);
        }
        let lower = text.to_lowercase();
        if COMMON.contains(lower.as_str()) || lower.chars().all(|c| lower.starts_with(c)) {
            return Err(PasswordError::Common);
        }
        let local = email.as_str().split('@').next();
        if lower == email.as_str() || Some(lower.as_str()) == local {
            return Err(PasswordError::Email);
        }
        Ok(Self(text.into()))
    }
}

/// The most common passwords of eight characters and more, from public leaks, in lower case; see the file's head.
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("common_passwords.txt")
        .lines()
        .filter(|line| !line.starts_with("# "))
        .collect()
});

/// No hash was made or checked: too many others are waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many log-ins at once")]
pub(crate) struct Busy;

/// The outcome of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Check {
    Wrong,
    Right,
    /// Right, and to be stored anew: it was hashed at another cost.
    RightRehashed(String),
}

/// Makes and checks hashes on blocking threads, as many at once as there are processors: each takes 19 MiB, so an
/// unbounded number would let anybody fill the memory by logging in.
pub(crate) struct Hasher {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            permits: Arc::new(Semaphore::new(processors.min(16))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Hashes a new password, or a random text that nobody knows.
    pub(crate) async fn hash(&self, password: Option<&Password>) -> Result<String, Busy> {
        let text = match password {
            Some(password) => password.0.clone(),
            None => crate::secret::random_text().into(),
        };
        self.run(move || hash(&text)).await
    }

    /// Checks a password against a stored hash, or against nobody's.
    pub(crate) async fn check(&self, password: SecretString, stored: Option<&str>) -> Result<Check, Busy> {
        let stored = stored.unwrap_or(NOBODY).to_owned();
        self.run(move || check(&password, &stored)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            // Held by the work, not by the caller: a caller that goes away frees no memory.
            let _permit = permit;
            work()
        });
        task.await.map_err(|_| Busy)
    }
}

/// A place in the queue, given back on drop.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Result<Self, Busy> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            Ok(place)
        } else {
            Err(Busy)
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).expect("the cost is within Argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &SecretString) -> String {
    argon2()
        .hash_password(password.expose_secret().as_bytes())
        .expect("the operating system gives randomness and a password is far below Argon2's limit")
        .to_string()
}

fn check(password: &SecretString, stored: &str) -> Check {
    // A hash that can't be read is nobody's: the log-in fails like any other.
    let parsed = PasswordHash::new(stored).unwrap_or_else(|_| PasswordHash::new(NOBODY).expect("a valid hash"));
    if argon2()
        .verify_password(password.expose_secret().as_bytes(), &parsed)
        .is_err()
    {
        return Check::Wrong;
    }
    let (memory, passes, lanes) = COST;
    if stored.starts_with(&format!("$argon2id$v=19$m={memory},t={passes},p={lanes}$")) {
        Check::Right
    } else {
        Check::RightRehashed(hash(password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Result<Password, PasswordError> {
        Password::new(text, &"ann.smith@example.com".parse().expect("an e-mail"))
    }

    #[test]
    fn bad_passwords_are_refused_with_their_reason() {
        assert!(password("correct horse battery").is_ok());
        assert!(password(&"ü".repeat(7)).is_err());
        for (text, error) in [
            ("short7!", PasswordError::Length),
            (&"x1".repeat(65) as &str, PasswordError::Length),
            (&"x".repeat(1_000_000), PasswordError::Length),
            ("password1", PasswordError::Common),
            ("PassWord1", PasswordError::Common),
            ("        ", PasswordError::Common),
            ("ann.smith", PasswordError::Email),
            ("Ann.Smith@example.com", PasswordError::Email),
        ] {
            assert_eq!(password(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[tokio::test]
    async fn only_the_right_password_fits_its_hash() {
        let hasher = Hasher::new();
        let stored = hasher
            .hash(Some(&password("correct horse").expect("valid")))
            .await
            .expect("a hash");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(
            hasher.check("correct horse".into(), Some(&stored)).await,
            Ok(Check::Right)
        );
        assert_eq!(
            hasher.check("correct horsf".into(), Some(&stored)).await,
            Ok(Check::Wrong)
        );
        assert_eq!(hasher.check("correct horse".into(), None).await, Ok(Check::Wrong));
        assert_eq!(
            hasher.check("correct horse".into(), Some("$argon2id$junk")).await,
            Ok(Check::Wrong)
        );
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_made_anew() {
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let stored = weak.hash_password(b"correct horse").unwrap().to_string();
        let Check::RightRehashed(new) = Hasher::new()
            .check("correct horse".into(), Some(&stored))
            .await
            .unwrap()
        else {
            panic!("not hashed anew")
        };
        assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    }

    #[test]
    fn nobodys_hash_costs_what_a_real_one_costs() {
        let (memory, passes, lanes) = COST;
        assert!(NOBODY.starts_with(&format!("$argon2id$v=19$m={memory},t={passes},p={lanes}$")));
        let parsed = PasswordHash::new(NOBODY).expect("a valid hash");
        assert_eq!(parsed.hash.expect("an output").len(), 32);
    }

    #[test]
    fn a_queue_that_is_full_refuses_and_empties_again() {
        let waiting = AtomicUsize::new(WAITING_MAX);
        assert!(Waiting::enter(&waiting).is_err());
        assert_eq!(waiting.load(Ordering::Relaxed), WAITING_MAX);
        waiting.store(0, Ordering::Relaxed);
        drop(Waiting::enter(&waiting));
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
