//! Which processors client and server have, in lines with one connection.
//!
//! Where one call follows the other, the scheduler puts both sides now on one processor and now on two, for seconds at a time,
//! and a call costs up to twice as much in one way as in the other: the ratio would say who was lucky. On two processors they
//! are as in production, where they stand on two machines. Where there is one processor, or no such call (not Linux), nothing
//! is changed.

use super::cpu;

/// Keeps them where they are put until it is dropped; the server's processes that start meanwhile too.
pub(crate) struct Placed {
    postmaster: Option<u32>,
}

impl Placed {
    /// This process on the first processor, the server on the second.
    pub(crate) fn apart(postmaster: Option<u32>) -> Self {
        place(postmaster, Some((0, 1)));
        Self { postmaster }
    }

    /// Both on the first.
    pub(crate) fn together(postmaster: Option<u32>) -> Self {
        place(postmaster, Some((0, 0)));
        Self { postmaster }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        place(self.postmaster, None);
    }
}

/// On these two processors, or on any.
#[cfg(target_os = "linux")]
fn place(postmaster: Option<u32>, processors: Option<(usize, usize)>) {
    use rustix::thread::{CpuSet, Pid, sched_setaffinity};
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    // Once this process is on one processor it is told of one only.
    if processors.is_some() && count < 2 {
        return;
    }
    let set = |one: Option<usize>| {
        let mut set = CpuSet::new();
        match one {
            Some(one) => set.set(one),
            None => (0..CpuSet::MAX_CPU).for_each(|one| set.set(one)),
        }
        set
    };
    let put = |id: u32, on: &CpuSet| {
        // One that has ended meanwhile needs no place; where it is not allowed, the figures spread more.
        if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            let _ = sched_setaffinity(Some(id), on);
        }
    };
    let (client, server) = (
        set(processors.map(|(client, _)| client)),
        set(processors.map(|(_, server)| server)),
    );
    for thread in cpu::threads() {
        put(thread, &client);
    }
    if let Some(postmaster) = postmaster {
        put(postmaster, &server);
        for child in cpu::children(postmaster) {
            put(child, &server);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn place(_postmaster: Option<u32>, _processors: Option<(usize, usize)>) {}
