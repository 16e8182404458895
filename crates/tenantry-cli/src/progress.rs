//! What goes on, for a person who watches: a line at the bottom of the terminal, gone when the work is done.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::output::Output;

/// Shows steps on a terminal; without one nothing is written.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A line with what is being done.
    pub(crate) fn start(output: Output) -> Self {
        if !output.is_watched() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// What is being done now.
    pub(crate) fn step(&self, what: impl Into<String>) {
        let what = what.into();
        tracing::debug!("{what}");
        self.bar.set_message(what);
    }

    /// Something worth reading that stays on the screen.
    pub(crate) fn note(&self, what: impl AsRef<str>) {
        let what = what.as_ref();
        tracing::info!("{what}");
        self.bar.println(what);
    }

    /// Does what needs the terminal's last line for itself, such as asking a question.
    pub(crate) fn beside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
