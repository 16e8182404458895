//! A future that is dropped after so many polls.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

/// Polls a future at most `polls` times and drops it then; whether it ended by itself.
pub(crate) async fn dropped_after<F: Future>(polls: usize, future: F) -> bool {
    struct Counted<F> {
        future: F,
        left: usize,
    }
    impl<F: Future + Unpin> Future for Counted<F> {
        type Output = bool;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
            self.left -= 1;
            if Pin::new(&mut self.future).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            match self.left {
                0 => Poll::Ready(false),
                _ => Poll::Pending,
            }
        }
    }
    assert!(polls > 0);
    let future = pin!(future);
    Counted { future, left: polls }.await
}
