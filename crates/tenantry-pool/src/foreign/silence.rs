//! A server that falls silent in the middle of a statement: nothing comes from it any more, and nothing says that its socket is dead.
//!
//! Our own client counts the time of each call. Other drivers leave that to the server, which can't tell them anything once the network
//! swallows what it says. So the relay between them looks at who spoke last: where the driver has asked, the server has not come to the end
//! of its answer, and nothing was said for longer than a statement may run, nothing will come.
//!
//! The end of one answer is taken for the end of all that was asked before. A driver that asks several things without waiting in between, and
//! loses the server after the first answer, is not told here: whatever it asks next is missed in time, or else the transaction's own time
//! ends the connection. To know how many answers are owed one would have to know which questions the server passes over, as it does with
//! those behind a failure and within a copy; and a count that is too high by one closes a connection that lies idle and well.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep_until};

/// How much longer than a statement may run its answer is waited for: at the limit the server stops it and says so.
const GRACE: Duration = Duration::from_secs(1);
/// What every message begins with: its tag and its length.
const HEADER: usize = 5;

/// What driver and server owe each other on one connection.
#[derive(Clone, Debug)]
pub(super) struct Silence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    conversation: Mutex<Conversation>,
    /// Rings when a statement may take another time than before.
    changed: Notify,
}

#[derive(Debug)]
struct Conversation {
    /// How long a statement may run.
    limit: Duration,
    /// Since when the server owes an answer, or the rest of one.
    owed_since: Option<Instant>,
    /// The driver is waited for: it does not take what the server said.
    is_passing: bool,
    answers: Answers,
    has_fallen: bool,
}

impl Silence {
    /// On a connection on which a statement may run for so long.
    pub(super) fn new(limit: Duration) -> Self {
        Self(Arc::new(Shared {
            conversation: Mutex::new(Conversation {
                limit,
                owed_since: None,
                is_passing: false,
                answers: Answers::default(),
                has_fallen: false,
            }),
            changed: Notify::new(),
        }))
    }

    /// From here on a statement may run for so long.
    pub(super) fn allow(&self, limit: Duration) {
        let before = std::mem::replace(&mut self.0.conversation.lock().limit, limit);
        if before != limit {
            self.0.changed.notify_one();
        }
    }

    /// The limit that was passed, where the server has fallen silent.
    pub(super) fn fallen(&self) -> Option<Duration> {
        let conversation = self.0.conversation.lock();
        conversation.has_fallen.then_some(conversation.limit)
    }

    /// The driver asks, and goes on with it.
    pub(super) fn asked(&self) {
        self.0.conversation.lock().owed_since = Some(Instant::now());
    }

    /// What the driver asked has gone out. It may have been answered by now.
    pub(super) fn went_out(&self) {
        self.0.conversation.lock().wait_anew();
    }

    /// The server says this, and the driver is to have it.
    pub(super) fn heard(&self, said: &[u8]) {
        let mut conversation = self.0.conversation.lock();
        conversation.is_passing = true;
        if conversation.answers.end_in(said) {
            conversation.owed_since = None;
        }
    }

    /// The driver has what the server said.
    pub(super) fn passed_on(&self) {
        let mut conversation = self.0.conversation.lock();
        conversation.is_passing = false;
        conversation.wait_anew();
    }

    /// Waits until the server has been silent for longer than a statement may run.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped.
    pub(super) async fn lasts(&self) {
        loop {
            let now = Instant::now();
            let due = match self.0.conversation.lock().due(now) {
                Due::Now => return,
                Due::At(due) => due,
            };
            // Dropping either arm loses nothing: a ring is kept, and the time is worked out anew.
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }
}

enum Due {
    Now,
    At(Instant),
}

impl Conversation {
    fn wait_anew(&mut self) {
        if self.owed_since.is_some() {
            self.owed_since = Some(Instant::now());
        }
    }

    /// When it has to be looked at again; what is asked later is not due before that.
    fn due(&mut self, now: Instant) -> Due {
        let patience = self.limit.saturating_add(GRACE);
        match self.owed_since {
            Some(since) if !self.is_passing => {
                if now.saturating_duration_since(since) < patience {
                    return Due::At(since + patience);
                }
                self.has_fallen = true;
                Due::Now
            }
            _ => Due::At(now + patience),
        }
    }
}

/// Finds the ends of answers in what a server says, wherever that is cut.
#[derive(Default, Debug)]
struct Answers {
    header: [u8; HEADER],
    /// How much of it is there.
    known: usize,
    /// How much of the message's body is still to come.
    left: usize,
}

impl Answers {
    /// Whether an answer came to its end here: the server says that it is ready for the next statement, which it may have already.
    fn end_in(&mut self, mut said: &[u8]) -> bool {
        let mut ended = false;
        while !said.is_empty() {
            if self.left > 0 {
                let body = self.left.min(said.len());
                self.left -= body;
                said = &said[body..];
                continue;
            }
            let more = (HEADER - self.known).min(said.len());
            self.header[self.known..self.known + more].copy_from_slice(&said[..more]);
            self.known += more;
            said = &said[more..];
            if self.known == HEADER {
                let [tag, a, b, c, d] = self.header;
                ended |= tag == b'Z';
                // The length counts itself.
                self.left =
                    usize::try_from(u32::from_be_bytes([a, b, c, d])).map_or(0, |length| length.saturating_sub(4));
                self.known = 0;
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![tag];
        message.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn the_end_of_an_answer_is_found_wherever_it_is_cut() {
        // A value that looks like the end of an answer is none.
        let row = [message(b'D', b"Z\0\0\0\x05I"), message(b'C', b"SELECT 1\0")].concat();
        let whole = [row.clone(), message(b'Z', b"I")].concat();
        for cut in 0..=whole.len() {
            let mut answers = Answers::default();
            let first = answers.end_in(&whole[..cut]);
            assert_eq!(first, cut >= row.len() + HEADER, "{cut}");
            assert!(answers.end_in(&whole[cut..]) || first, "{cut}");
            // The next answer is read from its beginning.
            assert!(!answers.end_in(&row), "{cut}");
            assert!(answers.end_in(&message(b'Z', b"T")), "{cut}");
        }
    }

    #[test]
    fn only_a_server_that_owes_an_answer_falls_silent() {
        let silence = Silence::new(Duration::ZERO);
        let falls = || {
            let later = Instant::now() + 2 * GRACE;
            matches!(silence.0.conversation.lock().due(later), Due::Now)
        };
        assert!(!falls(), "nothing was asked");
        silence.asked();
        silence.heard(&message(b'D', b"x"));
        assert!(!falls(), "the driver does not read");
        silence.heard(&message(b'Z', b"I"));
        silence.passed_on();
        silence.went_out();
        assert!(!falls(), "the answer has ended");
        silence.heard(&message(b'S', b"work_mem\x004MB\0"));
        silence.passed_on();
        assert!(!falls(), "what it says by itself is no answer");
        silence.asked();
        assert!(falls());
        assert_eq!(silence.fallen(), Some(Duration::ZERO));
    }
}
