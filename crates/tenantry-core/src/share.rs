//! Dividing a bounded number of connections among those who want some.

/// So many for each, in the order of `wanted`: nobody gets more than it wants, nobody is given less than another who wants no
/// more, and what does not divide goes to the first. The sum is never more than `budget`.
///
/// ```
/// use tenantry_core::divide;
///
/// assert_eq!(divide(60, &[64, 64]), [30, 30]);
/// assert_eq!(divide(10, &[64, 2, 64]), [4, 2, 4]);
/// assert_eq!(divide(2, &[64, 64, 64]), [1, 1, 0]);
/// ```
pub fn divide(budget: u32, wanted: &[u32]) -> Vec<u32> {
    let mut shares = vec![0; wanted.len()];
    let mut left = budget;
    loop {
        let open: Vec<usize> = (0..wanted.len()).filter(|&n| shares[n] < wanted[n]).collect();
        let Ok(count) = u32::try_from(open.len()) else {
            return shares;
        };
        if count == 0 || left == 0 {
            return shares;
        }
        // Less than one for each: the first get it.
        let each = (left / count).max(1);
        for n in open {
            let more = each.min(wanted[n] - shares[n]).min(left);
            shares[n] += more;
            left -= more;
        }
    }
}

/// What of a budget is given to nobody for good: an eighth, of sixteen or more. Who comes new begins with it, at once, while the others
/// have still to close theirs, or while one that was killed still counts.
///
/// ```
/// use tenantry_core::reserve;
///
/// assert_eq!((reserve(64), reserve(16), reserve(15)), (8, 2, 0));
/// ```
pub fn reserve(budget: u32) -> u32 {
    if budget < 16 { 0 } else { budget / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_fair_within_the_budget_and_nothing_is_left_that_somebody_wants() {
        for budget in 0..40 {
            for wanted in [
                &[][..],
                &[0, 5],
                &[5, 5, 5],
                &[1, 9, 2, 30],
                &[40, 40, 40, 40, 40, 40, 40],
            ] {
                let shares = divide(budget, wanted);
                let sum: u32 = shares.iter().sum();
                assert_eq!(sum, budget.min(wanted.iter().sum()), "{budget} {wanted:?} {shares:?}");
                for (n, share) in shares.iter().enumerate() {
                    assert!(share <= &wanted[n]);
                    let content = share == &wanted[n];
                    let others = shares.iter().all(|other| content || *other <= share + 1);
                    assert!(others, "{budget} {wanted:?} {shares:?}");
                }
            }
        }
    }
}
