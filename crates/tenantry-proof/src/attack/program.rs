//! What a program is, and how it is written down.
//!
//! A program is a few lines of text in `programs/*.attack`:
//!
//! ```text
//! === name-of-the-program
//! for: security.md 1.1/1          what it stands for
//! needs: owner-exempt             the opening of the open database that lets it succeed
//! open| alter table …             (the superuser, in the open database only: makes the opening)
//! app| create view …              (a migration of the application's; the open database takes it as it is)
//! a| select * from contact        (the attacker, in its tenant's context, in a transaction of its own)
//! ```
//!
//! A line that begins with a blank goes on with the one before.

use anyhow::{Context as _, Result, bail};

use super::declared;

/// Who does a step, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// The superuser, in the open database only: makes the opening.
    Open,
    /// The application's developer: a migration.
    App,
    /// The attacker, in its tenant's context, in a transaction of its own.
    Attacker,
    /// The same by the extended protocol, one statement.
    Extended,
    /// The same by `copy … to stdout`.
    Copy,
    /// The attacker on the same connection, without a context and in no transaction.
    Raw,
    /// The attacker on a second connection of the application role, without a context.
    Second,
    /// The victim on its own connection, in its context.
    Victim,
    /// The same in the open database only: what an application does there that ours does not let it do.
    NaiveVictim,
    /// The victim on the attacker's connection, after the pool handed it over.
    Next,
    /// The attacker opens a connection: `database`, then options, then SQL after `->`.
    Login,
    /// A token is offered on the attacker's connection: see [`super::token`].
    Enter,
    /// Something that happens to the database: see [`super::act`].
    Act,
    /// The attacker asks twice, with a value that the victim has and with one that nobody has, and compares.
    Probe,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) who: Who,
    pub(super) text: String,
    /// Of a probe: the value that the victim has, and the one that nobody has.
    pub(super) values: Option<[String; 2]>,
}

/// An attack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) stands_for: String,
    /// The opening that the open database has.
    pub(super) needs: String,
    /// The declared channel that it shows, if it is no attack on rows.
    pub(super) declared: Option<String>,
    /// An extension, without which there is nothing to attack.
    pub(super) extension: Option<String>,
    /// The oldest version that knows what it uses.
    pub(super) since: u32,
    pub(super) steps: Vec<Step>,
}

const TEXTS: &[&str] = &[
    include_str!("programs/bypass.attack"),
    include_str!("programs/policy.attack"),
    include_str!("programs/constraint.attack"),
    include_str!("programs/channel.attack"),
    include_str!("programs/handover.attack"),
    include_str!("programs/setting.attack"),
    include_str!("programs/role.attack"),
    include_str!("programs/token.attack"),
    include_str!("programs/mechanism.attack"),
    include_str!("programs/shadow.attack"),
    include_str!("programs/statement.attack"),
    include_str!("programs/login.attack"),
    include_str!("programs/declared.attack"),
    include_str!("programs/jobs.attack"),
];

/// All programs, in the order of the files.
pub(super) fn all() -> Result<Vec<Program>> {
    let mut programs: Vec<Program> = Vec::new();
    for text in TEXTS {
        for program in parse(text)? {
            if programs.iter().any(|known| known.name == program.name) {
                bail!("two programs are called `{}`", program.name);
            }
            programs.push(program);
        }
    }
    Ok(programs)
}

fn parse(text: &str) -> Result<Vec<Program>> {
    text.split("\n=== ")
        .skip(1)
        .map(|block| {
            let (name, body) = block.split_once('\n').unwrap_or((block, ""));
            one(name.trim(), body).with_context(|| format!("the program `{}`", name.trim()))
        })
        .collect()
}

fn one(name: &str, body: &str) -> Result<Program> {
    let mut program = Program {
        name: name.to_owned(),
        stands_for: String::new(),
        needs: String::new(),
        declared: None,
        extension: None,
        since: 15,
        steps: Vec::new(),
    };
    for line in logical_lines(body) {
        let (key, value) = line
            .split_once(['|', ':'])
            .with_context(|| format!("`{line}` is neither a step nor a field"))?;
        let value = value.trim().to_owned();
        let who = match key {
            "for" => {
                program.stands_for = value;
                continue;
            }
            "needs" => {
                program.needs = value;
                continue;
            }
            "declared" => {
                declared::channel(&value).with_context(|| format!("`{value}` is no declared channel"))?;
                program.declared = Some(value);
                continue;
            }
            "extension" => {
                program.extension = Some(value);
                continue;
            }
            "since" => {
                program.since = value.parse().context("`since` is a version")?;
                continue;
            }
            "hit" | "miss" => {
                let values = program.steps.last_mut().context("values before a probe")?;
                let values = values.values.get_or_insert_default();
                values[usize::from(key == "miss")] = value;
                continue;
            }
            "open" => Who::Open,
            "app" => Who::App,
            "a" => Who::Attacker,
            "ax" => Who::Extended,
            "copy" => Who::Copy,
            "raw" => Who::Raw,
            "two" => Who::Second,
            "b" => Who::Victim,
            "bo" => Who::NaiveVictim,
            "next" => Who::Next,
            "login" => Who::Login,
            "enter" => Who::Enter,
            "act" => Who::Act,
            "probe" => Who::Probe,
            other => bail!("`{other}` is no step"),
        };
        program.steps.push(Step {
            who,
            text: value,
            values: None,
        });
    }
    program.check()?;
    Ok(program)
}

/// Lines joined with those that go on with them, without comments.
fn logical_lines(body: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in body.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match lines.last_mut() {
            Some(last) if line.starts_with(' ') => {
                last.push('\n');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

impl Program {
    fn check(&self) -> Result<()> {
        if self.stands_for.is_empty() || self.needs.is_empty() {
            bail!("it does not say what it stands for and which opening it needs");
        }
        for step in &self.steps {
            match (step.who == Who::Probe, &step.values) {
                (true, Some(values)) if !values.contains(&String::new()) => {}
                (false, None) => {}
                _ => bail!("a probe has a hit and a miss, and nothing else has"),
            }
        }
        if !self.steps.iter().any(|step| !matches!(step.who, Who::Open | Who::App)) {
            bail!("nobody attacks in it");
        }
        Ok(())
    }

    /// What the application's developer wrote for it.
    pub(super) fn migration(&self) -> Option<&str> {
        let app = self.steps.iter().find(|step| step.who == Who::App)?;
        Some(&app.text)
    }

    /// Whether the attacker's connection goes to the victim, which the pool allows after the raw lane only.
    pub(super) fn hands_over(&self) -> bool {
        self.steps.iter().any(|step| step.who == Who::Next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_least_150_programs() {
        let programs = all().unwrap();
        let attacks = programs.iter().filter(|program| program.declared.is_none()).count();
        assert!(attacks >= 150, "{attacks} programs attack rows");
    }

    #[test]
    fn every_reproduction_of_the_reference_has_a_program() {
        let programs = all().unwrap();
        // Of the poolers' and drivers' own races (56) the database knows nothing; 23 and 26 are about availability and
        // about changing rights, and are shown all the same.
        for number in (1..=56).filter(|number| *number != 56) {
            let number = format!("/{number}");
            assert!(
                programs
                    .iter()
                    .any(|program| program.stands_for.split([' ', ',']).any(|word| word.ends_with(&number))),
                "nothing stands for {number}"
            );
        }
    }

    #[test]
    fn lines_that_begin_with_a_blank_go_on() {
        let read =
            parse("\n=== x\nfor: y\nneeds: z\na| select 1\n  from t\nprobe| select {x}\nhit: 1\nmiss: 2\n").unwrap();
        assert_eq!(read[0].steps[0].text, "select 1\n  from t");
        assert_eq!(read[0].steps[1].values, Some(["1".to_owned(), "2".to_owned()]));
        assert!(parse("\n=== x\nfor: y\nneeds: z\nzz| select 1\n").is_err());
    }
}
