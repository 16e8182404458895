//! What was found, beside what has to be reached.

use serde::Serialize;

use super::measure::{Comparison, CpuPerCall, Spread};

/// What has to be reached.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// A ratio of rates: the more the better.
    AtLeast(f64),
    /// A ratio of times, a time, a count or a size: the less the better.
    AtMost(f64),
    /// Nothing: shown for comparison.
    None,
}

impl Target {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::None => true,
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// Names the line for programs, and for `--only`.
    pub(crate) name: &'static str,
    /// What was done.
    pub(crate) what: String,
    /// What it is compared with.
    pub(crate) against: &'static str,
    /// The figure: a ratio unless a unit is named.
    pub(crate) figure: Spread,
    /// What the figure counts, where it is no ratio.
    pub(crate) unit: Option<&'static str>,
    pub(crate) target: Target,
    /// Whether the median reaches the target.
    pub(crate) reached: bool,
    /// Both sides in absolute numbers: of this machine, at this moment.
    pub(crate) detail: String,
}

impl Finding {
    pub(crate) fn new(
        name: &'static str,
        what: impl Into<String>,
        against: &'static str,
        figure: Spread,
        target: Target,
    ) -> Self {
        Self {
            name,
            what: what.into(),
            against,
            figure,
            unit: None,
            target,
            reached: target.is_reached(figure.median),
            detail: String::new(),
        }
    }

    /// A comparison of two rates.
    pub(crate) fn rates(
        name: &'static str,
        what: impl Into<String>,
        against: &'static str,
        found: &Comparison,
        target: Target,
    ) -> Self {
        let finding = Self::new(name, what, against, found.ratio, target);
        let rates = format!("{:.0}/s against {:.0}/s", found.our_rate, found.other_rate);
        finding.detail(match (found.our_cpu, found.other_cpu) {
            (Some(ours), Some(other)) => format!("{rates}; {} against {}", cpu(ours), cpu(other)),
            _ => rates,
        })
    }

    pub(crate) fn unit(mut self, unit: &'static str) -> Self {
        self.unit = Some(unit);
        self
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn number(&self, value: f64) -> String {
        match self.unit {
            None => format!("{value:.2}"),
            Some(unit) if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0} {unit}"),
            Some(unit) => format!("{value:.2} {unit}"),
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtLeast(least) => format!("≥ {}", self.number(least)),
            Target::AtMost(most) => format!("≤ {}", self.number(most)),
            Target::None => "–".to_owned(),
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.target, self.reached) {
            (Target::None, _) => "–",
            (_, true) => "reached",
            (_, false) => "missed",
        }
    }
}

fn cpu(cpu: CpuPerCall) -> String {
    format!("CPU {:.1} + {:.1} µs", cpu.server_us, cpu.client_us)
}

/// All lines with where they were measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) findings: Vec<Finding>,
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_mb: u64,
    pub(crate) postgres: String,
    pub(crate) optimised: bool,
    /// What waited for a processor in the minute before the end, beside what ran.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn here(postgres: String) -> Self {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_mb: memory
                .split(' ')
                .next()
                .and_then(|kb| kb.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            postgres,
            optimised: !cfg!(debug_assertions),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    fn text(&self) -> String {
        let build = if self.optimised {
            "release build"
        } else {
            "DEBUG BUILD: the figures mean nothing"
        };
        format!(
            "{} cores ({}), {} GB memory, PostgreSQL {} with fsync on, loopback TCP, {build}, load average at the end {}",
            self.cores,
            self.processor,
            self.memory_mb.div_ceil(1024),
            self.postgres,
            self.load
        )
    }
}

impl Report {
    pub(crate) fn all_reached(&self) -> bool {
        self.findings.iter().all(|finding| finding.reached)
    }

    /// For a terminal.
    pub(crate) fn rows(&self) -> Vec<[String; 6]> {
        self.findings
            .iter()
            .map(|finding| {
                let Spread { min, median, max } = finding.figure;
                [
                    finding.what.clone(),
                    finding.against.to_owned(),
                    finding.target_text(),
                    finding.number(median),
                    if min == max {
                        String::new()
                    } else {
                        format!("{min:.2} – {max:.2}")
                    },
                    finding.verdict().to_owned(),
                ]
            })
            .collect()
    }

    pub(crate) fn machine_text(&self) -> String {
        self.machine.text()
    }

    /// The table between its marks in a document.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}.\n\n| What | Against | Target | Median | Min – max | | In numbers |\n|---|---|---|---|---|---|---|\n",
            self.machine.text()
        );
        for (row, finding) in self.rows().iter().zip(&self.findings) {
            text += &format!("| {} | {} |\n", row.join(" | "), finding.detail);
        }
        text
    }
}
