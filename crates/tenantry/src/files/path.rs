//! What files are called.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

use super::PathError;

const PATH_LEN_MAX: usize = 1024;
const NAME_LEN_MAX: usize = 255;

/// A file's path within its tenant: names separated by `/`, in Unicode's composed form.
///
/// It is never decoded and never resolved against anything. What another layer might take for something else is refused:
/// `..`, an absolute path, a backslash, NUL and other control characters, percent-encoding, characters that are not seen, and forms of
/// Unicode that become such a thing when they are normalised.
///
/// ```
/// use tenantry::files::{FilePath, PathError};
///
/// assert_eq!(FilePath::parse("letters/ada.txt").map(|path| path.to_string()), Ok("letters/ada.txt".to_owned()));
/// assert_eq!(FilePath::parse("../secret"), Err(PathError::Dots));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FilePath {
    text: String,
    folded: String,
}

impl FilePath {
    /// Checks a path, and brings it into composed form.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        // Before anything is done with it: normalising can make a text several times as long.
        if path.len() > PATH_LEN_MAX {
            return Err(PathError::Length);
        }
        let text: String = path.nfc().collect();
        // What looks the same, or is the same on some file systems.
        let folded: String = path.nfkc().collect::<String>().to_lowercase().nfkc().collect();
        check(&text)?;
        check(&folded)?;
        Ok(Self { text, folded })
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last name.
    pub fn name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or(&self.text)
    }

    /// The same for paths that differ in case or in the form of their characters only.
    pub(super) fn folded(&self) -> &str {
        &self.folded
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for FilePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::parse(path)
    }
}

fn check(path: &str) -> Result<(), PathError> {
    // A folded form may be longer than what was asked for.
    if path.is_empty() || path.len() > 4 * PATH_LEN_MAX {
        return Err(PathError::Length);
    }
    if path.chars().any(is_unseen) {
        return Err(PathError::Character);
    }
    if is_encoded(path.as_bytes()) {
        return Err(PathError::Encoded);
    }
    path.split('/').try_for_each(check_name)
}

fn check_name(name: &str) -> Result<(), PathError> {
    match name {
        "" => Err(PathError::Slash),
        "." | ".." => Err(PathError::Dots),
        _ if name.len() > NAME_LEN_MAX => Err(PathError::Length),
        _ if name.ends_with('.') || name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) => {
            Err(PathError::Edge)
        }
        _ => Ok(()),
    }
}

fn is_encoded(path: &[u8]) -> bool {
    path.windows(3)
        .any(|three| three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit())
}

/// Control and format characters, fillers, separators of lines, private use and what is no character; the backslash and what stands
/// for a slash or a backslash elsewhere.
fn is_unseen(c: char) -> bool {
    let is_other_slash = matches!(c, '\\' | '\u{2044}' | '\u{2215}' | '\u{29f5}' | '\u{29f8}' | '\u{2216}');
    let is_format = matches!(u32::from(c),
        0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0
        | 0xfff0..=0xfffb | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff);
    let is_private = matches!(u32::from(c), 0xe000..=0xf8ff | 0xf0000..=0x0010_ffff);
    let is_none = u32::from(c) & 0xfffe == 0xfffe || matches!(u32::from(c), 0xfdd0..=0xfdef);
    c.is_control() || is_other_slash || is_format || is_private || is_none
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_leads_elsewhere_is_refused_with_the_reason() {
        use PathError as E;
        let long_name = "x".repeat(256);
        let long_path = "x/".repeat(512) + "x";
        for (path, why) in [
            ("", E::Length),
            (&long_name, E::Length),
            (&long_path, E::Length),
            ("/etc/passwd", E::Slash),
            ("a//b", E::Slash),
            ("a/", E::Slash),
            ("/", E::Slash),
            (".", E::Dots),
            ("..", E::Dots),
            ("../b", E::Dots),
            ("a/../../b", E::Dots),
            ("a/./b", E::Dots),
            ("a\\..\\b", E::Character),
            ("\\\\server\\share", E::Character),
            ("a\0.txt", E::Character),
            ("a\nb", E::Character),
            ("a\u{7f}", E::Character),
            ("%2e%2e/b", E::Encoded),
            ("a%2Fb", E::Encoded),
            ("%252e", E::Encoded),
            ("a%00", E::Encoded),
            // These become `..`, `/` and `%2e` when they are normalised.
            ("\u{2024}\u{2024}/b", E::Dots),
            ("\u{2025}/b", E::Dots),
            ("\u{ff0e}\u{ff0e}/b", E::Dots),
            ("\u{ff0f}etc", E::Slash),
            ("a\u{ff3c}b", E::Character),
            ("\u{ff05}\u{ff12}\u{ff45}", E::Encoded),
            ("a\u{2215}b", E::Character),
            // Not seen, or turns the text about.
            ("a\u{200b}", E::Character),
            ("a\u{202e}txt.exe", E::Character),
            ("a\u{feff}", E::Character),
            ("a\u{fe0f}", E::Character),
            ("a\u{10ffff}", E::Character),
            ("a\u{e000}", E::Character),
            (" a", E::Edge),
            ("a /b", E::Edge),
            ("a.", E::Edge),
            ("a...", E::Edge),
            ("\u{a0}a", E::Edge),
        ] {
            assert_eq!(FilePath::parse(path), Err(why), "{path:?}");
        }
    }

    #[test]
    fn what_is_a_path_stays_as_it_is() {
        for path in [
            "a",
            "a/b/c.txt",
            ".hidden",
            "..a",
            "100%.txt",
            "50%-off",
            "Grüße/日本.pdf",
            "a b",
            "C:x",
        ] {
            assert_eq!(FilePath::parse(path).map(|path| path.to_string()), Ok(path.to_owned()));
        }
        assert_eq!(
            FilePath::parse("a/b/c.txt").map(|path| path.name().to_owned()),
            Ok("c.txt".into())
        );
    }

    #[test]
    fn what_looks_the_same_is_folded_to_the_same() {
        for (one, other) in [
            ("Ada.txt", "ada.TXT"),
            ("e\u{301}", "\u{e9}"),
            ("\u{fb01}le", "file"),
            ("\u{212b}", "\u{e5}"),
            ("\u{ff41}", "a"),
            ("STRASSE\u{1e9e}", "strasse\u{df}"),
        ] {
            let folded = |path| FilePath::parse(path).expect("a path").folded;
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_taken_never_leads_elsewhere_and_is_taken_again(path in "[a./\\\\%2eE~ \u{ff0e}\u{2024}\u{301}é\u{0}-\u{1f}]{0,24}|\\PC{0,40}") {
            if let Ok(taken) = FilePath::parse(&path) {
                for form in [taken.as_str(), taken.folded()] {
                    prop_assert!(form.split('/').all(|name| !name.is_empty() && name != "." && name != ".."));
                    prop_assert!(!form.contains(['\\', '\0']));
                    prop_assert!(!std::path::Path::new(form).is_absolute());
                }
                prop_assert_eq!(FilePath::parse(taken.as_str()), Ok(taken.clone()));
                // What it is folded to is a path that is folded to itself.
                let again = FilePath::parse(taken.folded());
                if let Ok(again) = again {
                    prop_assert_eq!(again.folded(), taken.folded());
                }
            }
        }
    }
}
