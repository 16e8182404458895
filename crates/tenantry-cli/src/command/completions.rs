//! `tenantry completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Answer, Output},
};

/// For which shell.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The shell to print completions for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

impl Answer for Completions {
    fn text(&self) -> String {
        self.script.clone()
    }
}

/// Prints the completions to stdout.
pub(super) fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut crate::arguments::Arguments::command(),
        "tenantry",
        &mut script,
    );
    let script = String::from_utf8(script)?;
    output.answer(&Completions {
        shell: arguments.shell.to_string(),
        script,
    })?;
    Ok(())
}
