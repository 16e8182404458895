//! What a member may do in a tenant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a member may do in a tenant; ordered from the least to the most.
///
/// The discriminants stand in the seal's flags and in SQL (`tenantry.has_role`), so they never change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Role {
    /// Reads.
    Viewer = 0,
    /// Reads and writes the tenant's rows.
    Member = 1,
    /// And manages members below owner.
    Admin = 2,
    /// And manages owners. Each tenant that had an owner keeps at least one.
    Owner = 3,
}

/// The text names no role.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("role is one of owner, admin, member, viewer")]
pub struct UnknownRole;

impl Role {
    /// Every role, from the least to the most.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    /// The word used in tables, tokens and routes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Whether the role may change the tenant's rows.
    pub fn may_write(self) -> bool {
        self >= Self::Member
    }

    /// Whether the role may manage the tenant's members at all.
    pub fn may_manage_members(self) -> bool {
        self >= Self::Admin
    }

    /// Whether a member with this role may give, change or take away `other`: nobody hands out more than they have.
    pub fn may_manage(self, other: Self) -> bool {
        self.may_manage_members() && self >= other
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_hands_out_more_than_they_have() {
        assert!(Role::Owner.may_manage(Role::Owner));
        assert!(Role::Admin.may_manage(Role::Admin));
        assert!(!Role::Admin.may_manage(Role::Owner));
        assert!(!Role::Member.may_manage(Role::Viewer));
    }
}
