//! Tenants of which a change did not reach Redis, or may not have: what stands there may be outdated.

use std::{collections::HashSet, mem};

use parking_lot::Mutex;
use tenantry_core::TenantId;

/// Above this many, all tenants are in doubt.
const TENANTS_MAX: usize = 10_000;

/// What is in doubt until Redis is back.
#[derive(Default)]
pub(super) struct Doubt(Mutex<Doubtful>);

/// Whose values are in doubt.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Doubtful {
    These(HashSet<TenantId>),
    All,
}

impl Default for Doubtful {
    fn default() -> Self {
        Self::These(HashSet::new())
    }
}

impl Doubtful {
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::These(tenants) if tenants.is_empty())
    }
}

impl Doubt {
    pub(super) fn add(&self, tenant: TenantId) {
        let mut doubtful = self.0.lock();
        if let Doubtful::These(tenants) = &mut *doubtful {
            tenants.insert(tenant);
            if tenants.len() > TENANTS_MAX {
                *doubtful = Doubtful::All;
            }
        }
    }

    /// Takes all; what can't be settled is given back.
    pub(super) fn take(&self) -> Doubtful {
        mem::take(&mut self.0.lock())
    }

    pub(super) fn give_back(&self, unsettled: Doubtful) {
        match unsettled {
            Doubtful::All => *self.0.lock() = Doubtful::All,
            Doubtful::These(tenants) => tenants.into_iter().for_each(|tenant| self.add(tenant)),
        }
    }

    /// Does something while nothing can be added, if nothing is in doubt.
    pub(super) fn if_none<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let doubtful = self.0.lock();
        doubtful.is_none().then(act)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn too_many_tenants_are_all_of_them_and_nothing_is_forgotten() {
        let doubt = Doubt::default();
        for n in 0..20_000 {
            doubt.add(TenantId::from_uuid(Uuid::from_u128(n)));
        }
        let taken = doubt.take();
        assert_eq!(taken, Doubtful::All);
        assert_eq!(doubt.if_none(|| ()), Some(()));
        doubt.add(TenantId::from_uuid(Uuid::nil()));
        doubt.give_back(taken);
        assert_eq!(doubt.if_none(|| ()), None);
        assert_eq!(doubt.take(), Doubtful::All);
    }
}
