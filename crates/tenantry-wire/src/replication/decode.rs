//! From bytes to messages: pure, and without a panic whatever the bytes are.

use bytes::{Buf, Bytes};

use super::{Identity, Lsn, Message, Old, Relation, RelationColumn, Tuple, Value};

/// Bytes that are no message of `pgoutput`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are none.
    #[error("a message of the change stream is empty")]
    Empty,
    /// Version 1 has no such message.
    #[error("the change stream holds a message that version 1 of its protocol has not: {:?}", char::from(*.tag))]
    Unknown {
        /// Its tag.
        tag: u8,
    },
    /// It ends too early.
    #[error("{message} in the change stream ends before its {part}")]
    Short {
        /// Which message it is.
        message: &'static str,
        /// What is missing.
        part: &'static str,
    },
    /// A part has a value that has no meaning.
    #[error("{message} in the change stream has an unknown {part}: {found}")]
    Meaningless {
        /// Which message it is.
        message: &'static str,
        /// Which part.
        part: &'static str,
        /// Its value.
        found: u8,
    },
    /// A text is no UTF-8.
    #[error("{message} in the change stream has a {part} that is no UTF-8")]
    NoText {
        /// Which message it is.
        message: &'static str,
        /// Which part.
        part: &'static str,
    },
    /// It goes on after its end.
    #[error("{message} in the change stream goes on for {bytes} bytes after its end")]
    TooLong {
        /// Which message it is.
        message: &'static str,
        /// How much is left.
        bytes: usize,
    },
}

impl Message {
    /// Reads a message as the plugin wrote it: the body of a [`Feed::Data`](super::Feed::Data). Values are not copied.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says which message it was and what is wrong with it.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut rest = body;
        if rest.is_empty() {
            return Err(DecodeError::Empty);
        }
        let tag = rest.get_u8();
        let message = name(tag).ok_or(DecodeError::Unknown { tag })?;
        let mut reader = Reader { rest, message };
        let decoded = reader.message(tag)?;
        match reader.rest.len() {
            0 => Ok(decoded),
            bytes => Err(DecodeError::TooLong { message, bytes }),
        }
    }
}

fn name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        b'B' => "the begin of a transaction",
        b'C' => "the commit of a transaction",
        b'O' => "an origin",
        b'R' => "a relation",
        b'Y' => "a type",
        b'I' => "an insert",
        b'U' => "an update",
        b'D' => "a delete",
        b'T' => "a truncate",
        b'M' => "a logical message",
        _ => return None,
    })
}

/// What is left of a message.
struct Reader {
    rest: Bytes,
    message: &'static str,
}

impl Reader {
    fn message(&mut self, tag: u8) -> Result<Message, DecodeError> {
        Ok(match tag {
            b'B' => Message::Begin {
                commit: self.lsn("commit")?,
                time_us: self.i64("time")?,
                xid: self.u32("number")?,
            },
            b'C' => self.commit()?,
            b'O' => Message::Origin {
                commit: self.lsn("commit")?,
                name: self.text("name")?,
            },
            b'R' => Message::Relation(self.relation()?),
            b'Y' => Message::Type {
                oid: self.u32("oid")?,
                schema: self.text("schema")?,
                name: self.text("name")?,
            },
            b'I' => Message::Insert {
                relation: self.u32("table")?,
                new: self.new_tuple()?,
            },
            b'U' => self.update()?,
            b'D' => Message::Delete {
                relation: self.u32("table")?,
                old: self.old()?,
            },
            b'T' => self.truncate()?,
            _ => self.logical()?,
        })
    }

    fn commit(&mut self) -> Result<Message, DecodeError> {
        // Flags that nothing uses yet.
        self.u8("flags")?;
        Ok(Message::Commit {
            commit: self.lsn("commit")?,
            end: self.lsn("end")?,
            time_us: self.i64("time")?,
        })
    }

    fn relation(&mut self) -> Result<Relation, DecodeError> {
        let (id, schema, name) = (self.u32("oid")?, self.text("schema")?, self.text("name")?);
        let identity = match self.u8("replica identity")? {
            b'd' => Identity::Default,
            b'n' => Identity::Nothing,
            b'f' => Identity::Full,
            b'i' => Identity::Index,
            found => return Err(self.meaningless("replica identity", found)),
        };
        let count = self.u16("columns")?;
        let mut columns = Vec::with_capacity(self.believed(count));
        for _ in 0..count {
            columns.push(RelationColumn {
                key: self.u8("column's flags")? & 1 != 0,
                name: self.text("column's name")?,
                type_oid: self.u32("column's type")?,
                modifier: self.u32("column's modifier")?.cast_signed(),
            });
        }
        Ok(Relation {
            id,
            schema,
            name,
            identity,
            columns,
        })
    }

    fn update(&mut self) -> Result<Message, DecodeError> {
        let relation = self.u32("table")?;
        let old = match self.rest.first() {
            Some(b'K' | b'O') => Some(self.old()?),
            _ => None,
        };
        Ok(Message::Update {
            relation,
            old,
            new: self.new_tuple()?,
        })
    }

    fn truncate(&mut self) -> Result<Message, DecodeError> {
        let count = self.u32("number of tables")?;
        let options = self.u8("options")?;
        let mut relations = Vec::with_capacity(self.believed(u16::try_from(count).unwrap_or(u16::MAX)));
        for _ in 0..count {
            relations.push(self.u32("table")?);
        }
        Ok(Message::Truncate {
            relations,
            cascade: options & 1 != 0,
            restart_identity: options & 2 != 0,
        })
    }

    fn logical(&mut self) -> Result<Message, DecodeError> {
        let transactional = self.u8("flags")? & 1 != 0;
        let (position, prefix) = (self.lsn("position")?, self.text("prefix")?);
        let bytes = self.u32("length")?;
        Ok(Message::Logical {
            transactional,
            position,
            prefix,
            content: self.bytes(bytes, "content")?,
        })
    }

    fn old(&mut self) -> Result<Old, DecodeError> {
        match self.u8("old row")? {
            b'K' => Ok(Old::Key(self.tuple()?)),
            b'O' => Ok(Old::Row(self.tuple()?)),
            found => Err(self.meaningless("kind of old row", found)),
        }
    }

    fn new_tuple(&mut self) -> Result<Tuple, DecodeError> {
        match self.u8("new row")? {
            b'N' => self.tuple(),
            found => Err(self.meaningless("kind of new row", found)),
        }
    }

    fn tuple(&mut self) -> Result<Tuple, DecodeError> {
        let count = self.u16("number of values")?;
        let mut values = Vec::with_capacity(self.believed(count));
        for _ in 0..count {
            values.push(match self.u8("value")? {
                b'n' => Value::Null,
                b'u' => Value::Unchanged,
                b't' => Value::Text(self.value()?),
                b'b' => Value::Binary(self.value()?),
                found => return Err(self.meaningless("kind of value", found)),
            });
        }
        Ok(Tuple(values))
    }

    fn value(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = self.u32("value's length")?;
        self.bytes(bytes, "value")
    }

    /// How many entries a count is believed to announce: each takes a byte at least, so that a lie takes no memory.
    fn believed(&self, count: u16) -> usize {
        usize::from(count).min(self.rest.len())
    }

    fn u8(&mut self, part: &'static str) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| self.short(part))
    }

    fn u16(&mut self, part: &'static str) -> Result<u16, DecodeError> {
        self.rest.try_get_u16().map_err(|_| self.short(part))
    }

    fn u32(&mut self, part: &'static str) -> Result<u32, DecodeError> {
        self.rest.try_get_u32().map_err(|_| self.short(part))
    }

    fn i64(&mut self, part: &'static str) -> Result<i64, DecodeError> {
        self.rest.try_get_i64().map_err(|_| self.short(part))
    }

    fn lsn(&mut self, part: &'static str) -> Result<Lsn, DecodeError> {
        self.rest.try_get_u64().map(Lsn).map_err(|_| self.short(part))
    }

    fn bytes(&mut self, bytes: u32, part: &'static str) -> Result<Bytes, DecodeError> {
        let bytes = bytes as usize;
        match bytes <= self.rest.len() {
            true => Ok(self.rest.split_to(bytes)),
            false => Err(self.short(part)),
        }
    }

    /// A text that ends in zero.
    fn text(&mut self, part: &'static str) -> Result<String, DecodeError> {
        let end = self.rest.iter().position(|&byte| byte == 0);
        let text = self.rest.split_to(end.ok_or_else(|| self.short(part))?);
        self.rest.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| DecodeError::NoText {
            message: self.message,
            part,
        })
    }

    fn short(&self, part: &'static str) -> DecodeError {
        DecodeError::Short {
            message: self.message,
            part,
        }
    }

    fn meaningless(&self, part: &'static str, found: u8) -> DecodeError {
        DecodeError::Meaningless {
            message: self.message,
            part,
            found,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// One of each kind, in the words of the server.
    const WHOLE: [&[u8]; 12] = [
        b"B\0\0\0\0\x01\x02\x03\x04\0\x02\xc2\x8f\0\0\0\0\0\0\x02\xf5",
        b"C\0\0\0\0\0\x01\x02\x03\x04\0\0\0\0\x01\x02\x03\x34\0\x02\xc2\x8f\0\0\0\0",
        b"O\0\0\0\0\0\0\0\x07elsewhere\0",
        b"R\0\0\x40\x01app\0note\0d\0\x03\x01tenant_id\0\0\0\x0b\x86\xff\xff\xff\xff\x01id\0\0\0\0\x17\xff\xff\xff\xff\0body\0\0\0\0\x19\xff\xff\xff\xff",
        b"Y\0\0\x40\x09app\0mood\0",
        b"I\0\0\x40\x01N\0\x03t\0\0\0\x02ab" as &[u8],
        b"I\0\0\x40\x01N\0\x03t\0\0\0\x02abnb\0\0\0\x01\x07",
        b"U\0\0\x40\x01N\0\x02t\0\0\0\x01au",
        b"U\0\0\x40\x01K\0\x02t\0\0\0\x01anN\0\x02t\0\0\0\x01bt\0\0\0\0",
        b"D\0\0\x40\x01O\0\x02t\0\0\0\x01at\0\0\0\x01b",
        b"T\0\0\0\x02\x03\0\0\x40\x01\0\0\x40\x02",
        b"M\0\0\0\0\0\x01\x02\x03\x04tenantry_move\0\0\0\0\x02hi",
    ];

    fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        Message::decode(Bytes::copy_from_slice(bytes))
    }

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_transaction_is_read() {
        let begin = decode(WHOLE[0]).unwrap();
        assert!(
            matches!(
                begin,
                Message::Begin {
                    commit: Lsn(0x0102_0304),
                    xid: 757,
                    ..
                }
            ),
            "{begin:?}"
        );
        let commit = decode(WHOLE[1]).unwrap();
        let (commit_lsn, end_lsn) = (Lsn(0x0102_0304), Lsn(0x0102_0334));
        assert!(
            matches!(commit, Message::Commit { commit, end, .. } if commit == commit_lsn && end == end_lsn),
            "{commit:?}"
        );
    }

    #[test]
    fn a_relation_says_its_key() {
        let Message::Relation(relation) = decode(WHOLE[3]).unwrap() else {
            panic!("no relation");
        };
        assert_eq!((relation.schema.as_str(), relation.name.as_str()), ("app", "note"));
        assert_eq!(relation.identity, Identity::Default);
        let columns: Vec<_> = relation
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.key, c.type_oid))
            .collect();
        assert_eq!(
            columns,
            [("tenant_id", true, 2950), ("id", true, 23), ("body", false, 25)]
        );
        assert_eq!(relation.columns[0].modifier, -1);
    }

    #[test]
    fn null_and_unchanged_are_two_things() {
        let Message::Insert { new, .. } = decode(WHOLE[6]).unwrap() else {
            panic!("no insert");
        };
        assert_eq!(
            new.0,
            [text("ab"), Value::Null, Value::Binary(Bytes::from_static(b"\x07"))]
        );
        let Message::Update { old: None, new, .. } = decode(WHOLE[7]).unwrap() else {
            panic!("no update");
        };
        assert_eq!(new.0, [text("a"), Value::Unchanged]);
    }

    #[test]
    fn an_old_key_and_an_old_row_are_told_apart() {
        let Message::Update {
            old: Some(old), new, ..
        } = decode(WHOLE[8]).unwrap()
        else {
            panic!("no update with a key");
        };
        assert_eq!(old, Old::Key(Tuple(vec![text("a"), Value::Null])));
        assert_eq!(new.0, [text("b"), text("")]);
        let Message::Delete { old: Old::Row(old), .. } = decode(WHOLE[9]).unwrap() else {
            panic!("no delete with a row");
        };
        assert_eq!(old.0, [text("a"), text("b")]);
    }

    #[test]
    fn the_rest_is_read() {
        assert_eq!(
            decode(WHOLE[2]).unwrap(),
            Message::Origin {
                commit: Lsn(7),
                name: "elsewhere".to_owned()
            }
        );
        assert_eq!(
            decode(WHOLE[10]).unwrap(),
            Message::Truncate {
                relations: vec![0x4001, 0x4002],
                cascade: true,
                restart_identity: true
            }
        );
        let Message::Logical {
            transactional: false,
            prefix,
            content,
            ..
        } = decode(WHOLE[11]).unwrap()
        else {
            panic!("no message");
        };
        assert_eq!((prefix.as_str(), &content[..]), ("tenantry_move", &b"hi"[..]));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let said = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert_eq!(said(b""), "a message of the change stream is empty");
        assert_eq!(said(WHOLE[5]), "an insert in the change stream ends before its value");
        assert_eq!(
            said(b"S\0"),
            "the change stream holds a message that version 1 of its protocol has not: 'S'"
        );
        assert_eq!(
            said(b"I\0\0\0\x01X"),
            "an insert in the change stream has an unknown kind of new row: 88"
        );
        assert_eq!(
            said(b"Y\0\0\0\x01a\0b\0c"),
            "a type in the change stream goes on for 1 bytes after its end"
        );
        assert_eq!(
            said(b"Y\0\0\0\x01a\0\xff\0"),
            "a type in the change stream has a name that is no UTF-8"
        );
    }

    /// A lie about a length or a count neither panics nor takes the memory it announces.
    #[test]
    fn no_bytes_panic() {
        for whole in WHOLE {
            for end in 0..whole.len() {
                assert!(decode(&whole[..end]).is_err(), "{whole:?} up to {end}");
            }
            for at in 0..whole.len() {
                for byte in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut lie = whole.to_vec();
                    lie[at] = byte;
                    let _ = decode(&lie);
                }
            }
        }
        let mut random = StdRng::seed_from_u64(6);
        for _ in 0..200_000 {
            let whole = WHOLE[random.random_range(0..WHOLE.len())];
            let mut bytes = whole.to_vec();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..3) {
                    0 => bytes[at] = random.random(),
                    1 => bytes.insert(at, random.random()),
                    _ if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            let _ = decode(&bytes);
        }
    }
}
