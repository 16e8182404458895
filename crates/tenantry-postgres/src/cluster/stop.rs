//! Stopping the server by its own process, which is our child and so can't have become anybody else's.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Progress, Server, StopError};
use crate::process;

/// For an immediate stop and for a kill: neither waits for clients.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Fast, then immediate, then by a kill; returns when the process has ended.
    pub(super) fn stop(&mut self) -> Result<(), StopError> {
        if self.child.is_none() {
            return Ok(());
        }
        self.options.tell(Progress::Stopping);
        let steps = [
            (Signal::INT, self.options.stop_timeout),
            (Signal::QUIT, PATIENCE),
            (Signal::KILL, PATIENCE),
        ];
        for (signal, patience) in steps {
            if self.ended_after(signal, patience)? {
                return Ok(());
            }
            tracing::warn!(?signal, "the private PostgreSQL does not stop in time");
        }
        let pid = self.child.take().map_or(0, |child| child.id());
        Err(StopError::Hangs { pid })
    }

    pub(super) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
            self.child = None;
            // Without its postmaster, a backend still answers a call that is under way.
            let data_dir = self.data_dir();
            process::wait_until(Instant::now() + PATIENCE, || {
                let left = process::servers_below(&data_dir);
                left.iter()
                    .for_each(|process| process::signal(process.pid, Signal::KILL));
                left.is_empty()
            });
        }
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn ended_after(&mut self, signal: Signal, patience: Duration) -> Result<bool, StopError> {
        let Some(child) = &mut self.child else { return Ok(true) };
        let pid = child.id();
        // Not yet waited for, so the number is still this child's.
        if let Ok(raw) = i32::try_from(pid) {
            process::signal(raw, signal);
        }
        let mut result = Ok(false);
        process::wait_until(Instant::now() + patience, || {
            result = child.try_wait().map(|status| status.is_some());
            !matches!(result, Ok(false))
        });
        let ended = result.map_err(|source| StopError::Wait { pid, source })?;
        if ended {
            self.child = None;
        }
        Ok(ended)
    }
}
