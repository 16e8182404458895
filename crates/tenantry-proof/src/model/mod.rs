//! A model of the cut-over: the catalog, both homes' fences, two processes that may work on the move, and two of the application. Every
//! order in which their steps, crashes, lost answers and overtaken leases can happen is gone through.
//!
//! The explorer is ours and not `stateright`: that one's `eventually` holds on paths without cycles only, and what is asked here is
//! whether a served tenant can still be reached from every state, over retries without end. It would also bring a dozen
//! packages with it, a web server among them, for what takes a hundred lines.

mod cutover;
mod explore;

use anyhow::{Result, bail};

use self::{
    cutover::{CutOver, Wrong},
    explore::explore,
};

/// Explores the model, and each variant of it that is wrong on purpose; what came of it, in a few lines.
pub(crate) fn explored() -> Result<String> {
    let right = CutOver { wrong: None };
    let found = match explore(&right) {
        Ok(explored) => explored,
        Err(counterexample) => bail!("the cut-over does not hold: {counterexample}"),
    };
    let mut lines = vec![format!(
        "{} states, {} steps between them: nothing lost, never two open homes, a served tenant within reach of each",
        found.states, found.steps
    )];
    for wrong in Wrong::ALL {
        match explore(&CutOver { wrong: Some(wrong) }) {
            Ok(_) => bail!("a variant that is wrong passes: {wrong:?}"),
            Err(counterexample) => lines.push(format!("{wrong:?} is found: {counterexample}")),
        }
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_order_of_steps_and_crashes_loses_a_write_or_leaves_a_tenant_unserved() {
        let explored = explore(&CutOver { wrong: None });
        let explored = explored.unwrap_or_else(|counterexample| panic!("{counterexample}"));
        assert!(explored.states > 10_000, "{} states", explored.states);
    }

    #[test]
    fn every_seeded_mistake_is_found() {
        for wrong in Wrong::ALL {
            let found = explore(&CutOver { wrong: Some(wrong) });
            assert!(found.is_err(), "{wrong:?} was not found");
        }
    }
}
