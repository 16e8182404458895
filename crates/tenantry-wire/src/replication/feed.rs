//! What stands around the plugin's messages, and what goes back. No sockets here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Lsn;
use crate::Error;

/// What the server sends on a change stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Feed {
    /// A message of the plugin.
    Data {
        /// Where it stands.
        position: Lsn,
        /// The message, for [`Message::decode`](super::Message::decode).
        body: Bytes,
    },
    /// Everything before this position was sent.
    KeepAlive {
        /// The position.
        end: Lsn,
    },
}

/// The body of a CopyData message, and whether the server wants to hear of us.
pub(super) fn read(mut body: Bytes) -> Result<(Feed, bool), Error> {
    const SHORT: Error = Error::Protocol("a message of the change stream is shorter than its head");
    match body.try_get_u8().map_err(|_| SHORT)? {
        b'w' => {
            let position = Lsn(body.try_get_u64().map_err(|_| SHORT)?);
            // The end of the log as the server knows it, and its clock.
            if body.len() < 16 {
                return Err(SHORT);
            }
            body.advance(16);
            Ok((Feed::Data { position, body }, false))
        }
        b'k' => {
            let end = Lsn(body.try_get_u64().map_err(|_| SHORT)?);
            body.try_get_u64().map_err(|_| SHORT)?;
            let wants_reply = body.try_get_u8().map_err(|_| SHORT)? != 0;
            Ok((Feed::KeepAlive { end }, wants_reply))
        }
        _ => Err(Error::Protocol("a message of the change stream that nobody knows")),
    }
}

/// How far we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status {
    /// Up to here everything arrived.
    pub(super) received: Lsn,
    /// Up to here the server need not send anything again.
    pub(super) confirmed: Lsn,
    /// In microseconds since 2000-01-01.
    pub(super) clock_us: i64,
    /// Whether the server is to answer with a keep-alive at once.
    pub(super) ask: bool,
}

impl Status {
    /// Writes it as a whole CopyData message.
    pub(super) fn put(&self, buffer: &mut BytesMut) {
        buffer.put_u8(b'd');
        buffer.put_u32(4 + 34);
        buffer.put_u8(b'r');
        for position in [self.received, self.confirmed, self.confirmed] {
            buffer.put_u64(position.0);
        }
        buffer.put_i64(self.clock_us);
        buffer.put_u8(u8::from(self.ask));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let data = b"w\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x07body";
        let expected = Feed::Data {
            position: Lsn(5),
            body: Bytes::from_static(b"body"),
        };
        assert_eq!(read(Bytes::from_static(data)).unwrap(), (expected, false));
        let alive = b"k\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\x01";
        assert_eq!(
            read(Bytes::from_static(alive)).unwrap(),
            (Feed::KeepAlive { end: Lsn(5) }, true)
        );
        for end in 0..alive.len() {
            assert!(read(Bytes::from_static(&alive[..end])).is_err(), "{end}");
        }
        for end in 0..25 {
            assert!(read(Bytes::from_static(&data[..end])).is_err(), "{end}");
        }
        assert!(read(Bytes::from_static(b"x")).is_err());
    }

    #[test]
    fn a_status_has_the_length_it_announces() {
        let mut buffer = BytesMut::new();
        let status = Status {
            received: Lsn(9),
            confirmed: Lsn(8),
            clock_us: 1,
            ask: true,
        };
        status.put(&mut buffer);
        assert_eq!((buffer.len(), buffer[0], buffer[5], buffer[38]), (39, b'd', b'r', 1));
        assert_eq!(&buffer[1..5], (buffer.len() as u32 - 1).to_be_bytes());
        assert_eq!((buffer[13], buffer[21], buffer[29]), (9, 8, 8));
    }
}
