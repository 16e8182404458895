//! In which order objects can be made.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, types::Type};

use crate::{
    migrate::{ApplyError, Target},
    structure::fact::Class,
};

/// An object by kind and name, as the facts name it.
pub(in crate::structure) type Object = (Class, String);

/// What needs what.
#[derive(Debug, Default)]
pub(in crate::structure) struct Needs {
    /// Without which an object can't be made.
    hard: BTreeMap<Object, BTreeSet<Object>>,
    /// What a foreign key points to, which can be made later.
    soft: BTreeMap<Object, BTreeSet<Object>>,
    /// The table that a foreign key points to, by its own table and its name.
    targets: BTreeMap<(String, String), String>,
}

impl Needs {
    pub(in crate::structure) async fn read(client: &Client, target: &Target) -> Result<Self, ApplyError> {
        let rows = client
            .query_typed(include_str!("order.sql"), &[(&target.schema.to_string(), Type::TEXT)])
            .await?;
        let mut needs = Self::default();
        for row in rows {
            let class =
                |at: usize| -> Option<Class> { serde_json::from_value(serde_json::Value::String(row.get(at))).ok() };
            let (Some(one), Some(other)) = (class(0), class(2)) else {
                continue;
            };
            let (one, other) = ((one, row.get::<_, String>(1)), (other, row.get::<_, String>(3)));
            let key: String = row.get(4);
            let kind = if key.is_empty() {
                &mut needs.hard
            } else {
                needs.targets.insert((one.1.clone(), key), other.1.clone());
                &mut needs.soft
            };
            if one != other {
                kind.entry(one).or_default().insert(other);
            }
        }
        Ok(needs)
    }

    /// Where a foreign key points.
    pub(in crate::structure) fn target(&self, table: &str, key: &str) -> Option<&str> {
        self.targets
            .get(&(table.to_owned(), key.to_owned()))
            .map(String::as_str)
    }

    /// The objects so that each comes after what it needs, and as far as there is no circle after what its keys point to. `None`
    /// where two need each other.
    pub(in crate::structure) fn sorted(&self, objects: impl IntoIterator<Item = Object>) -> Option<Vec<Object>> {
        let mut walk = Walk {
            needs: self,
            done: BTreeSet::new(),
            open: BTreeSet::new(),
            sorted: Vec::new(),
        };
        for object in objects {
            walk.visit(&object)?;
        }
        Some(walk.sorted)
    }
}

struct Walk<'n> {
    needs: &'n Needs,
    done: BTreeSet<Object>,
    open: BTreeSet<Object>,
    sorted: Vec<Object>,
}

impl Walk<'_> {
    fn visit(&mut self, object: &Object) -> Option<()> {
        if self.done.contains(object) {
            return Some(());
        }
        if !self.open.insert(object.clone()) {
            return None;
        }
        let needs = self.needs;
        for needed in needs.hard.get(object).into_iter().flatten() {
            self.visit(needed)?;
        }
        for wished in needs.soft.get(object).into_iter().flatten() {
            // One that is begun needs this one: the key follows when both are there.
            if !self.open.contains(wished) || self.done.contains(wished) {
                self.visit_if_possible(wished);
            }
        }
        self.open.remove(object);
        if self.done.insert(object.clone()) {
            self.sorted.push(object.clone());
        }
        Some(())
    }

    /// What it was about to make stays undone where it needs something that is begun.
    fn visit_if_possible(&mut self, object: &Object) {
        let (done, open, made) = (self.done.clone(), self.open.clone(), self.sorted.len());
        if self.visit(object).is_none() {
            (self.done, self.open) = (done, open);
            self.sorted.truncate(made);
        }
    }
}
