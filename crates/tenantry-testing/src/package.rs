//! Programs of the distribution that tests need: installed, or their packages unpacked into a folder of ours, which needs no
//! rights.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program, and the folder with its libraries where those are not the system's.
pub(crate) struct Program {
    path: PathBuf,
    libraries: Option<PathBuf>,
}

impl Program {
    /// The path, and what its environment needs.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs the program, or something that runs it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// On the system, unpacked before, or unpacked now.
pub(crate) fn find(name: &str, folder: &str, packages: &[&str]) -> Result<Program, String> {
    for folder in ["/usr/sbin", "/usr/bin", "/usr/local/bin"] {
        let path = Path::new(folder).join(name);
        if path.exists() {
            return Ok(Program { path, libraries: None });
        }
    }
    let cache = std::env::var_os("TENANTRY_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/tenantry")))
        .ok_or("neither TENANTRY_CACHE nor HOME is set")?;
    let unpacked = cache.join(name);
    let path = unpacked.join(folder).join(name);
    if !path.exists() {
        unpack(name, &cache, &unpacked, &path, packages)?;
    }
    let libraries = fs::read_dir(unpacked.join("usr/lib"))
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .ok_or("the packages hold no libraries")?;
    Ok(Program {
        path,
        libraries: Some(libraries),
    })
}

/// Into a folder beside, which takes its place whole: tests run side by side.
fn unpack(name: &str, cache: &Path, unpacked: &Path, path: &Path, packages: &[&str]) -> Result<(), String> {
    let own = cache.join(format!("{name}-{}", crate::random_hex()));
    fs::create_dir_all(&own).map_err(|error| error.to_string())?;
    let done = download(packages, &own).and_then(|()| {
        let packages = fs::read_dir(&own).map_err(|error| error.to_string())?;
        for package in packages.filter_map(Result::ok) {
            let path = package.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&own))?;
            }
        }
        Ok(())
    });
    let moved = done.and_then(|()| match fs::rename(&own, unpacked) {
        // Another test was faster.
        Err(_) if path.exists() => Ok(()),
        other => other.map_err(|error| error.to_string()),
    });
    let _ = fs::remove_dir_all(&own);
    moved
}

/// Where the lists of packages are missing or old, root gets them first.
fn download(packages: &[&str], into: &Path) -> Result<(), String> {
    let get = || run(Command::new("apt-get").arg("download").args(packages).current_dir(into));
    match get() {
        Err(_) if rustix::process::geteuid().is_root() => {
            run(Command::new("apt-get").arg("update"))?;
            get()
        }
        done => done,
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
