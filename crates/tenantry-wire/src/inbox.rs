//! Framing: what came from the server, cut into messages. No sockets here.

use bytes::{Buf, Bytes, BytesMut};

use crate::Error;

/// The longest message we accept: PostgreSQL's own limit for a value is just under 1 GiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Room made for one read: most answers fit.
const READ_BYTES: usize = 16 * 1024;
/// How far an announced length is believed at once, so that a lie does not take memory.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;
/// The tag and the length before each body.
const HEADER_BYTES: usize = 5;

/// Bytes from the server that no call has consumed yet.
pub(crate) struct Inbox {
    pub(crate) buffer: BytesMut,
    /// A longer message is not read.
    pub(crate) message_bytes_max: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }
}

/// A message that is complete in the inbox and still stands there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Which message it is.
    pub(crate) tag: u8,
    bytes: usize,
}

impl Inbox {
    /// The first message, if it is complete.
    pub(crate) fn frame(&self) -> Result<Option<Frame>, Error> {
        let Some((&[tag, a, b, c, d], _)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let bytes = self.frame_bytes(u32::from_be_bytes([a, b, c, d]))?;
        Ok((self.buffer.len() >= bytes).then_some(Frame { tag, bytes }))
    }

    /// The length counts itself but not the tag.
    fn frame_bytes(&self, announced: u32) -> Result<usize, Error> {
        let bytes = announced as usize;
        if bytes < 4 {
            return Err(Error::Protocol("a message announced less than its own length"));
        }
        if bytes > self.message_bytes_max {
            return Err(Error::TooLarge {
                bytes,
                bytes_max: self.message_bytes_max,
            });
        }
        Ok(bytes + 1)
    }

    /// What the message holds.
    pub(crate) fn body(&self, frame: Frame) -> &[u8] {
        &self.buffer[HEADER_BYTES..frame.bytes]
    }

    /// Steps over the message.
    pub(crate) fn skip(&mut self, frame: Frame) {
        self.buffer.advance(frame.bytes);
    }

    /// Takes the message's body out, without copying it.
    pub(crate) fn take(&mut self, frame: Frame) -> Bytes {
        let mut message = self.buffer.split_to(frame.bytes);
        message.advance(HEADER_BYTES);
        message.freeze()
    }

    /// Makes room for one read, or for what is missing of the first message.
    pub(crate) fn make_room(&mut self) {
        let missing = match self.buffer.split_first_chunk::<HEADER_BYTES>() {
            Some((&[_, a, b, c, d], _)) => (u32::from_be_bytes([a, b, c, d]) as usize + 1)
                .saturating_sub(self.buffer.len())
                .min(RESERVE_BYTES_MAX),
            None => HEADER_BYTES,
        };
        // A little room left is used up first: each `reserve` beyond the capacity moves what is there.
        if self.buffer.capacity() - self.buffer.len() < missing.max(READ_BYTES / 8) {
            self.buffer.reserve(missing.max(READ_BYTES));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox {
            buffer: BytesMut::from(bytes),
            ..Inbox::default()
        }
    }

    #[test]
    fn a_message_is_seen_when_it_is_whole() {
        let whole = b"D\0\0\0\x06hiZ\0\0\0\x05I";
        for end in 0..7 {
            assert!(inbox(&whole[..end]).frame().unwrap().is_none(), "{end}");
        }
        let mut inbox = inbox(whole);
        let frame = inbox.frame().unwrap().unwrap();
        assert_eq!((frame.tag, inbox.body(frame)), (b'D', b"hi".as_slice()));
        assert_eq!(inbox.take(frame), b"hi".as_slice());
        let frame = inbox.frame().unwrap().unwrap();
        assert_eq!((frame.tag, inbox.body(frame)), (b'Z', b"I".as_slice()));
        inbox.skip(frame);
        assert!(inbox.buffer.is_empty());
    }

    #[test]
    fn lengths_that_lie_are_refused_and_take_no_memory() {
        assert!(inbox(b"D\0\0\0\x03").frame().is_err());
        assert!(inbox(b"D\xff\xff\xff\xff").frame().is_err());
        let mut inbox = inbox(b"D\x3f\xff\xff\xff");
        inbox.make_room();
        assert!(inbox.buffer.capacity() <= 2 * RESERVE_BYTES_MAX);
    }
}
