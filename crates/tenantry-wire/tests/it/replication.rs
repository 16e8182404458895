//! Change streams of a real server.

use std::{sync::Arc, time::Duration};

use tenantry_testing::{TestDatabase, database_on, logical_cluster, second_logical_cluster};
use tenantry_wire::{
    Error,
    replication::{ChangeStream, Feed, Identity, Lsn, Message, NewSlot, Old, Replication, SlotRequest, Value},
};
use tokio_postgres::Client;

use crate::support::endpoint;

/// A database with a publication of one half of a table's rows.
struct Source {
    database: TestDatabase,
    client: Client,
}

impl Source {
    async fn new() -> Self {
        Self::of(database_on(logical_cluster().await).await).await
    }

    async fn of(database: TestDatabase) -> Self {
        let client = database.connect().await;
        let sql = "create type mood as enum ('fine', 'so so');
             create table note (half int, id int, body text, mood mood, twice int generated always as (id * 2) stored, primary key (half, id));
             alter table note alter body set storage external;
             create publication p for table note where (half = 1)";
        client.batch_execute(sql).await.unwrap();
        Self { database, client }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn connect(&self) -> Replication {
        Replication::connect(endpoint(&self.database), "test").await.unwrap()
    }

    /// A slot name that no other test of the server has.
    fn slot(&self) -> &str {
        self.database.name()
    }

    async fn make_slot(&self) -> (Replication, NewSlot) {
        let mut replication = self.connect().await;
        let request = SlotRequest {
            name: self.slot(),
            temporary: false,
            failover: true,
        };
        let made = replication.create_slot(&request).await.unwrap();
        (replication, made)
    }

    async fn start(&self, from: Lsn) -> ChangeStream {
        self.connect().await.start(self.slot(), "p", from).await.unwrap()
    }

    /// All messages up to a marker that is written now.
    async fn messages(&self, stream: &mut ChangeStream) -> Vec<Message> {
        let marker = format!("{:x}", rand::random::<u64>());
        self.run(&format!(
            "select pg_logical_emit_message(false, 'marker', '{marker}'), pg_current_xact_id()"
        ))
        .await;
        let mut messages = Vec::new();
        loop {
            match next(stream).await {
                Message::Logical { content, .. } if content == marker.as_bytes() => return messages,
                // one of before, which was not confirmed
                Message::Logical { prefix, .. } if prefix == "marker" => {}
                message => messages.push(message),
            }
        }
    }
}

async fn next(stream: &mut ChangeStream) -> Message {
    loop {
        let feed = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
        if let Feed::Data { body, .. } = feed.expect("something comes").unwrap() {
            return Message::decode(body).unwrap();
        }
    }
}

fn text(value: &Value) -> &str {
    match value {
        Value::Text(bytes) => std::str::from_utf8(bytes).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

/// What the changes were, and the first 5 characters of each value.
fn shape(messages: &[Message]) -> Vec<String> {
    let value = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::Unchanged => "unchanged".to_owned(),
        other => text(other).chars().take(5).collect(),
    };
    let row = |values: &[Value]| values.iter().map(value).collect::<Vec<_>>().join(" ");
    messages
        .iter()
        .map(|message| match message {
            Message::Begin { .. } => "begin".to_owned(),
            Message::Commit { .. } => "commit".to_owned(),
            Message::Insert { new, .. } => format!("insert {}", row(&new.0)),
            Message::Update { old: None, new, .. } => format!("update {}", row(&new.0)),
            Message::Update {
                old: Some(old), new, ..
            } => format!("rename {} to {}", row(&old.tuple().0), row(&new.0)),
            Message::Delete { old: Old::Key(old), .. } => format!("delete {}", row(&old.0)),
            Message::Delete { old: Old::Row(old), .. } => format!("delete whole {}", row(&old.0)),
            Message::Relation(relation) => format!("relation {}", relation.name),
            Message::Type { name, .. } => format!("type {name}"),
            Message::Truncate { .. } => "truncate".to_owned(),
            Message::Origin { name, .. } => format!("origin {name}"),
            Message::Logical { content, .. } => format!("message {}", String::from_utf8_lossy(content)),
        })
        .collect()
}

async fn every_kind_of_change_is_told(source: Source) {
    let (_keeping, made) = source.make_slot().await;
    source
        .run("insert into note values (1, 1, repeat('long ', 2000), 'fine'), (2, 1, 'theirs', null), (1, 2, null, 'so so')")
        .await;
    source
        .run(
            "begin; update note set mood = null where id = 1; update note set id = 3 where (half, id) = (1, 1);
              update note set body = 'short' where (half, id) = (1, 3); delete from note where id = 2;
              select pg_logical_emit_message(true, 'x', 'inside'); commit",
        )
        .await;
    source.run("insert into note values (2, 9, 'theirs', null)").await;
    source
        .run("alter table note drop column twice, replica identity full; update note set body = 'b' where half = 1")
        .await;
    source.run("truncate note").await;
    let mut stream = source.start(made.position).await;
    let messages = source.messages(&mut stream).await;
    assert_eq!(
        shape(&messages),
        [
            "begin",
            "type mood",
            "relation note",
            "insert 1 1 long  fine",
            "insert 1 2 null so so",
            "commit",
            "begin",
            "update 1 1 unchanged null",
            "rename 1 1 null null to 1 3 unchanged null",
            "update 1 3 short null",
            "delete 1 2 null null",
            "message inside",
            "commit",
            "begin",
            "type mood",
            "relation note",
            "rename 1 3 short null to 1 3 b null",
            "commit",
            "begin",
            "type mood",
            "relation note",
            "truncate",
            "commit",
        ]
    );
    let relations: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Relation(relation) => Some(relation),
            _ => None,
        })
        .collect();
    let columns: Vec<_> = relations[0].columns.iter().map(|c| (c.name.as_str(), c.key)).collect();
    assert_eq!(
        columns,
        [("half", true), ("id", true), ("body", false), ("mood", false)]
    );
    assert_eq!(relations[0].identity, Identity::Default);
    assert_eq!(relations[1].identity, Identity::Full);
}

#[tokio::test]
async fn every_kind_of_change_is_told_by_fifteen() {
    every_kind_of_change_is_told(Source::new().await).await;
}

#[tokio::test]
async fn every_kind_of_change_is_told_by_eighteen() {
    let database = database_on(second_logical_cluster().await).await;
    every_kind_of_change_is_told(Source::of(database).await).await;
}

#[tokio::test]
async fn the_snapshot_ends_where_the_stream_begins() {
    let source = Source::new().await;
    source.run("insert into note values (1, 1, 'before', null)").await;
    let (keeping, made) = source.make_slot().await;
    source.run("insert into note values (1, 2, 'after', null)").await;

    let reader = source.database.connect().await;
    let take = format!(
        "begin isolation level repeatable read; set transaction snapshot '{}'",
        made.snapshot
    );
    reader.batch_execute(&take).await.unwrap();
    let seen = reader.query("select body from note", &[]).await.unwrap();
    let seen: Vec<String> = seen.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, ["before"]);
    drop(keeping);

    let mut stream = source.start(made.position).await;
    let messages = shape(&source.messages(&mut stream).await);
    assert_eq!(
        messages,
        ["begin", "type mood", "relation note", "insert 1 2 after null", "commit"]
    );
}

#[tokio::test]
async fn a_stream_goes_on_from_what_was_confirmed() {
    let source = Source::new().await;
    let (keeping, made) = source.make_slot().await;
    drop(keeping);
    source.run("insert into note values (1, 1, 'a', null)").await;
    let mut stream = source.start(made.position).await;
    let messages = source.messages(&mut stream).await;
    let Some(Message::Commit { end, .. }) = messages.last() else {
        panic!("no commit: {messages:?}");
    };
    stream.confirm(*end);
    stream.end().await;
    source.run("insert into note values (1, 2, 'b', null)").await;
    // from the server's own memory of it, and at once: the slot is free
    let mut stream = source.start(Lsn(0)).await;
    let messages = shape(&source.messages(&mut stream).await);
    assert_eq!(
        messages,
        ["begin", "type mood", "relation note", "insert 1 2 b null", "commit"]
    );
    // what was not confirmed comes again
    stream.end().await;
    let mut stream = source.start(Lsn(0)).await;
    let messages = shape(&source.messages(&mut stream).await);
    assert_eq!(
        messages,
        ["begin", "type mood", "relation note", "insert 1 2 b null", "commit"]
    );
}

#[tokio::test]
async fn a_stream_that_waits_stays_alive_and_answers_when_asked() {
    let source = Source::new().await;
    let (keeping, made) = source.make_slot().await;
    drop(keeping);
    let alter = format!(
        "alter database {} set wal_sender_timeout = '500ms'",
        source.database.name()
    );
    source.run(&alter).await;
    let mut stream = source.start(made.position).await;
    let silence = async {
        loop {
            stream.next().await.unwrap();
        }
    };
    let waited: Result<(), _> = tokio::time::timeout(Duration::from_secs(2), silence).await;
    assert!(waited.is_err());
    source.run("insert into note values (1, 1, 'a', null)").await;
    assert_eq!(shape(&source.messages(&mut stream).await).last().unwrap(), "commit");
    stream.report(true).await.unwrap();
    let end = loop {
        if let Feed::KeepAlive { end } = stream.next().await.unwrap() {
            break end;
        }
    };
    assert!(end > made.position);
}

#[tokio::test]
async fn a_stream_that_was_dropped_halfway_through_a_read_loses_nothing() {
    let source = Source::new().await;
    let (keeping, made) = source.make_slot().await;
    drop(keeping);
    source
        .run("insert into note select 1, n, repeat('x', 3000), null from generate_series(1, 300) n")
        .await;
    let mut stream = source.start(made.position).await;
    let mut rows = 0;
    loop {
        // A look that mostly ends before its answer is there.
        let Ok(feed) = tokio::time::timeout(Duration::from_micros(20), stream.next()).await else {
            continue;
        };
        let Feed::Data { body, .. } = feed.unwrap() else {
            continue;
        };
        match Message::decode(body).unwrap() {
            Message::Insert { new, .. } => {
                rows += 1;
                assert_eq!(
                    (text(&new.0[1]), text(&new.0[2]).len()),
                    (rows.to_string().as_str(), 3000)
                );
            }
            Message::Commit { .. } => break,
            _ => {}
        }
    }
    assert_eq!(rows, 300);
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let source = Source::new().await;
    let code = |error: &Error| error.code().map(str::to_owned);
    let started = source.connect().await.start("no_such_slot", "p", Lsn(0)).await;
    assert_eq!(code(&started.unwrap_err()).as_deref(), Some("42704"));

    let (keeping, made) = source.make_slot().await;
    drop(keeping);
    let again = SlotRequest {
        name: source.slot(),
        temporary: true,
        failover: false,
    };
    let again = source.connect().await.create_slot(&again).await;
    assert_eq!(code(&again.unwrap_err()).as_deref(), Some("42710"));
    let stream = source.start(made.position).await;
    let second = source.connect().await.start(source.slot(), "p", Lsn(0)).await;
    assert_eq!(code(&second.unwrap_err()).as_deref(), Some("55006"));
    let dropped = source.connect().await.drop_slot(source.slot(), false).await;
    assert_eq!(code(&dropped.unwrap_err()).as_deref(), Some("55006"));
    stream.end().await;
    source.connect().await.drop_slot(source.slot(), true).await.unwrap();

    let role = source.database.name();
    source.run(&format!("create role {role} login password 'secret'")).await;
    let mut stranger = (*endpoint(&source.database)).clone();
    stranger.user = role.to_owned();
    stranger.password = "secret".to_owned().into();
    let refused = Replication::connect(Arc::new(stranger), "test").await;
    assert_eq!(code(&refused.unwrap_err()).as_deref(), Some("42501"));
    source.run(&format!("drop role {role}")).await;
}
