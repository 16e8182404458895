//! Which processors client and server have, in lines with one connection.
//!
//! Where one call follows the other, the scheduler puts both sides now on one processor and now on two, for seconds at a time,
//! and a call costs up to twice as much in one way as in the other: the ratio would say who was lucky. On two processors they
//! are as in production, where they stand on two machines. Where there is one processor, or no such call (not Linux), nothing
//! is changed.

use std::ops::Range;

use super::cpu;

/// Keeps them where they are put until it is dropped; the server's processes that start meanwhile too.
pub(crate) struct Placed {
    postmasters: Vec<u32>,
}

impl Placed {
    /// This process on the first processor, the server on the second.
    pub(crate) fn apart(postmaster: Option<u32>) -> Self {
        Self::with(postmaster, (0, 1))
    }

    /// Both on the first.
    pub(crate) fn together(postmaster: Option<u32>) -> Self {
        Self::with(postmaster, (0, 0))
    }

    fn with(postmaster: Option<u32>, (client, server): (usize, usize)) -> Self {
        let postmasters: Vec<u32> = postmaster.into_iter().collect();
        if count() > 1 {
            put(&cpu::threads(), client..client + 1);
            put_servers(&postmasters, server..server + 1);
        }
        Self { postmasters }
    }

    /// One server and the threads of this process that are called so on the last processor, the other servers and threads on those
    /// before: as if they were two machines.
    pub(crate) fn aside(others: &[Option<u32>], aside: Option<u32>, threads: &str) -> Self {
        let mut postmasters: Vec<u32> = others.iter().copied().flatten().collect();
        let count = count();
        if count > 1 {
            let (before, last) = (0..count - 1, count - 1..count);
            put(&cpu::threads(), before.clone());
            put(&cpu::threads_called(threads), last.clone());
            put_servers(&postmasters, before);
            put_servers(aside.as_slice(), last);
        }
        postmasters.extend(aside);
        Self { postmasters }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        put(&cpu::threads(), 0..usize::MAX);
        put_servers(&self.postmasters, 0..usize::MAX);
    }
}

fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Also what they will begin.
fn put_servers(postmasters: &[u32], on: Range<usize>) {
    for postmaster in postmasters {
        put(&[*postmaster], on.clone());
        put(&cpu::children(*postmaster), on.clone());
    }
}

#[cfg(target_os = "linux")]
fn put(ids: &[u32], on: Range<usize>) {
    use rustix::thread::{CpuSet, Pid, sched_setaffinity};
    let mut set = CpuSet::new();
    (0..CpuSet::MAX_CPU)
        .filter(|one| on.contains(one))
        .for_each(|one| set.set(one));
    // One that has ended meanwhile needs no place; where it is not allowed, the figures spread more.
    for id in ids.iter().filter_map(|id| Pid::from_raw(i32::try_from(*id).ok()?)) {
        let _ = sched_setaffinity(Some(id), &set);
    }
}

#[cfg(not(target_os = "linux"))]
fn put(_ids: &[u32], _on: Range<usize>) {}
