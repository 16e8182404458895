//! Rules that replace personal data in a copy.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use super::{Column, TableHead, copy_text};

/// How the values of a column are replaced. Null stays null.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskRule {
    /// By null.
    Null,
    /// By 32 hex digits that are the same wherever the value is the same, in this copy and in no other.
    Hash,
    /// By an address at `masked.invalid`, the same for the same value.
    Email,
    /// By `Person` and a number, the same for the same value.
    Name,
    /// By this text.
    Fixed(String),
}

/// Rules by table and column.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Masks(pub BTreeMap<String, BTreeMap<String, MaskRule>>);

/// Why a rule can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaskError {
    /// There is nothing of this name.
    #[error("mask: there is no {0}: rules that hide nothing would look as if they did")]
    Unknown(String),
    /// Rows are known by it.
    #[error("mask: {0} is part of its table's primary key, by which other rows may know it: it can't be masked")]
    Key(String),
    /// It is never null.
    #[error("mask: {0} is never null: use `fixed` or `hash`")]
    Required(String),
    /// The value would not fit.
    #[error("mask: {column} is {kind}, and what this rule writes does not fit: use `null` or `fixed`")]
    Type {
        /// Which.
        column: String,
        /// Its type.
        kind: String,
    },
}

/// Rules that fit the tables, with a key of this copy's own.
#[derive(Debug)]
pub struct Mask {
    rules: BTreeMap<String, BTreeMap<String, MaskRule>>,
    key: hmac::Key,
}

/// The rules of one table.
pub(super) struct MaskedTable<'a> {
    /// By the number of the column.
    rules: Vec<(usize, &'a MaskRule)>,
    key: &'a hmac::Key,
}

impl Mask {
    /// Checks rules against the tables that they are for.
    ///
    /// # Errors
    ///
    /// See [`MaskError`].
    ///
    /// # Panics
    ///
    /// When the operating system gives no randomness.
    pub fn new<'a>(masks: &Masks, heads: impl IntoIterator<Item = &'a TableHead>) -> Result<Self, MaskError> {
        let heads: Vec<&TableHead> = heads.into_iter().collect();
        for (table, rules) in &masks.0 {
            let head = heads.iter().find(|head| head.name == *table);
            let head = head.ok_or_else(|| MaskError::Unknown(format!("table {table}")))?;
            for (column, rule) in rules {
                let place = format!("{table}.{column}");
                let known = head.columns.iter().find(|known| known.name == *column);
                let known = known.ok_or_else(|| MaskError::Unknown(format!("column {place}")))?;
                if head.key.contains(column) {
                    return Err(MaskError::Key(place));
                }
                check(known, rule, place)?;
            }
        }
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).expect("the operating system gives randomness");
        Ok(Self {
            rules: masks.0.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        })
    }

    pub(super) fn table<'a>(&'a self, head: &TableHead) -> MaskedTable<'a> {
        let rules = self.rules.get(&head.name).into_iter().flatten();
        let numbered = rules.filter_map(|(column, rule)| {
            let number = head.columns.iter().position(|known| known.name == *column)?;
            Some((number, rule))
        });
        MaskedTable {
            rules: numbered.collect(),
            key: &self.key,
        }
    }
}

/// How many characters a rule writes.
const WRITES: usize = 32;

fn check(column: &Column, rule: &MaskRule, place: String) -> Result<(), MaskError> {
    match rule {
        MaskRule::Null if column.required => Err(MaskError::Required(place)),
        // Whether a fixed text is a value of the type, PostgreSQL says.
        MaskRule::Null | MaskRule::Fixed(_) => Ok(()),
        MaskRule::Hash | MaskRule::Email | MaskRule::Name => {
            let limit = column
                .r#type
                .strip_prefix("character varying(")
                .and_then(|rest| rest.strip_suffix(')')?.parse::<usize>().ok());
            let fits = match column.r#type.as_str() {
                "text" | "character varying" | "citext" => true,
                _ => limit.is_some_and(|limit| limit >= WRITES),
            };
            if fits {
                return Ok(());
            }
            Err(MaskError::Type {
                column: place,
                kind: column.r#type.clone(),
            })
        }
    }
}

impl MaskedTable<'_> {
    /// Writes the row with what is masked replaced; `false` where nothing is.
    pub(super) fn apply(&self, line: &[u8], out: &mut Vec<u8>) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        for (number, field) in copy_text::fields(line).enumerate() {
            if number > 0 {
                out.push(b'\t');
            }
            let rule = self.rules.iter().find(|(masked, _)| *masked == number);
            match (rule, copy_text::unescape(field)) {
                (Some((_, rule)), Some(plain)) => copy_text::escape(self.replace(rule, &plain).as_deref(), out),
                _ => out.extend_from_slice(field),
            }
        }
        out.push(b'\n');
        true
    }

    fn replace(&self, rule: &MaskRule, plain: &[u8]) -> Option<Vec<u8>> {
        let digits = || hex::encode(&hmac::sign(self.key, plain).as_ref()[..16]);
        match rule {
            MaskRule::Null => None,
            MaskRule::Fixed(text) => Some(text.clone().into_bytes()),
            MaskRule::Hash => Some(digits().into_bytes()),
            // Sixteen digits: enough that a unique column stays one.
            MaskRule::Email => Some(format!("{}@masked.invalid", &digits()[..16]).into_bytes()),
            MaskRule::Name => Some(format!("Person {}", &digits()[..16]).into_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> TableHead {
        let column = |name: &str, kind: &str, required| Column {
            name: name.to_owned(),
            r#type: kind.to_owned(),
            required,
        };
        TableHead {
            name: "contacts".to_owned(),
            columns: vec![
                column("id", "uuid", true),
                column("email", "text", false),
                column("name", "character varying(20)", true),
                column("phone", "text", false),
            ],
            key: vec!["id".to_owned()],
            sequences: Vec::new(),
            references: None,
        }
    }

    fn mask(rules: serde_json::Value) -> Result<Mask, MaskError> {
        Mask::new(&serde_json::from_value(rules).unwrap(), [&head()])
    }

    #[test]
    fn the_same_value_becomes_the_same_other_one_and_null_stays_null() {
        let mask =
            mask(serde_json::json!({"contacts": {"email": "email", "name": {"fixed": "X\tY"}, "phone": "null"}}))
                .unwrap();
        let (head, mut rows) = (head(), Vec::new());
        for line in ["1\ta@b.c\tAnn\t5\n", "2\ta@b.c\tBob\t\\N\n", "3\t\\N\tCy\t6\n"] {
            let mut out = Vec::new();
            assert!(mask.table(&head).apply(line.as_bytes(), &mut out));
            rows.push(String::from_utf8(out).unwrap());
        }
        let email = rows[0].split('\t').nth(1).unwrap().to_owned();
        assert!(email.ends_with("@masked.invalid") && email.len() <= WRITES, "{email}");
        assert_eq!(rows[0], format!("1\t{email}\tX\\tY\t\\N\n"));
        assert_eq!(rows[1], format!("2\t{email}\tX\\tY\t\\N\n"));
        assert_eq!(rows[2], "3\t\\N\tX\\tY\t\\N\n");
    }

    #[test]
    fn a_rule_that_hides_nothing_or_breaks_something_is_refused() {
        for (rules, wanted) in [
            (serde_json::json!({"people": {"email": "null"}}), "no table people"),
            (
                serde_json::json!({"contacts": {"mail": "null"}}),
                "no column contacts.mail",
            ),
            (serde_json::json!({"contacts": {"id": "hash"}}), "primary key"),
            (serde_json::json!({"contacts": {"name": "null"}}), "never null"),
            (serde_json::json!({"contacts": {"name": "hash"}}), "does not fit"),
        ] {
            let error = mask(rules).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
