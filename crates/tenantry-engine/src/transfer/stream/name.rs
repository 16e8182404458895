//! What a move's objects are called.

use tenantry_core::{InstallationId, OperationId};
use tenantry_sql::Identifier;

/// Which of a move's two streams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// From the old home to the new one.
    There,
    /// Back, while the old home is kept.
    Back,
}

/// The name of a move's stream: of its publication, of its slot and of its position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamName {
    installation: InstallationId,
    operation: OperationId,
    direction: Direction,
}

impl StreamName {
    /// The stream of an installation's move.
    pub fn new(installation: &InstallationId, operation: OperationId, direction: Direction) -> Self {
        Self {
            installation: installation.clone(),
            operation,
            direction,
        }
    }

    /// Whose it is.
    pub fn installation(&self) -> &InstallationId {
        &self.installation
    }

    /// The move.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// The name of slot and publication: lower-case letters, digits and underscores.
    pub fn text(&self) -> String {
        let direction = match self.direction {
            Direction::There => "there",
            Direction::Back => "back",
        };
        format!(
            "{}{}_{direction}",
            prefix(&self.installation),
            self.operation.as_uuid().simple()
        )
    }

    /// The same, for SQL.
    pub(super) fn identifier(&self) -> Identifier {
        Identifier::new(self.text()).expect("55 bytes at most, and none of them zero")
    }

    /// A temporary slot beside it.
    pub(super) fn beside(&self) -> String {
        format!("{}_look", self.text())
    }

    /// Reads a name: of this installation's, or none.
    pub(super) fn parse(installation: &InstallationId, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(&prefix(installation))?;
        let (operation, direction) = rest.split_once('_')?;
        let direction = match direction.strip_suffix("_look").unwrap_or(direction) {
            "there" => Direction::There,
            "back" => Direction::Back,
            _ => return None,
        };
        Some(Self::new(installation, operation.parse().ok()?, direction))
    }
}

/// What the names of an installation's streams begin with.
pub(super) fn prefix(installation: &InstallationId) -> String {
    format!("tn_{installation}_move_")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn names_are_read_back_and_those_of_others_are_not() {
        let installation: InstallationId = "0123abcd".parse().unwrap();
        let operation = OperationId::from_uuid(Uuid::from_u128(7));
        for direction in [Direction::There, Direction::Back] {
            let name = StreamName::new(&installation, operation, direction);
            assert!(name.beside().len() <= 63);
            for text in [name.text(), name.beside()] {
                assert_eq!(StreamName::parse(&installation, &text), Some(name.clone()));
                assert_eq!(StreamName::parse(&"ffffffff".parse().unwrap(), &text), None);
            }
        }
        assert_eq!(StreamName::parse(&installation, "tn_0123abcd_move_x_there"), None);
    }
}
