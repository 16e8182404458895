//! Between two looks at who is still there.

use std::time::Duration;

/// The first one: most of what is waited for is over in a moment, for which a tenant waits too.
const FIRST: Duration = Duration::from_millis(1);

/// Pauses that grow up to a length at which looking costs next to nothing.
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(super) fn up_to(longest: Duration) -> Self {
        Self { next: FIRST, longest }
    }

    /// # Cancel safety
    ///
    /// Dropped, the next pause is as long.
    pub(super) async fn pause(&mut self) {
        let pause = self.next.min(self.longest);
        tokio::time::sleep(pause).await;
        self.next = 2 * pause;
    }
}
