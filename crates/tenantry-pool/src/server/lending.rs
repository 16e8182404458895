//! The pool's own connections: who gets one, and what becomes of it afterwards.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::TenantId;
use tenantry_wire::Binding;
use tokio::{runtime::Handle, sync::oneshot};

use super::{Inner, ServerPool};
use crate::{
    Error,
    database::DatabasePool,
    member::{Lease, Member, parting},
    queue::{FairQueue, Waiter},
};

impl ServerPool {
    /// An idle connection: one bound as needed if there is one, else an unbound one, else the one unused for longest. `None` where
    /// none is idle, or the tenant has as many as it may.
    pub(crate) fn take_idle(
        &self,
        pool: &Arc<DatabasePool>,
        binding: &Binding<'_>,
        now: Instant,
    ) -> Option<Box<Member>> {
        let mut inner = self.inner.lock();
        let database = inner.databases[pool.slot()].as_mut()?;
        debug_assert!(
            std::ptr::eq(database.pool.as_ptr(), Arc::as_ptr(pool)),
            "B2: a pool looks among another database's connections"
        );
        database.note_use(binding.tenant, now);
        if database.idle.is_empty() || database.room(&self.config, binding.tenant, now) == 0 {
            return None;
        }
        let member = database.best(binding)?;
        database.heat.warm(now);
        database.lend(binding.tenant);
        Some(member)
    }

    /// Takes a place in the queue; `None` where a connection has come back by now.
    pub(crate) fn queue_up(
        self: &Arc<Self>,
        slot: usize,
        tenant: TenantId,
    ) -> Option<Result<oneshot::Receiver<Result<Lease, Error>>, Error>> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let asked = inner.next_turn();
        let Some(database) = inner.databases[slot].as_mut().filter(|database| !database.retired) else {
            return Some(Err(Error::Readdressed));
        };
        if !database.idle.is_empty() && database.room(&self.config, tenant, now) > 0 {
            return None;
        }
        if let Err(error) = database.admit(&self.config, tenant) {
            return Some(Err(error));
        }
        database.heat.warm(now);
        let (sender, receiver) = oneshot::channel();
        database.waiting.push(tenant, Waiter { asked, sender });
        self.needs(&mut inner, slot, now);
        Some(Ok(receiver))
    }

    /// Whether the tenant waits because of what it has itself, and not because its database or the server has no more.
    pub(crate) fn is_at_its_limit(&self, slot: usize, tenant: TenantId) -> bool {
        let inner = self.inner.lock();
        inner.databases[slot]
            .as_ref()
            .is_some_and(|database| database.room(&self.config, tenant, Instant::now()) == 0)
    }

    /// Takes a connection back from the tenant it was lent to, and gives it to whose turn it is.
    pub(crate) fn put_back(self: &Arc<Self>, pool: &Arc<DatabasePool>, mut member: Box<Member>, tenant: TenantId) {
        let slot = pool.slot();
        let now = Instant::now();
        member.idle_since = now;
        member.seat.given_back();
        member.session.forget_begin();
        let clean = member.session.is_clean();
        let mut inner = self.inner.lock();
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        database.take_back(tenant);
        let others_wait = database.waiting_for_turns() > 0;
        if others_wait {
            // Who asked by way of another driver before the first of those who wait here may have what the tenant had.
            let before = database.first_in_own_lane(&self.config, now);
            database.grant_turns(&self.config, now, before);
        }
        if clean && member.dies > now && !database.retired && !database.is_full_of_tables(&self.config, &member) {
            self.give(&mut inner, pool, member, now);
        } else {
            self.close(&mut inner, slot, member);
            self.settle(&mut inner, now);
        }
        if others_wait && let Some(database) = &mut inner.databases[slot] {
            database.grant_turns(&self.config, now, u64::MAX);
        }
    }

    /// A connection that was taken from the idle ones, and is closed or too old.
    pub(crate) fn bury(self: &Arc<Self>, slot: usize, member: Box<Member>, tenant: TenantId) {
        let mut inner = self.inner.lock();
        if let Some(database) = &mut inner.databases[slot] {
            database.take_back(tenant);
        }
        self.close(&mut inner, slot, member);
    }

    /// A new connection. Whatever its age: it serves once.
    pub(crate) fn opened(self: &Arc<Self>, pool: &Arc<DatabasePool>, member: Box<Member>, took: Duration) {
        let now = Instant::now();
        let slot = pool.slot();
        let mut inner = self.inner.lock();
        inner.opening -= 1;
        inner.note_opening(took);
        match &mut inner.databases[slot] {
            Some(database) if !database.retired => {
                database.opening -= 1;
                self.give(&mut inner, pool, member, now);
                self.needs_still(&mut inner, slot, now);
            }
            Some(database) => {
                database.opening -= 1;
                self.close(&mut inner, slot, member);
                self.settle(&mut inner, now);
            }
            None => {}
        }
    }

    /// No new connection. Where others serve, who waits goes on waiting for those; where there are none, nobody waits in vain.
    pub(crate) fn not_opened(self: &Arc<Self>, slot: usize, error: &Error) {
        let refused = {
            let mut inner = self.inner.lock();
            inner.opening -= 1;
            inner.open -= 1;
            let (mut refused, mut is_last) = (FairQueue::default(), false);
            if let Some(database) = &mut inner.databases[slot] {
                database.opening -= 1;
                database.open -= 1;
                if database.own_open() == 0 {
                    refused = std::mem::take(&mut database.waiting);
                    is_last = true;
                }
                // Tried again when the next one asks, and not on and on for those who wait.
                database.hungry_since = None;
                inner.hungry.retain(|hungry| *hungry != slot);
            }
            self.tell_shrunk(&mut inner);
            inner.forget_if_over(slot);
            match is_last {
                // Nobody is left for whom it would be tried on and on. Who waits in another lane finds out by an attempt of its own.
                true => self.needs_still(&mut inner, slot, Instant::now()),
                false => self.settle(&mut inner, Instant::now()),
            }
            refused
        };
        for waiter in refused {
            let _ = waiter.sender.send(Err(error.again()));
        }
    }

    /// Gives a connection to whose turn it is.
    pub(crate) fn give(
        self: &Arc<Self>,
        inner: &mut Inner,
        pool: &Arc<DatabasePool>,
        mut member: Box<Member>,
        now: Instant,
    ) {
        debug_assert!(
            member.session.is_clean(),
            "B2, B4: a connection comes back from a call that has not ended"
        );
        let slot = pool.slot();
        if inner.standing() > inner.share || self.is_anothers_turn(inner, slot, &member, now) {
            self.close(inner, slot, member);
            return self.settle(inner, now);
        }
        let Some(database) = &mut inner.databases[slot] else {
            return;
        };
        while let Some((tenant, waiter)) = database.next_waiter(&self.config, now) {
            match waiter.sender.send(Ok(Lease::new(member, pool.clone(), tenant))) {
                Ok(()) => {
                    database.lend(tenant);
                    return;
                }
                // This one gave up. The lease comes back whole, so nothing is given back twice.
                Err(Ok(lease)) => match lease.take() {
                    Some(same) => member = same,
                    None => return,
                },
                Err(Err(_)) => return,
            }
        }
        database.idle.push(member);
        if !inner.hungry.is_empty() {
            self.settle(inner, now);
        }
    }

    /// Ends a connection; its place is free when the server has ended its side, so that the bound holds there too.
    pub(crate) fn close(self: &Arc<Self>, inner: &mut Inner, slot: usize, member: Box<Member>) {
        inner.closing += 1;
        if let Some(database) = &mut inner.databases[slot] {
            database.closing += 1;
        }
        let server = self.clone();
        match Handle::try_current() {
            Ok(runtime) => {
                let limit = parting(&self.config);
                runtime.spawn(async move {
                    member.end(limit).await;
                    server.closed(slot);
                });
            }
            Err(_) => {
                member.session.terminate();
                inner.is_closed(slot);
            }
        }
    }

    fn closed(self: &Arc<Self>, slot: usize) {
        let mut inner = self.inner.lock();
        inner.is_closed(slot);
        self.after_closing(&mut inner, slot);
    }
}
