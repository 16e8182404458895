//! The application's migrations: a folder of `NNNN_name.sql`, or the same built into a program.

use std::{collections::BTreeMap, fs, path::Path};

use sha2::{Digest, Sha256};

use super::header::Header;

/// All migrations of an application, in the order of their versions.
#[derive(Debug, Clone, Default)]
pub struct Files {
    files: Vec<File>,
    /// Files of single tenants, by slug.
    overlays: BTreeMap<String, Vec<File>>,
}

/// The folder in which single tenants have folders.
const TENANTS: &str = "tenants";

/// One migration.
#[derive(Debug, Clone)]
pub struct File {
    /// The number before the first underscore.
    pub version: i64,
    /// The file's whole name, `NNNN_name.sql`.
    pub name: String,
    /// Its text.
    pub text: String,
    /// SHA-256 of the text with line ends made `\n`, in hex.
    pub checksum: String,
    /// What its header comments declare.
    pub header: Header,
    /// Of one tenant's own file among the fleet's: the migration that it comes behind.
    pub on_top_of: Option<i64>,
}

/// Why the migrations could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder or a file in it could not be read.
    #[error("cannot read the migrations in `{path}`")]
    Read {
        /// Folder or file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file's name is not `NNNN_name.sql`.
    #[error("`{0}` is no name of a migration; name it `NNNN_name.sql`, as `0001_contacts.sql`")]
    Name(String),
    /// Two files carry the same version.
    #[error("`{first}` and `{second}` have the same version; give the later one the next free number")]
    SameVersion {
        /// One of the two.
        first: String,
        /// The other one.
        second: String,
    },
    /// A header comment is not understood.
    #[error("{file}:{line}: {reason}")]
    Header {
        /// The file.
        file: String,
        /// Line of the comment.
        line: u32,
        /// What is wrong, and what is known.
        reason: String,
    },
}

impl Files {
    /// Reads every `.sql` file of a folder, and of the folders `tenants/<slug>` in it those of single tenants; other files and
    /// folders are left alone.
    ///
    /// # Errors
    ///
    /// An unreadable folder, a name without a version, two files of one version, an unknown declaration.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, FilesError> {
        let dir = dir.as_ref();
        let mut all = Self::load_flat(dir)?;
        let tenants = dir.join(TENANTS);
        if tenants.is_dir() {
            let read = |source| FilesError::Read {
                path: tenants.display().to_string(),
                source,
            };
            for entry in fs::read_dir(&tenants).map_err(read)? {
                let entry = entry.map_err(read)?;
                if entry.path().is_dir() {
                    let slug = entry.file_name().to_string_lossy().into_owned();
                    all = all.with_overlay(slug, Self::load_flat(&entry.path())?);
                }
            }
        }
        Ok(all)
    }

    fn load_flat(dir: &Path) -> Result<Self, FilesError> {
        let read = |path: &Path| {
            let path = path.display().to_string();
            move |source| FilesError::Read { path, source }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(read(dir))? {
            let path = entry.map_err(read(dir))?.path();
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let text = fs::read_to_string(&path).map_err(read(&path))?;
            files.push((name, text));
        }
        Self::from_embedded(files)
    }

    /// Takes names and texts, as `include_str!` gives them.
    ///
    /// # Errors
    ///
    /// As [`Files::load`], apart from reading.
    pub fn from_embedded<N, T>(files: impl IntoIterator<Item = (N, T)>) -> Result<Self, FilesError>
    where
        N: Into<String>,
        T: Into<String>,
    {
        let mut files = files
            .into_iter()
            .map(|(name, text)| File::new(name.into(), text.into()))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_by_key(|file| file.version);
        for pair in files.windows(2) {
            if pair[0].version == pair[1].version {
                return Err(FilesError::SameVersion {
                    first: pair[0].name.clone(),
                    second: pair[1].name.clone(),
                });
            }
        }
        Ok(Self {
            files,
            overlays: BTreeMap::new(),
        })
    }

    /// The same with files of one tenant's own; they are named with their folder from here on.
    #[must_use]
    pub fn with_overlay(mut self, slug: impl Into<String>, files: Self) -> Self {
        let slug = slug.into();
        let mut files = files.files;
        for file in &mut files {
            file.name = format!("{TENANTS}/{slug}/{}", file.name);
        }
        if !files.is_empty() {
            self.overlays.insert(slug, files);
        }
        self
    }

    /// The tenants, by slug, that have files of their own.
    pub fn overlay_slugs(&self) -> impl Iterator<Item = &str> {
        self.overlays.keys().map(String::as_str)
    }

    /// The files of one tenant's own.
    #[must_use]
    pub fn overlay(&self, slug: &str) -> Option<Self> {
        let files = self.overlays.get(slug)?.clone();
        Some(Self {
            files,
            overlays: BTreeMap::new(),
        })
    }

    /// The fleet's files with one tenant's own among them, each behind the migration that it was written on top of, and
    /// never before an earlier one of its own. What the fleet got after the last of them is left out: they were written
    /// without it.
    #[must_use]
    pub fn with_own(&self, own: &Self, on_top_of: impl Fn(&File) -> i64) -> Self {
        let mut files = Vec::new();
        let mut fleet = self.files.iter().peekable();
        let mut base = 0;
        for file in &own.files {
            base = base.max(on_top_of(file));
            while let Some(before) = fleet.next_if(|before| before.version <= base) {
                files.push(before.clone());
            }
            files.push(File {
                on_top_of: Some(base),
                ..file.clone()
            });
        }
        Self {
            files,
            overlays: BTreeMap::new(),
        }
    }

    /// The migrations, lowest version first.
    #[must_use]
    pub fn as_slice(&self) -> &[File] {
        &self.files
    }
}

impl File {
    fn new(name: String, text: String) -> Result<Self, FilesError> {
        let version = version_of(&name).ok_or_else(|| FilesError::Name(name.clone()))?;
        let text = text.replace("\r\n", "\n");
        let text = text.trim_start_matches('\u{feff}').to_owned();
        let header = Header::parse(&text).map_err(|(line, reason)| FilesError::Header {
            file: name.clone(),
            line,
            reason,
        })?;
        Ok(Self {
            version,
            checksum: hex::encode(Sha256::digest(&text)),
            name,
            text,
            header,
            on_top_of: None,
        })
    }
}

fn version_of(name: &str) -> Option<i64> {
    let (version, rest) = name.strip_suffix(".sql")?.split_once('_')?;
    let all_digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits && !rest.is_empty()).then(|| version.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ordered_by_number_not_by_name() {
        let files = Files::from_embedded([("10_b.sql", ""), ("0009_a.sql", "")]).expect("loads");
        let versions: Vec<_> = files.as_slice().iter().map(|file| file.version).collect();
        assert_eq!(versions, [9, 10]);
    }

    #[test]
    fn two_files_of_one_version_are_refused() {
        let error = Files::from_embedded([("1_b.sql", ""), ("0001_a.sql", "")]).unwrap_err();
        assert!(matches!(error, FilesError::SameVersion { .. }));
    }

    #[test]
    fn a_name_without_a_version_is_refused() {
        for name in ["contacts.sql", "_a.sql", "1_.sql", "x1_a.sql", "1-a.sql"] {
            assert!(matches!(Files::from_embedded([(name, "")]), Err(FilesError::Name(_))));
        }
    }

    #[test]
    fn one_tenants_own_files_stand_where_they_were_written() {
        let fleet = Files::from_embedded([("1_a.sql", ""), ("2_b.sql", ""), ("3_c.sql", ""), ("4_d.sql", "")]);
        let own = Files::from_embedded([("1_x.sql", ""), ("2_y.sql", ""), ("3_z.sql", "")]);
        let bases = [0, 3, 2, 1];
        let both = fleet
            .expect("loads")
            .with_own(&own.expect("loads"), |file| bases[file.version as usize]);
        let names: Vec<_> = both.as_slice().iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            names,
            ["1_a.sql", "2_b.sql", "3_c.sql", "1_x.sql", "2_y.sql", "3_z.sql"]
        );
    }

    #[test]
    fn line_ends_do_not_change_the_checksum() {
        let unix = Files::from_embedded([("1_a.sql", "select 1;\n")]).expect("loads");
        let dos = Files::from_embedded([("1_a.sql", "select 1;\r\n")]).expect("loads");
        assert_eq!(unix.as_slice()[0].checksum, dos.as_slice()[0].checksum);
    }
}
