//! How long attempts at jobs took, by what became of them.
//!
//! Written here and not recorded: the library counts in buckets of its own, whose bounds go as far as a job may take, and the recorder
//! takes single durations only.

use std::fmt::Write as _;

use tenantry::jobs::{Durations, JobDurations};

const DURATION: &str = "tenantry_job_duration_seconds";

/// The lines about the run time of jobs.
pub(crate) fn jobs(durations: &JobDurations) -> String {
    let mut text = format!(
        "# HELP {DURATION} How long attempts at jobs took in this process, by what became of them.\n# TYPE {DURATION} histogram\n"
    );
    for (outcome, durations) in [
        ("done", &durations.done),
        ("failed", &durations.failed),
        ("given_back", &durations.given_back),
        ("lost", &durations.lost),
    ] {
        for (bound, up_to) in Durations::BOUNDS.iter().zip(durations.up_to) {
            let bound = bound.as_secs_f64();
            let _ = writeln!(
                text,
                "{DURATION}_bucket{{outcome=\"{outcome}\",le=\"{bound}\"}} {up_to}"
            );
        }
        let (count, sum) = (durations.count, durations.sum.as_secs_f64());
        let _ = writeln!(text, "{DURATION}_bucket{{outcome=\"{outcome}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{DURATION}_sum{{outcome=\"{outcome}\"}} {sum}");
        let _ = writeln!(text, "{DURATION}_count{{outcome=\"{outcome}\"}} {count}");
    }
    text
}
