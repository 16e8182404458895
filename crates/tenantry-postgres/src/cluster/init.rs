//! Making a data folder: complete or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};

use super::{ClusterOptions, Progress, SUPERUSER, StartError, log};
use crate::account::Account;

/// 40 letters and digits hold 238 bits, and need no quoting anywhere.
const PASSWORD_LENGTH: usize = 40;

/// The superuser's password of the cluster in `folder`, which is made first if there is none.
pub(super) fn ensure(options: &ClusterOptions, folder: &Path, account: &Account) -> Result<SecretString, StartError> {
    remove_half_made(folder);
    let data = folder.join("data");
    let password_file = folder.join("password");
    if data.exists() {
        check_version(options, folder, &data)?;
        return match fs::read_to_string(&password_file) {
            Ok(text) => Ok(SecretString::from(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StartError::PasswordLost {
                folder: folder.to_owned(),
            }),
            Err(source) => Err(StartError::Folder {
                doing: "read",
                path: password_file,
                source,
            }),
        };
    }
    options.tell(Progress::Initialising);
    let password = random_password();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Folder {
            doing: "write",
            path,
            source,
        }
    };
    write_secret(&password_file, &password).map_err(failed(&password_file))?;
    let staging = Staging::make(folder, account, &password)?;
    init(options, folder, account, &staging)?;
    // Only a complete data folder ever gets its name.
    fs::rename(staging.data(), &data).map_err(failed(&data))?;
    Ok(password)
}

fn init(options: &ClusterOptions, folder: &Path, account: &Account, staging: &Staging) -> Result<(), StartError> {
    // Letters beyond ASCII have their lower case in C.UTF-8, and the order is the same on every system; macOS has it
    // since 14 only.
    let mut output = String::new();
    for locale in ["C.UTF-8", "C"] {
        let mut command = options.binaries.command("initdb");
        command
            .arg("-D")
            .arg(staging.data())
            .args(["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8"]);
        command
            .args(["--no-instructions", "--data-checksums"])
            .arg(format!("--locale={locale}"));
        command.arg(format!("--pwfile={}", staging.password_file().display()));
        if !options.fsync {
            command.arg("--no-sync");
        }
        account.apply(&mut command);
        command.current_dir(&staging.0).env("LC_ALL", "C").stdin(Stdio::null());
        let done = command.output().map_err(|source| StartError::Run {
            program: options.binaries.bin_dir().join("initdb"),
            source,
        })?;
        if done.status.success() {
            return Ok(());
        }
        output = log::last_lines(&String::from_utf8_lossy(&done.stderr));
        if !output.contains("invalid locale") {
            break;
        }
    }
    Err(StartError::Init {
        folder: folder.to_owned(),
        output,
    })
}

/// The folder in which `initdb` works. Its name is random: what a killed start left running can't disturb this one.
struct Staging(PathBuf);

impl Staging {
    fn make(folder: &Path, account: &Account, password: &SecretString) -> Result<Self, StartError> {
        let failed = |source| StartError::Folder {
            doing: "write into",
            path: folder.to_owned(),
            source,
        };
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(folder)
            .map_err(failed)?;
        let staging = Self(made.keep());
        write_secret(&staging.password_file(), password).map_err(failed)?;
        account
            .own(&staging.password_file())
            .and_then(|()| account.own(&staging.0))
            .map_err(failed)?;
        Ok(staging)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn password_file(&self) -> PathBuf {
        self.0.join("password")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const PREFIX: &str = "init-";

fn remove_half_made(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
    {
        let _ = fs::remove_dir_all(entry.path());
    }
}

fn check_version(options: &ClusterOptions, folder: &Path, data: &Path) -> Result<(), StartError> {
    let path = data.join("PG_VERSION");
    let found = fs::read_to_string(&path).map_err(|source| StartError::Folder {
        doing: "read",
        path,
        source,
    })?;
    let have = options.binaries.version().major;
    if found.trim() == have.to_string() {
        return Ok(());
    }
    Err(StartError::OtherVersion {
        folder: folder.to_owned(),
        found: found.trim().to_owned(),
        have,
    })
}

fn random_password() -> SecretString {
    let mut rng = rand::rng();
    let letters = (0..PASSWORD_LENGTH).map(|_| char::from(rng.sample(rand::distr::Alphanumeric)));
    SecretString::from(letters.collect::<String>())
}

fn write_secret(path: &Path, secret: &SecretString) -> io::Result<()> {
    // A file that exists keeps its mode, so an older one goes first.
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", secret.expose_secret())?;
    file.sync_all()
}
