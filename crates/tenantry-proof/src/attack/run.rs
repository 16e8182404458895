//! Runs one program on one ground and judges what came of it.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use tenantry_engine::seal::carried;

use super::{
    act,
    ground::{Ground, Mechanism, shows},
    line::{Heard, Line, not_connected},
    program::{Program, Step, Who},
    seat::{By, Seat},
    token::{Offer, Spec},
};

/// What came of a program. Anything but `nothing` is a success of the attacker's.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub(super) struct Outcome {
    /// Steps that showed the victim's mark.
    pub(super) read: Vec<String>,
    /// Steps after which the victim's rows, rights or functions were others.
    pub(super) changed: Vec<String>,
    /// Probes that told what the victim has.
    pub(super) told: Vec<String>,
    /// Forged tokens that were accepted.
    pub(super) accepted: Vec<String>,
    /// Steps of the victim's that failed.
    pub(super) denied: Vec<String>,
    /// Everything that was said, for whoever looks for the cause.
    #[serde(skip)]
    pub(super) log: Vec<String>,
}

impl Outcome {
    /// Whether the attacker reached anything.
    pub(super) fn succeeded(&self) -> bool {
        [&self.read, &self.changed, &self.told, &self.accepted, &self.denied]
            .iter()
            .any(|found| !found.is_empty())
    }

    /// What was reached, in a word each.
    pub(super) fn words(&self) -> String {
        let found = [
            ("read", &self.read),
            ("changed", &self.changed),
            ("told", &self.told),
            ("accepted", &self.accepted),
            ("denied", &self.denied),
        ];
        let words: Vec<&str> = found
            .into_iter()
            .filter(|(_, steps)| !steps.is_empty())
            .map(|(word, _)| word)
            .collect();
        words.join(", ")
    }
}

/// What an attacker may write for a setting and its value.
fn guesses(ground: &Ground, seal: &str, signed: &str) -> Vec<[String; 2]> {
    let b = ground.b.to_string();
    let Mechanism::Ours(_) = ground.mechanism else {
        return vec![["app.tenant_id".to_owned(), b]];
    };
    let carrier = tenantry_engine::seal::CARRIER;
    let names = [
        carrier,
        "tenantry.expect",
        "tenantry.signed",
        "tenantry.last",
        "app.tenant_id",
    ];
    let made_up = format!("{}000000000000000930", ground.b.as_uuid().simple());
    let mut values = vec![b, seal.to_owned(), carried(seal), carried(&made_up), made_up];
    if !signed.is_empty() {
        values.push(signed.to_owned());
    }
    names
        .iter()
        .flat_map(|name| values.iter().map(|value| [(*name).to_owned(), value.clone()]))
        .collect()
}

/// Runs a program. The outcome is judged by the caller: on the open ground it has to succeed, on ours it must not.
pub(super) async fn run(ground: &mut Ground, program: &Program) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if program
        .steps
        .iter()
        .any(|step| step.text.contains("{setting}") || step.text.contains("{forged}"))
    {
        // What a session of the victim holds at this moment, as if it had leaked.
        let mut victim = Seat::of_the_victim(Line::open(&ground.victim).await.context("the victim can't connect")?);
        victim.open(ground, ground.b).await?;
        let seal = victim
            .line
            .say("select current_setting('tenantry.expect', true)")
            .await
            .text;
        let signed = victim
            .line
            .say("select current_setting('tenantry.signed', true)")
            .await
            .text;
        let first = |text: &str| text.lines().next().unwrap_or_default().trim_matches('|').to_owned();
        ground.reset().await?;
        for guess in guesses(ground, &first(&seal), first(&signed).trim_start_matches("null")) {
            once(ground, program, Some(&guess), &mut outcome).await?;
        }
    } else {
        ground.reset().await?;
        once(ground, program, None, &mut outcome).await?;
    }
    Ok(outcome)
}

async fn once(
    ground: &mut Ground,
    program: &Program,
    guess: Option<&[String; 2]>,
    outcome: &mut Outcome,
) -> Result<()> {
    for step in program.steps.iter().filter(|_| ground.mechanism == Mechanism::Naive) {
        let text = ground.fill(&step.text);
        let sql = match step.who {
            Who::Open => text,
            Who::App => {
                let owner = ground.fill("{owner}");
                format!(
                    "set role {owner}; set search_path = app, public; {text}; reset role; reset search_path; grant all on all tables in schema app to {}",
                    ground.fill("{app}")
                )
            }
            _ => continue,
        };
        make_opening(ground, &sql)
            .await
            .with_context(|| format!("the opening can't be made: {sql}"))?;
    }
    let mut stage = Stage::open(ground, program, guess).await?;
    for step in &program.steps {
        stage.step(step, outcome).await?;
    }
    stage.end(outcome).await
}

/// Roles and parameters are the server's, and other programs change them at the same time: then once more.
async fn make_opening(ground: &Ground, sql: &str) -> Result<(), tokio_postgres::Error> {
    let mut attempt = 0;
    loop {
        match ground.own_admin.batch_execute(sql).await {
            Err(error) if attempt < 20 && error.code().is_some_and(|code| code.code() == "XX000") => attempt += 1,
            done => return done,
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The connections of one run.
struct Stage<'a> {
    ground: &'a mut Ground,
    guess: Option<&'a [String; 2]>,
    attacker: Seat,
    second: Option<Line>,
    victim: Option<Seat>,
    kept: HashMap<String, Offer>,
    /// Connections that are held only to take them from others.
    crowd: Vec<Line>,
    digest: String,
    /// The step before, for the blame.
    last: String,
}

impl<'a> Stage<'a> {
    async fn open(ground: &'a mut Ground, program: &Program, guess: Option<&'a [String; 2]>) -> Result<Self> {
        let digest = ground.digest().await?;
        Ok(Self {
            attacker: Seat::new(ground.line().await?, program.hands_over()),
            second: None,
            victim: None,
            kept: HashMap::new(),
            crowd: Vec::new(),
            last: "before the first step".to_owned(),
            digest,
            guess,
            ground,
        })
    }

    fn fill(&self, text: &str) -> String {
        let mut text = self.ground.fill(text);
        if let Some([setting, forged]) = self.guess {
            text = text.replace("{setting}", setting).replace("{forged}", forged);
        }
        text
    }

    async fn step(&mut self, step: &Step, outcome: &mut Outcome) -> Result<()> {
        let text = self.fill(&step.text);
        outcome.log.push(format!("{:?}| {text}", step.who));
        let (a, b) = (self.ground.a, self.ground.b);
        match step.who {
            Who::Open | Who::App => return Ok(()),
            Who::NaiveVictim if self.ground.mechanism != Mechanism::Naive => return Ok(()),
            Who::Attacker | Who::Extended | Who::Copy => {
                let by = match step.who {
                    Who::Extended => By::Extended,
                    Who::Copy => By::Copy,
                    _ => By::Simple,
                };
                let heard = self.attacker.within(self.ground, a, by, &text).await?;
                self.judge(&text, heard, outcome);
            }
            Who::Raw => {
                let heard = self.attacker.line.say(&text).await;
                self.judge(&text, heard, outcome);
            }
            Who::Second => {
                if self.second.is_none() {
                    self.second = Some(self.ground.line().await?);
                }
                let heard = match &self.second {
                    Some(second) => second.say(&text).await,
                    None => Heard::default(),
                };
                self.judge(&text, heard, outcome);
            }
            Who::Login => {
                let heard = self.log_in(&text).await?;
                self.judge(&text, heard, outcome);
            }
            Who::Enter => self.offer(&text, outcome).await?,
            Who::Probe => self.probe(step, outcome).await?,
            Who::Act => {
                self.blame(outcome).await?;
                match text.as_str() {
                    "change every byte" => self.change_every_byte(outcome).await?,
                    "enter a copy of the database" => self.enter_a_copy(outcome).await?,
                    "take all connections of the role" => self.crowd().await,
                    _ => act::act(self.ground, &text).await?,
                }
                self.look_again().await?;
            }
            Who::Victim | Who::NaiveVictim => {
                self.blame(outcome).await?;
                if self.victim.is_none() {
                    let line = Line::open(&self.ground.victim).await;
                    match line {
                        Ok(line) => {
                            line.say("set lock_timeout = '400ms'").await;
                            self.victim = Some(Seat::of_the_victim(line));
                        }
                        Err(error) => {
                            let heard = not_connected(&error);
                            outcome.log.push(format!("    {heard:?}"));
                            outcome.denied.push(text);
                            return Ok(());
                        }
                    }
                }
                if let Some(victim) = &mut self.victim {
                    let heard = victim.within(self.ground, b, By::OneMessage, &text).await?;
                    self.victims(&text, &heard, outcome);
                }
                self.look_again().await?;
            }
            // No connection to the attacker's database ever serves a tenant who lives elsewhere.
            Who::Next if !self.ground.together => {}
            Who::Next => {
                self.blame(outcome).await?;
                self.hand_over(outcome).await?;
                let heard = self.attacker.within(self.ground, b, By::Simple, &text).await?;
                // What it said on the way went to the victim.
                self.attacker.line.overheard();
                self.victims(&text, &heard, outcome);
                if self.ground.mechanism != Mechanism::Naive {
                    self.attacker.discard().await;
                }
                self.look_again().await?;
            }
        }
        self.last = text;
        Ok(())
    }

    /// The raw lane is left by `discard all` only; a token without it must not bind.
    async fn hand_over(&mut self, outcome: &mut Outcome) -> Result<()> {
        if self.ground.mechanism == Mechanism::Naive {
            return Ok(());
        }
        self.attacker.line.say("rollback").await;
        let spec = Spec::parse("tenant=B fresh=0 raw=0")?;
        let offer = self.attacker.make(self.ground, &spec, 0)?;
        let heard = self.attacker.offer(&offer, "enter").await;
        if heard.failure.is_none() {
            outcome
                .accepted
                .push("a token in the raw lane without discard all".to_owned());
        }
        self.attacker.discard().await;
        Ok(())
    }

    fn victims(&self, text: &str, heard: &Heard, outcome: &mut Outcome) {
        if let Some(code) = &heard.failure {
            outcome.log.push(format!("    {code} {}", heard.text));
            // What hardening takes, it takes from the victim too: no attacker did that.
            let taken = ["function", "view", "table pg_", "language"]
                .iter()
                .any(|kind| heard.text.contains(&format!("permission denied for {kind}")));
            if !(self.ground.hardened && taken) {
                outcome.denied.push(text.to_owned());
            }
        }
    }

    fn judge(&self, step: &str, heard: Heard, outcome: &mut Outcome) {
        if shows(&heard.text, &self.ground.canary) {
            outcome.read.push(step.to_owned());
        }
        let text: String = heard.text.chars().take(600).collect();
        outcome
            .log
            .push(format!("    {} {text}", heard.failure.unwrap_or_default()));
    }

    /// What the victim has now is what it should have.
    async fn look_again(&mut self) -> Result<()> {
        match self.ground.digest().await {
            Ok(digest) => self.digest = digest,
            Err(error) if is_locked(&error) => {}
            Err(error) => self.digest = format!("{error:#}"),
        }
        Ok(())
    }

    /// Whether the victim still has what it had.
    async fn blame(&mut self, outcome: &mut Outcome) -> Result<()> {
        let digest = match self.ground.digest().await {
            Ok(digest) => digest,
            // The attacker holds a lock on the table: whether rows are others is seen when it is gone.
            Err(error) if is_locked(&error) => return Ok(()),
            Err(error) => format!("{error:#}"),
        };
        if digest != self.digest {
            outcome.changed.push(self.last.clone());
            self.digest = digest;
        }
        Ok(())
    }

    async fn offer(&mut self, text: &str, outcome: &mut Outcome) -> Result<()> {
        let spec = Spec::parse(text)?;
        let offer = match spec.replay() {
            Some(name) => self.kept.get(name).context("no token of this name was kept")?.clone(),
            None => {
                if self.second.is_none() {
                    self.second = Some(self.ground.line().await?);
                }
                let other = self.second.as_ref().map_or(0, |second| second.pid);
                self.attacker.make(self.ground, &spec, other)?
            }
        };
        if let Some(name) = spec.save() {
            self.kept.insert(name.to_owned(), offer.clone());
        }
        if spec.unused() {
            return Ok(());
        }
        self.attacker.line.say("rollback").await;
        self.attacker.line.say("begin").await;
        let entered = self.attacker.offer(&offer, spec.function()).await;
        outcome.log.push(format!(
            "    {} {}",
            entered.failure.clone().unwrap_or_default(),
            entered.text
        ));
        let was_accepted = entered.failure.is_none();
        let heard = self.attacker.line.say(&spec.then).await;
        self.attacker
            .line
            .say(if spec.rolled_back() { "rollback" } else { "commit" })
            .await;
        if spec.by_the_pool() {
            if !was_accepted && (self.ground.together || !spec.is_the_victims()) {
                outcome.denied.push(text.to_owned());
            } else if was_accepted && !spec.rolled_back() {
                self.attacker.was_bound();
            }
            return Ok(());
        }
        if was_accepted {
            outcome.accepted.push(text.to_owned());
        }
        self.judge(text, heard, outcome);
        // A binding that stays is expected by its own seal.
        let heard = self
            .attacker
            .line
            .say(&format!(
                "begin; select set_config('tenantry.expect', '{}', true); {}; commit",
                offer.seal, spec.then
            ))
            .await;
        self.judge(text, heard, outcome);
        Ok(())
    }

    /// A token of the victim's for this very connection, with one byte changed; and as it is, which has to be accepted.
    async fn change_every_byte(&mut self, outcome: &mut Outcome) -> Result<()> {
        // Who lives in another database has no whole token here.
        let spec = Spec::parse(if self.ground.together { "tenant=B" } else { "tenant=A" })?;
        let whole = self.attacker.make(self.ground, &spec, 0)?;
        let message = whole.message.clone().unwrap_or_default();
        let code = whole.mac.clone().unwrap_or_default();
        for position in 0..message.len() + code.len() {
            for flip in [0x01, 0x80] {
                let mut bytes = [message.clone(), code.clone()].concat();
                bytes[position] ^= flip;
                let offer = Offer {
                    message: Some(bytes[..message.len()].to_vec()),
                    mac: Some(bytes[message.len()..].to_vec()),
                    seal: whole.seal.clone(),
                };
                self.attacker.line.say("begin").await;
                if self.attacker.offer(&offer, "enter").await.failure.is_none() {
                    outcome.accepted.push(format!("byte {position} changed by {flip:#x}"));
                }
                self.attacker.line.say("rollback").await;
            }
        }
        self.attacker.line.say("begin").await;
        if self.attacker.offer(&whole, "enter").await.failure.is_some() {
            outcome.denied.push("the token that was not changed".to_owned());
        }
        self.attacker.line.say("rollback").await;
        Ok(())
    }

    /// The pool's key still signs for the copy, and its own address leads there.
    async fn enter_a_copy(&mut self, outcome: &mut Outcome) -> Result<()> {
        (self.second, self.victim) = (None, None);
        let name = act::copy(self.ground).await?;
        let mut config = self.ground.attacker.clone();
        config.dbname(name.as_str());
        match Line::open(&config).await {
            Err(error) => outcome.log.push(format!("    {:?}", not_connected(&error))),
            Ok(line) => {
                let mut there = Seat::new(line, false);
                let spec = Spec::parse("tenant=B")?;
                let offer = there.make(self.ground, &spec, 0)?;
                let heard = there.offer(&offer, "enter").await;
                outcome.log.push(format!("    {heard:?}"));
                if heard.failure.is_none() {
                    outcome.accepted.push(format!("the original's token in {name}"));
                }
                let heard = there.line.say("select * from app.contact").await;
                self.judge("in the copy", heard, outcome);
            }
        }
        self.attacker = Seat::new(self.ground.line().await?, false);
        act::drop_copy(self.ground, &name).await
    }

    async fn crowd(&mut self) {
        for _ in 0..8 {
            let Ok(line) = self.ground.line().await else { return };
            self.crowd.push(line);
        }
    }

    async fn probe(&mut self, step: &Step, outcome: &mut Outcome) -> Result<()> {
        let Some(values) = &step.values else { return Ok(()) };
        // The first answers fill caches, which EXPLAIN shows; and other sessions make noise. What differs each time is told.
        for round in 0..4 {
            let answers = self.ask_both(&step.text, values, outcome).await?;
            if round > 0 && answers[0] == answers[1] {
                return Ok(());
            }
        }
        outcome.told.push(self.fill(&step.text));
        Ok(())
    }

    async fn ask_both(
        &mut self,
        question: &str,
        values: &[String; 2],
        outcome: &mut Outcome,
    ) -> Result<Vec<(Option<String>, String)>> {
        let mut answers = Vec::new();
        for value in values {
            let value = self.fill(value);
            let text = self.fill(question).replace("{x}", &value);
            let a = self.ground.a;
            self.attacker.line.say("rollback").await;
            self.attacker.open(self.ground, a).await?;
            let heard = self.attacker.line.say(&text).await;
            self.attacker.line.say("rollback").await;
            outcome.log.push(format!(
                "    {value}: {} {}",
                heard.failure.clone().unwrap_or_default(),
                heard.text
            ));
            if shows(&heard.text.replace(&value, ""), &self.ground.canary) {
                outcome.read.push(text);
            }
            // Words that the question itself holds; a digit would be found everywhere.
            let told = if value.len() > 2 {
                heard.text.replace(&value, "?")
            } else {
                heard.text
            };
            answers.push((heard.failure, told));
        }
        Ok(answers)
    }

    /// `database [as role] [options] -> statements`
    async fn log_in(&self, text: &str) -> Result<Heard> {
        let (to, then) = text
            .split_once("->")
            .context("a log-in has `->` before its statements")?;
        let mut words = to.split_whitespace().peekable();
        let database = words.next().context("a log-in names a database")?;
        let mut config = self.ground.attacker.clone();
        config.dbname(database);
        if words.next_if_eq(&"as").is_some() {
            config.user(words.next().context("`as` is followed by a role")?);
        }
        let options: Vec<&str> = words.collect();
        if !options.is_empty() {
            config.options(options.join(" "));
        }
        Ok(match Line::open(&config).await {
            Ok(line) => line.say(then).await,
            Err(error) => not_connected(&error),
        })
    }

    async fn end(mut self, outcome: &mut Outcome) -> Result<()> {
        // What was sent to whoever listens arrives with the next answer.
        for line in [Some(&self.attacker.line), self.second.as_ref()].into_iter().flatten() {
            line.say("rollback").await;
            let heard = line.say("select 1").await;
            self.judge("listening", heard, outcome);
        }
        self.blame(outcome).await
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::code)
        .is_some_and(|code| code.code() == "55P03")
}
