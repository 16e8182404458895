//! Makes a program that tells the worlds apart as small as it can: delta debugging over A's steps, then over B's acts and
//! rows, then over A's own rows.

use super::{
    run::{Finding, Pair},
    step::{Program, Round},
};

/// How many programs a shrinking may cost.
const ATTEMPTS_MAX: usize = 600;

/// A part of a program that may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Atom {
    StepOfA(usize, usize),
    StepOfB(usize, usize, usize),
    Operator(usize, usize, usize),
    RowOfB(usize, usize),
    Row(usize),
}

/// The smallest program found that still gives a finding of that kind, with the finding.
pub(super) async fn shrink(pair: &mut Pair, program: &Program, finding: Finding) -> (Program, Finding) {
    let mut best = (program.clone(), finding);
    let mut attempts = 0;
    type Kind = fn(&Atom) -> bool;
    let kinds: [Kind; 3] = [
        |atom| matches!(atom, Atom::StepOfA(..)),
        |atom| matches!(atom, Atom::StepOfB(..) | Atom::Operator(..) | Atom::RowOfB(..)),
        |atom| matches!(atom, Atom::Row(_) | Atom::StepOfA(..)),
    ];
    for kind in kinds {
        minimise(pair, &mut best, kind, &mut attempts).await;
    }
    best.0.rounds.retain(|round| !is_empty(round));
    best
}

/// Zeller's ddmin over the atoms of one kind.
async fn minimise(pair: &mut Pair, best: &mut (Program, Finding), kind: fn(&Atom) -> bool, attempts: &mut usize) {
    let mut parts = 2;
    loop {
        let atoms: Vec<Atom> = atoms(&best.0).into_iter().filter(kind).collect();
        if atoms.is_empty() || *attempts >= ATTEMPTS_MAX {
            return;
        }
        let size = atoms.len().div_ceil(parts);
        let mut smaller = None;
        for without in atoms.chunks(size) {
            *attempts += 1;
            let candidate = leave_out(&best.0, without);
            if let Some(finding) = pair.compare(&candidate).await
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

fn atoms(program: &Program) -> Vec<Atom> {
    let mut atoms = Vec::new();
    for (number, round) in program.rounds.iter().enumerate() {
        atoms.extend((0..round.a.len()).map(|step| Atom::StepOfA(number, step)));
        for world in 0..2 {
            atoms.extend((0..round.b[world].len()).map(|step| Atom::StepOfB(number, world, step)));
            atoms.extend((0..round.operator[world].len()).map(|act| Atom::Operator(number, world, act)));
        }
    }
    for world in 0..2 {
        atoms.extend((0..program.fill_b[world].len()).map(|row| Atom::RowOfB(world, row)));
    }
    atoms.extend((0..program.fill.len()).map(Atom::Row));
    atoms
}

fn leave_out(program: &Program, without: &[Atom]) -> Program {
    let keeps = |atom: Atom| !without.contains(&atom);
    let mut smaller = program.clone();
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

fn keep<T>(items: &mut Vec<T>, keeps: impl Fn(usize) -> bool) {
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
    use crate::interference::grammar;

    #[test]
    fn leaving_out_an_atom_takes_exactly_it() {
        let program = grammar::program(7, 0, Isolation::Shared);
        let all = atoms(&program);
        for atom in &all {
            let smaller = leave_out(&program, &[*atom]);
            assert_eq!(atoms(&smaller).len(), all.len() - 1, "{atom:?}");
        }
        assert!(atoms(&leave_out(&program, &all)).is_empty());
    }
}
