//! Makes a program that tells the worlds apart as small as it can: delta debugging over A's acts, then over B's acts and
//! rows, then over A's own rows.

use std::fmt::Display;

use super::{
    run::Finding,
    step::{Program, Round},
    ways::Compares,
};

/// How many programs a shrinking may cost.
const ATTEMPTS_MAX: usize = 600;

/// What can be made smaller by leaving parts out.
pub(super) trait Shrinks: Clone + Display {
    type Atom: Copy + PartialEq + 'static;
    /// Which parts are left out first, and which then.
    const ORDER: &'static [fn(&Self::Atom) -> bool];

    fn atoms(&self) -> Vec<Self::Atom>;
    fn leave_out(&self, without: &[Self::Atom]) -> Self;
    /// Takes out what holds nothing any more.
    fn tidy(&mut self);
    /// How many of A's observations are compared.
    fn statements(&self) -> usize;
    /// The shapes of A's acts.
    fn shapes(&self) -> impl Iterator<Item = &str>;
}

/// The smallest program found that still gives a finding of that kind, with the finding.
pub(super) async fn shrink<C: Compares>(
    comparer: &mut C,
    program: &C::Program,
    finding: Finding,
) -> (C::Program, Finding) {
    let mut best = (program.clone(), finding);
    let mut attempts = 0;
    for kind in C::Program::ORDER {
        minimise(comparer, &mut best, *kind, &mut attempts).await;
    }
    best.0.tidy();
    best
}

/// Zeller's ddmin over the atoms of one kind.
async fn minimise<C: Compares>(
    comparer: &mut C,
    best: &mut (C::Program, Finding),
    kind: fn(&<C::Program as Shrinks>::Atom) -> bool,
    attempts: &mut usize,
) {
    let mut parts = 2;
    loop {
        let atoms: Vec<_> = best.0.atoms().into_iter().filter(kind).collect();
        if atoms.is_empty() || *attempts >= ATTEMPTS_MAX {
            return;
        }
        let size = atoms.len().div_ceil(parts);
        let mut smaller = None;
        for without in atoms.chunks(size) {
            *attempts += 1;
            let candidate = best.0.leave_out(without);
            if let Some(finding) = comparer.compare(&candidate).await
                && finding.kind == best.1.kind
            {
                smaller = Some((candidate, finding));
                break;
            }
        }
        match smaller {
            Some(found) => {
                *best = found;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => return,
            None => parts = (parts * 2).min(atoms.len()),
        }
    }
}

/// A part of a program that may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Atom {
    StepOfA(usize, usize),
    StepOfB(usize, usize, usize),
    Operator(usize, usize, usize),
    RowOfB(usize, usize),
    Row(usize),
}

impl Shrinks for Program {
    type Atom = Atom;
    const ORDER: &'static [fn(&Atom) -> bool] = &[
        |atom| matches!(atom, Atom::StepOfA(..)),
        |atom| matches!(atom, Atom::StepOfB(..) | Atom::Operator(..) | Atom::RowOfB(..)),
        |atom| matches!(atom, Atom::Row(_) | Atom::StepOfA(..)),
    ];

    fn atoms(&self) -> Vec<Atom> {
        let mut atoms = Vec::new();
        for (number, round) in self.rounds.iter().enumerate() {
            atoms.extend((0..round.a.len()).map(|step| Atom::StepOfA(number, step)));
            for world in 0..2 {
                atoms.extend((0..round.b[world].len()).map(|step| Atom::StepOfB(number, world, step)));
                atoms.extend((0..round.operator[world].len()).map(|act| Atom::Operator(number, world, act)));
            }
        }
        for world in 0..2 {
            atoms.extend((0..self.fill_b[world].len()).map(|row| Atom::RowOfB(world, row)));
        }
        atoms.extend((0..self.fill.len()).map(Atom::Row));
        atoms
    }

    fn leave_out(&self, without: &[Atom]) -> Self {
        let keeps = |atom: Atom| !without.contains(&atom);
        let mut smaller = self.clone();
        for (number, round) in smaller.rounds.iter_mut().enumerate() {
            keep(&mut round.a, |step| keeps(Atom::StepOfA(number, step)));
            for world in 0..2 {
                keep(&mut round.b[world], |step| keeps(Atom::StepOfB(number, world, step)));
                keep(&mut round.operator[world], |act| {
                    keeps(Atom::Operator(number, world, act))
                });
            }
        }
        for world in 0..2 {
            keep(&mut smaller.fill_b[world], |row| keeps(Atom::RowOfB(world, row)));
        }
        keep(&mut smaller.fill, |row| keeps(Atom::Row(row)));
        smaller
    }

    fn tidy(&mut self) {
        self.rounds.retain(|round| !is_empty(round));
    }

    fn statements(&self) -> usize {
        Self::statements(self)
    }

    fn shapes(&self) -> impl Iterator<Item = &str> {
        self.rounds
            .iter()
            .flat_map(|round| &round.a)
            .map(|step| step.shape.as_str())
    }
}

/// Keeps the items at these positions.
pub(super) fn keep<T>(items: &mut Vec<T>, keeps: impl Fn(usize) -> bool) {
    let mut position = 0;
    items.retain(|_| {
        position += 1;
        keeps(position - 1)
    });
}

fn is_empty(round: &Round) -> bool {
    round.a.is_empty() && !round.fenced && round.b.iter().all(Vec::is_empty) && round.operator.iter().all(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use tenantry_core::Isolation;

    use super::*;
    use crate::interference::{grammar, http};

    fn each_atom_is_one_part<P: Shrinks>(program: &P)
    where
        P::Atom: std::fmt::Debug,
    {
        let all = program.atoms();
        assert!(!all.is_empty());
        for atom in &all {
            let smaller = program.leave_out(&[*atom]);
            assert_eq!(smaller.atoms().len(), all.len() - 1, "{atom:?}");
        }
        assert!(program.leave_out(&all).atoms().is_empty());
    }

    #[test]
    fn leaving_out_an_atom_takes_exactly_it() {
        each_atom_is_one_part(&grammar::program(7, 0, Isolation::Shared));
        each_atom_is_one_part(&http::requests(7, 0));
    }
}
