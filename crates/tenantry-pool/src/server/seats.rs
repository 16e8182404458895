//! The list of connections that can be ended from outside, whoever uses them.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::ServerPool;
use crate::seat::Seat;

/// The connections that can be ended from outside.
#[derive(Default)]
pub(super) struct Seats {
    by_number: HashMap<u64, Arc<Seat>>,
    last: u64,
}

/// A connection in the list of those that can be ended from outside; leaves it when dropped.
pub(crate) struct Seated {
    server: Arc<ServerPool>,
    number: u64,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.server.seats.lock().by_number.remove(&self.number);
    }
}

impl ServerPool {
    /// Ends every connection, whoever uses it and by whatever driver: others may take their places soon.
    pub(crate) fn cut_all(&self) {
        let seats: Vec<_> = self.seats.lock().by_number.values().cloned().collect();
        for seat in seats {
            seat.cut();
        }
    }

    /// Ends those that were lent for too long.
    pub(super) fn cut_overdue(&self, now: Instant) {
        let seats = self.seats.lock();
        let due: Vec<_> = seats
            .by_number
            .values()
            .filter(|seat| seat.is_due(now))
            .cloned()
            .collect();
        drop(seats);
        for seat in due {
            tracing::warn!("a transaction lasted longer than it may: its connection is closed");
            seat.given_back();
            seat.cut();
        }
    }

    /// Takes a connection into the list of those that can be ended from outside.
    pub(crate) fn seat(self: &Arc<Self>, seat: &Arc<Seat>) -> Seated {
        let mut seats = self.seats.lock();
        seats.last += 1;
        let number = seats.last;
        seats.by_number.insert(number, seat.clone());
        Seated {
            server: self.clone(),
            number,
        }
    }
}
