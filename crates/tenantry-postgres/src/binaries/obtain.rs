//! Getting PostgreSQL from the distribution, only after asking.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use super::{Binaries, FindError, FindOptions};
use crate::folder;
use crate::version::OLDEST_MAJOR;

/// How to look for PostgreSQL, and whether it may be installed.
#[derive(Default)]
pub struct ObtainOptions<'a> {
    /// Where to look first.
    pub find: FindOptions,
    /// The user has agreed beforehand (`--yes`).
    pub yes: bool,
    /// Shows a question to the user; without it (no terminal), the answer is no.
    pub ask: Option<&'a dyn Fn(&str) -> bool>,
}

/// Why PostgreSQL could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObtainError {
    /// There is none, and nothing may or can be installed; the text says what to do.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Another process may be installing at the moment, and can't be waited for.
    #[error("can't wait for other installations: {0}; set TENANTRY_CACHE to a folder that can be written")]
    Lock(#[source] io::Error),
    /// The package manager has no version that is new enough.
    #[error(
        "this system's packages have no PostgreSQL {OLDEST_MAJOR} or newer: add PostgreSQL's own (https://www.postgresql.org/download/), or name a folder of programs in TENANTRY_PG_BIN"
    )]
    TooOld,
    /// The package manager failed.
    #[error("`{command}` failed, so PostgreSQL was not installed: {reason}")]
    Install {
        /// What was run.
        command: String,
        /// The end of what it said.
        reason: String,
    },
}

impl Binaries {
    /// Finds PostgreSQL, or installs the distribution's package after asking.
    ///
    /// Debian's package would start a server of its own; that is switched off when the package comes in by us.
    ///
    /// # Errors
    ///
    /// When there is none and the answer was no (or nobody could be asked), or when installing failed.
    pub fn obtain(options: &ObtainOptions<'_>) -> Result<Self, ObtainError> {
        obtain(options, || Self::find(&options.find), Manager::here())
    }
}

/// The steps, with what they depend on from outside.
fn obtain(
    options: &ObtainOptions<'_>,
    find: impl Fn() -> Result<Binaries, FindError>,
    manager: Option<impl Installer>,
) -> Result<Binaries, ObtainError> {
    let missing = match find() {
        Ok(found) => return Ok(found),
        Err(error @ FindError::Named { .. }) => return Err(error.into()),
        Err(error) => error,
    };
    let Some(manager) = manager else {
        return Err(missing.into());
    };
    let question = format!("{missing}\nInstall it now with `{}`?", manager.shown());
    if !options.yes && !options.ask.is_some_and(|ask| ask(&question)) {
        return Err(missing.into());
    }
    // Package managers run one at a time; who waited finds what the other installed.
    let _lock = folder::cache()
        .and_then(|cache| File::create(cache.join("install.lock")))
        .and_then(|lock| lock.lock().map(|()| lock))
        .map_err(ObtainError::Lock)?;
    match find() {
        Ok(found) => return Ok(found),
        Err(_) => manager.install()?,
    }
    Ok(find()?)
}

/// What installs packages here.
trait Installer {
    /// The command as a person would type it.
    fn shown(&self) -> String;
    fn install(&self) -> Result<(), ObtainError>;
}

/// What a person can do on this system to get PostgreSQL.
pub(crate) fn advice() -> String {
    match Manager::detect() {
        Some(manager) => format!("install it with `{}`", manager.shown()),
        None => "install it with this system's package manager".to_owned(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Apk,
    Brew,
}

impl Manager {
    fn detect() -> Option<Self> {
        let known = [
            (Self::Apt, "apt-get"),
            (Self::Dnf, "dnf"),
            (Self::Apk, "apk"),
            (Self::Brew, "brew"),
        ];
        known
            .into_iter()
            .find(|(_, program)| on_path(program))
            .map(|(manager, _)| manager)
    }

    /// The package manager, if we are allowed to use it.
    fn here() -> Option<Self> {
        let root = geteuid().is_root();
        Self::detect().filter(|manager| {
            if *manager == Self::Brew {
                !root
            } else {
                root || on_path("sudo")
            }
        })
    }
}

impl Installer for Manager {
    fn shown(&self) -> String {
        let command = match self {
            Self::Apt => "apt-get install -y postgresql",
            Self::Dnf => "dnf install -y postgresql-server postgresql-contrib",
            Self::Apk => "apk add postgresql postgresql-contrib",
            Self::Brew => return "brew install postgresql@18".to_owned(),
        };
        if geteuid().is_root() {
            command.to_owned()
        } else {
            format!("sudo {command}")
        }
    }

    fn install(&self) -> Result<(), ObtainError> {
        match self {
            Self::Apt => install_by_apt(),
            Self::Dnf => run(&["dnf", "install", "-y", "postgresql-server", "postgresql-contrib"]).map(drop),
            Self::Apk => run(&["apk", "add", "postgresql", "postgresql-contrib"]).map(drop),
            Self::Brew => run(&["brew", "install", "postgresql@18"]).map(drop),
        }
    }
}

fn install_by_apt() -> Result<(), ObtainError> {
    run(&["apt-get", "update"])?;
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    if !settings.exists() {
        // In its own step, so that the setting stands before the package that would make and start a cluster.
        run(&[
            "apt-get",
            "install",
            "-y",
            "--no-install-recommends",
            "postgresql-common",
        ])?;
        run(&[
            "sed",
            "-i",
            "-E",
            "s/^#?(create_main_cluster) .*$/\\1 = false/",
            &settings.to_string_lossy(),
        ])?;
    }
    let listed = run(&["apt-cache", "search", "--names-only", "^postgresql-[0-9]+$"])?;
    let major = newest_package(&listed).ok_or(ObtainError::TooOld)?;
    run(&[
        "apt-get",
        "install",
        "-y",
        "--no-install-recommends",
        &format!("postgresql-{major}"),
    ])
    .map(drop)
}

/// The newest major version among lines such as `postgresql-15 - The World's Most Advanced …`, if new enough.
fn newest_package(listed: &str) -> Option<u32> {
    listed
        .lines()
        .filter_map(|line| {
            line.strip_prefix("postgresql-")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .filter(|major| *major >= OLDEST_MAJOR)
        .max()
}

fn run(words: &[&str]) -> Result<String, ObtainError> {
    let words: Vec<&str> = if geteuid().is_root() || words[0] == "brew" {
        words.to_vec()
    } else {
        [&["sudo"], words].concat()
    };
    let failed = |reason| ObtainError::Install {
        command: words.join(" "),
        reason,
    };
    let output = Command::new(words[0])
        .args(&words[1..])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::inherit())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(3)
            .collect();
        return Err(failed(last.into_iter().rev().collect::<Vec<_>>().join("; ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| fs::metadata(dir.join(program)).is_ok()))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Counts what it is asked to do.
    #[derive(Default)]
    struct Pretended {
        installed: Cell<u32>,
    }

    impl Installer for &Pretended {
        fn shown(&self) -> String {
            "install postgresql".to_owned()
        }

        fn install(&self) -> Result<(), ObtainError> {
            self.installed.set(self.installed.get() + 1);
            Ok(())
        }
    }

    fn missing() -> FindError {
        FindError::None {
            wanted: "15 or newer".into(),
            too_old: Vec::new(),
            advice: "install it".into(),
        }
    }

    fn nowhere() -> Result<Binaries, FindError> {
        Err(missing())
    }

    #[test]
    fn nothing_is_installed_without_a_yes() {
        let manager = Pretended::default();
        let asked = RefCell::new(Vec::new());
        let no = |question: &str| {
            asked.borrow_mut().push(question.to_owned());
            false
        };
        let unasked = ObtainOptions::default();
        let refused = ObtainOptions {
            ask: Some(&no),
            ..ObtainOptions::default()
        };
        for options in [unasked, refused] {
            let error = obtain(&options, nowhere, Some(&manager)).unwrap_err();
            assert_eq!(error.to_string(), missing().to_string());
        }
        assert_eq!(manager.installed.get(), 0);
        assert_eq!(
            *asked.borrow(),
            [format!("{}\nInstall it now with `install postgresql`?", missing())]
        );
    }

    #[test]
    fn a_yes_beforehand_or_on_the_question_installs_once() {
        let yes = |_: &str| true;
        let asking = ObtainOptions {
            ask: Some(&yes),
            ..ObtainOptions::default()
        };
        let agreed = ObtainOptions {
            yes: true,
            ..ObtainOptions::default()
        };
        for options in [asking, agreed] {
            let manager = Pretended::default();
            let error = obtain(&options, nowhere, Some(&manager)).unwrap_err();
            assert!(matches!(error, ObtainError::Find(FindError::None { .. })), "{error}");
            assert_eq!(manager.installed.get(), 1);
        }
    }

    #[test]
    fn a_named_folder_that_can_not_be_used_is_no_reason_to_install() {
        let manager = Pretended::default();
        let named = || {
            Err(FindError::Named {
                source_name: "the option",
                reason: "it is gone".into(),
            })
        };
        let options = ObtainOptions {
            yes: true,
            ..ObtainOptions::default()
        };
        let error = obtain(&options, named, Some(&manager)).unwrap_err();
        assert!(matches!(error, ObtainError::Find(FindError::Named { .. })), "{error}");
        assert_eq!(manager.installed.get(), 0);
    }

    #[test]
    fn without_a_package_manager_the_sentence_says_what_to_do() {
        let options = ObtainOptions {
            yes: true,
            ..ObtainOptions::default()
        };
        let error = obtain(&options, nowhere, None::<&Pretended>).unwrap_err().to_string();
        assert_eq!(error, missing().to_string());
    }

    #[test]
    fn the_newest_package_of_the_distribution_is_taken_if_it_is_new_enough() {
        assert_eq!(
            newest_package("postgresql-15 - x\npostgresql-17 - y\npostgresql-9 - z\n"),
            Some(17)
        );
        assert_eq!(newest_package("postgresql-14 - too old\n"), None);
        assert_eq!(newest_package(""), None);
    }
}
