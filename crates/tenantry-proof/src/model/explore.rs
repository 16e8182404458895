//! Goes through every state of a model, breadth first, so that what is found is found by a shortest way.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
};

/// What can be explored: finitely many states.
pub(super) trait Model {
    /// Everything that decides what can happen next.
    type State: Copy + Eq + Hash + fmt::Debug;

    fn initial(&self) -> Self::State;

    /// Everything that can happen, with a name for people.
    fn steps(&self, state: &Self::State, into: &mut Vec<(String, Self::State)>);

    /// What is wrong with a state, whatever comes after it.
    fn wrong(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether a state is one that has to stay within reach.
    fn is_goal(&self, state: &Self::State) -> bool;
}

/// How large it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) steps: usize,
}

/// A way to a state that may not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counterexample {
    what: &'static str,
    steps: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, after {} steps: {}",
            self.what,
            self.steps.len(),
            self.steps.join("; ")
        )
    }
}

/// A state as it was reached first: from which one, by what.
struct Reached {
    by: Option<(usize, String)>,
}

/// Goes through all of them. Every state has to be right, and from every one a goal has to be within reach.
pub(super) fn explore<M: Model>(model: &M) -> Result<Explored, Counterexample> {
    let initial = model.initial();
    let mut numbers = HashMap::from([(initial, 0)]);
    let mut reached = vec![Reached { by: None }];
    let mut goals = vec![model.is_goal(&initial)];
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut queue = VecDeque::from([(0, initial)]);
    let (mut next, mut steps) = (Vec::new(), 0);
    while let Some((number, state)) = queue.pop_front() {
        if let Some(what) = model.wrong(&state) {
            return Err(way(&reached, number, what));
        }
        model.steps(&state, &mut next);
        for (name, after) in next.drain(..) {
            steps += 1;
            let fresh = reached.len();
            let there = *numbers.entry(after).or_insert(fresh);
            if there == fresh {
                reached.push(Reached {
                    by: Some((number, name)),
                });
                goals.push(model.is_goal(&after));
                before.push(Vec::new());
                queue.push_back((there, after));
            }
            before[there].push(number);
        }
    }
    let within_reach = backwards(&goals, &before);
    match within_reach.iter().position(|reaches| !reaches) {
        Some(number) => Err(way(&reached, number, "no goal can be reached any more")),
        None => Ok(Explored {
            states: reached.len(),
            steps,
        }),
    }
}

/// The states from which one of these can be reached.
fn backwards(goals: &[bool], before: &[Vec<usize>]) -> Vec<bool> {
    let mut reaches = goals.to_vec();
    let mut queue: VecDeque<usize> = (0..goals.len()).filter(|number| goals[*number]).collect();
    while let Some(number) = queue.pop_front() {
        for earlier in &before[number] {
            if !std::mem::replace(&mut reaches[*earlier], true) {
                queue.push_back(*earlier);
            }
        }
    }
    reaches
}

fn way(reached: &[Reached], mut number: usize, what: &'static str) -> Counterexample {
    let mut steps = Vec::new();
    while let Some((earlier, name)) = &reached[number].by {
        steps.push(name.clone());
        number = *earlier;
    }
    steps.reverse();
    Counterexample { what, steps }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up to five; may stop for good at three.
    struct Counter {
        stops: bool,
        limit: u8,
    }

    impl Model for Counter {
        type State = (u8, bool);

        fn initial(&self) -> Self::State {
            (0, false)
        }

        fn steps(&self, state: &Self::State, into: &mut Vec<(String, Self::State)>) {
            let (count, stopped) = *state;
            if stopped {
                return;
            }
            into.push((format!("to {}", (count + 1) % 6), ((count + 1) % 6, false)));
            if self.stops && count == 3 {
                into.push(("stop".to_owned(), (count, true)));
            }
        }

        fn wrong(&self, state: &Self::State) -> Option<&'static str> {
            (state.0 > self.limit).then_some("too far")
        }

        fn is_goal(&self, state: &Self::State) -> bool {
            state.0 == 5
        }
    }

    #[test]
    fn a_wrong_state_is_found_by_a_shortest_way_and_a_dead_end_too() {
        let model = |stops, limit| Counter { stops, limit };
        let explored = explore(&model(false, 5)).unwrap();
        assert_eq!(explored, Explored { states: 6, steps: 6 });
        let found = explore(&model(false, 3)).unwrap_err();
        assert_eq!(found.steps, ["to 1", "to 2", "to 3", "to 4"]);
        let found = explore(&model(true, 5)).unwrap_err();
        assert_eq!(found.what, "no goal can be reached any more");
        assert_eq!(found.steps.last().map(String::as_str), Some("stop"));
    }
}
