//! Passwords on the command line: read from stdin or made here, never an argument that others see in the process list.

use std::io::BufRead;

use rand::RngExt;
use tenantry_core::Email;
use tenantry_ops::Password;

use crate::failure::Failure;

/// Letters and digits that are not mistaken for each other.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// 20 of 56 characters hold 116 bits.
const LENGTH: usize = 20;

/// A password for a new account, and its text where it has to be shown since it was made here.
pub(crate) struct NewPassword {
    pub(crate) password: Password,
    pub(crate) shown: Option<String>,
}

/// Reads the first line of stdin, or makes a password.
///
/// # Errors
///
/// Usage, when the line is no acceptable password.
pub(crate) fn obtain(from_stdin: bool, email: &Email) -> Result<NewPassword, Failure> {
    let text = if from_stdin { read()? } else { generate() };
    let password = Password::new(text.clone(), email).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(NewPassword {
        password,
        shown: (!from_stdin).then_some(text),
    })
}

/// A random password.
pub(crate) fn generate() -> String {
    let mut random = rand::rng();
    (0..LENGTH)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

fn read() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Failure::usage(
            "--password-stdin was given, but the first line of stdin is empty",
        ));
    }
    Ok(line.to_owned())
}
