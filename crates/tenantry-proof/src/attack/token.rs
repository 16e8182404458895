//! Tokens as an attacker may offer them, written as words: `tenant=B pid=other age=60`.
//!
//! What is left out is right: the token is then one that the pool itself would have made for this connection.

use anyhow::{Context as _, Result, bail};
use tenantry_core::{
    Epoch, Role, TenantId,
    seal::{Key, Signed, Token},
};
use uuid::Uuid;

/// A token to be offered.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    words: Vec<(String, String)>,
    /// What is run in the transaction that offered it.
    pub(super) then: String,
}

/// What a token is made of.
pub(super) struct Making<'a> {
    pub(super) a: TenantId,
    pub(super) b: TenantId,
    pub(super) key: &'a Key,
    pub(super) foreign_key: &'a Key,
    pub(super) old_key: Option<&'a Key>,
    pub(super) pid: i32,
    pub(super) other_pid: i32,
    pub(super) counter: u64,
    pub(super) fresh: bool,
    pub(super) raw: bool,
    pub(super) now_us: i64,
}

/// The two parameters of `enter`, as they are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    pub(super) message: Option<Vec<u8>>,
    pub(super) mac: Option<Vec<u8>>,
    pub(super) seal: String,
}

impl From<&Signed> for Offer {
    fn from(signed: &Signed) -> Self {
        Self {
            message: Some(signed.message.to_vec()),
            mac: Some(signed.mac.to_vec()),
            seal: signed.seal(),
        }
    }
}

impl Spec {
    /// Reads the words.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (words, then) = text.split_once("->").unwrap_or((text, "select * from contact"));
        let words = words
            .split_whitespace()
            .map(|word| {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                (key.to_owned(), value.to_owned())
            })
            .collect();
        Ok(Self {
            words,
            then: then.trim().to_owned(),
        })
    }

    fn word(&self, key: &str) -> Option<&str> {
        self.words
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the pool offers it, not the attacker: it is to be accepted, and what it shows is its tenant's own.
    pub(super) fn by_the_pool(&self) -> bool {
        self.word("by") == Some("pool")
    }

    /// Whether it is for the victim's tenant.
    pub(super) fn is_the_victims(&self) -> bool {
        self.word("tenant").is_none_or(|tenant| tenant == "B")
    }

    /// The function that takes it.
    pub(super) fn function(&self) -> &str {
        self.word("via").unwrap_or("enter")
    }

    /// Under which name it is kept, to be offered again.
    pub(super) fn save(&self) -> Option<&str> {
        self.word("save")
    }

    /// The name of one that was kept.
    pub(super) fn replay(&self) -> Option<&str> {
        self.word("replay")
    }

    /// Whether it is offered in a transaction that is then rolled back.
    pub(super) fn rolled_back(&self) -> bool {
        self.word("end") == Some("rollback")
    }

    /// Whether it is only made, and kept, for somebody else's connection.
    pub(super) fn unused(&self) -> bool {
        self.word("unused").is_some()
    }

    /// Makes it.
    pub(super) fn make(&self, making: &Making<'_>) -> Result<Offer> {
        let tenant = match self.word("tenant").unwrap_or("B") {
            "A" => making.a,
            "B" => making.b,
            "nobody" => TenantId::from_uuid(Uuid::nil()),
            other => bail!("`{other}` is no tenant"),
        };
        let number = |key: &str, otherwise: i64| -> Result<i64> {
            self.word(key).map_or(Ok(otherwise), |value| {
                value.parse().with_context(|| format!("`{key}={value}` is no number"))
            })
        };
        let counter = match self.word("counter").unwrap_or("next") {
            "next" => making.counter,
            "same" => making.counter - 1,
            "back" => making.counter.saturating_sub(2),
            "zero" => 0,
            "max" => u64::MAX,
            other => bail!("`{other}` is no counter"),
        };
        let backend_pid = match self.word("pid").unwrap_or("own") {
            "own" => making.pid,
            "other" => making.other_pid,
            "zero" => 0,
            "minus" => -making.pid,
            other => bail!("`{other}` is no backend"),
        };
        let role = match self.word("role").unwrap_or("member") {
            "viewer" => Role::Viewer,
            "owner" => Role::Owner,
            _ => Role::Member,
        };
        let flag = |key: &str, otherwise: bool| self.word(key).map_or(otherwise, |value| value == "1");
        let token = Token {
            tenant,
            counter,
            fresh: flag("fresh", making.fresh),
            raw: flag("raw", making.raw),
            role,
            now_us: making.now_us - number("age", 0)? * 1_000_000,
            backend_pid,
            account: None,
            epoch: Epoch(number("epoch", 1)?),
        };
        let made_up;
        let key = match self.word("key").unwrap_or("live") {
            "live" => making.key,
            "foreign" => making.foreign_key,
            "old" => making.old_key.context("no key was rotated yet")?,
            "zero" => {
                made_up = Key::new(making.key.id(), [0; 32]);
                &made_up
            }
            "empty-id" => {
                made_up = Key::new(making.key.id().wrapping_add(77), [0; 32]);
                &made_up
            }
            other => bail!("`{other}` is no key"),
        };
        let mut offer = Offer::from(&key.sign(&token));
        self.bend(&mut offer)?;
        Ok(offer)
    }

    /// What the forger changes after the signing.
    fn bend(&self, offer: &mut Offer) -> Result<()> {
        let message = offer.message.clone().unwrap_or_default();
        match self.word("message").unwrap_or("whole") {
            "whole" => {}
            "cut" => offer.message = Some(message[..57].to_vec()),
            "longer" => offer.message = Some([message, vec![0]].concat()),
            "empty" => offer.message = Some(Vec::new()),
            "null" => offer.message = None,
            "twice" => offer.message = Some([message.clone(), message].concat()),
            other => bail!("`{other}` is no message"),
        }
        let mac = offer.mac.clone().unwrap_or_default();
        match self.word("mac").unwrap_or("right") {
            "right" => {}
            "zero" => offer.mac = Some(vec![0; 32]),
            "cut" => offer.mac = Some(mac[..16].to_vec()),
            "first" => offer.mac = Some(mac[..1].to_vec()),
            "empty" => offer.mac = Some(Vec::new()),
            "null" => offer.mac = None,
            "longer" => offer.mac = Some([mac, vec![0]].concat()),
            // What somebody gets who takes a plain hash for a signature.
            "hash" => {
                let message = offer.message.clone().unwrap_or_default();
                offer.mac = Some(tenantry_core::seal::sha256(&message).to_vec());
            }
            "turned" => offer.mac = Some(mac.into_iter().rev().collect()),
            other => bail!("`{other}` is no code"),
        }
        Ok(())
    }
}
