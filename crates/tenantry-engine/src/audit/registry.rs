//! Every check there is, by family.

mod code;
mod data;
mod grant;
mod key;
mod ours;
mod policy;
mod presence;
mod role;
mod server;

use super::check::Check;

const FAMILIES: [&[Check]; 9] = [
    presence::CHECKS,
    policy::CHECKS,
    role::CHECKS,
    grant::CHECKS,
    code::CHECKS,
    key::CHECKS,
    server::CHECKS,
    data::CHECKS,
    ours::CHECKS,
];

/// All checks.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    FAMILIES.into_iter().flatten()
}

/// The check with this id.
pub fn check(id: &str) -> Option<&'static Check> {
    checks().find(|check| check.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_and_names_are_given_once_and_every_check_says_why_and_how_to_mend_it() {
        let all: Vec<&Check> = checks().collect();
        let ids: BTreeSet<&str> = all.iter().map(|check| check.id).collect();
        let names: BTreeSet<&str> = all.iter().map(|check| check.name).collect();
        assert_eq!((ids.len(), names.len()), (all.len(), all.len()));
        for check in all {
            assert!(
                check.id.len() == 5 && check.why.ends_with('.') && !check.mend.is_empty(),
                "{}",
                check.id
            );
        }
    }
}
