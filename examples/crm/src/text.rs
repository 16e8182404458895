//! Texts and days that PostgreSQL can store and a screen can show.

use chrono::{Datelike, NaiveDate};
use serde::Deserialize;

/// One line with something on it: 1 to `MAX` characters, no control characters.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Line<const MAX: usize>(String);

/// Any text of at most `MAX` characters, except for the NUL character, which PostgreSQL has no place for.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Prose<const MAX: usize>(String);

/// An e-mail address in lower case.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Email(String);

/// A day that PostgreSQL and people can write: in the years 1 to 9999.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Day(pub(crate) NaiveDate);

impl TryFrom<String> for Day {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.parse::<NaiveDate>() {
            Ok(day) if (1..=9999).contains(&day.year()) => Ok(Self(day)),
            _ => Err("a date, YYYY-MM-DD, in the years 1 to 9999"),
        }
    }
}

impl<const MAX: usize> TryFrom<String> for Line<MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = text.chars().count() <= MAX && !text.trim().is_empty() && !text.chars().any(char::is_control);
        if valid {
            Ok(Self(text))
        } else {
            Err(format!("1 to {MAX} characters, not only blanks, no control characters"))
        }
    }
}

impl<const MAX: usize> TryFrom<String> for Prose<MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = text.chars().count() <= MAX && !text.contains('\0');
        if valid {
            Ok(Self(text))
        } else {
            Err(format!("at most {MAX} characters, no NUL character"))
        }
    }
}

impl TryFrom<String> for Email {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let plain =
            |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || c == '@');
        let valid = text.len() <= 254
            && text
                .split_once('@')
                .is_some_and(|(name, host)| plain(name) && plain(host));
        if valid {
            Ok(Self(text.to_lowercase()))
        } else {
            Err("an e-mail address has the form name@host")
        }
    }
}

impl<const MAX: usize> From<Line<MAX>> for String {
    fn from(line: Line<MAX>) -> Self {
        line.0
    }
}

impl<const MAX: usize> From<Prose<MAX>> for String {
    fn from(prose: Prose<MAX>) -> Self {
        prose.0
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}
