//! How a command fails: in one line that says what to do, and with the documented exit code.

use std::{fmt, process::ExitCode};

use serde_json::json;

use crate::{config::ConfigError, output::Output};

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command was called wrongly or is configured wrongly: exit code 2, nothing was done.
    Usage(String),
    /// It was understood and did not succeed: exit code 1.
    Failed(anyhow::Error),
    /// The server stopped when it was asked to, but not everything had ended in time: exit code 3.
    CutOff(String),
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(message.into()))
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Failed(_) => "failed",
            Self::CutOff(_) => "cut-off",
        }
    }

    const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::CutOff(_) => 3,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast::<ConfigError>() {
            Ok(error) => Self::Usage(error.to_string()),
            Err(error) => Self::Failed(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Usage(message) | Self::CutOff(message) => message.clone(),
            Self::Failed(error) => chain(error),
        };
        f.write_str(&one_line(&text))
    }
}

/// The error and its sources, each once: some libraries repeat the source in their own text.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn one_line(text: &str) -> String {
    text.split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A value of ten thousand characters does not make the message clearer.
fn shortened(text: &str) -> String {
    const WORD_CHARS_MAX: usize = 100;
    let word = |word: &str| match word.char_indices().nth(WORD_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Prints the failure to stderr, as JSON where JSON was asked for.
pub(crate) fn report(failure: &Failure, output: Output) -> ExitCode {
    if output.is_json() {
        eprintln!(
            "{}",
            json!({"error": {"kind": failure.kind(), "message": failure.to_string()}})
        );
    } else {
        eprintln!("error: {failure}");
    }
    ExitCode::from(failure.exit_code())
}

/// Help and version as clap prints them; a wrong call in one line with the way to the help.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            // Nothing can be done about a closed pipe.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let json = std::env::args_os().any(|argument| argument == "--json");
            report(&Failure::usage(usage_line(&error.to_string())), Output::new(json))
        }
    }
}

/// What clap says before its usage block, in one line, with the command whose help shows more.
fn usage_line(rendered: &str) -> String {
    let said = rendered.split("\nUsage:").next().unwrap_or(rendered);
    let said = said.split("\nFor more information").next().unwrap_or(said);
    let usage = rendered.split("Usage: ").nth(1).unwrap_or("tenantry");
    let command: Vec<&str> = usage
        .split_whitespace()
        .take_while(|word| !word.starts_with(['-', '<', '[']))
        .collect();
    let said = said.trim_start_matches("error: ").replace("\n  tip: ", "; ");
    let said = shortened(&one_line(&said)).replace(" ; ", "; ");
    format!("{said}; see `{} --help`", command.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_each_cause_once() {
        let error = anyhow::anyhow!("connection\nrefused").context("can't reach the catalog");
        assert_eq!(
            Failure::from(error).to_string(),
            "can't reach the catalog: connection refused"
        );
        let repeated = anyhow::anyhow!("refused").context("can't connect: refused");
        assert_eq!(Failure::from(repeated).to_string(), "can't connect: refused");
    }

    #[test]
    fn wrong_usage_names_the_help_of_its_command() {
        let rendered = "error: unexpected argument '--nmae' found\n\n  tip: a similar argument exists: '--name'\n\n\
                        Usage: tenantry tenant create --name <NAME> <SLUG>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_line(rendered),
            "unexpected argument '--nmae' found; a similar argument exists: '--name'; see `tenantry tenant create --help`"
        );
    }
}
