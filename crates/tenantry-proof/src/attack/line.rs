//! A connection on which everything that comes back is kept, down to notices.

use std::{
    fmt::Write as _,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::task::JoinHandle;
use tokio_postgres::{
    AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage,
    types::{FromSql, ToSql, Type},
};

/// No step of a program takes as long, but one that waits for a lock on purpose.
const PATIENCE: Duration = Duration::from_secs(4);

/// A connection.
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) pid: i32,
    said: Arc<Mutex<String>>,
    driver: JoinHandle<()>,
}

/// What came back of one step.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Heard {
    /// Rows, tags, messages, details, notices, notifications: all of it.
    pub(super) text: String,
    /// The SQLSTATE where it failed.
    pub(super) failure: Option<String>,
}

/// Whatever type a column has: its bytes.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Vec::new()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Line {
    /// Connects.
    pub(super) async fn open(config: &Config) -> Result<Self, Error> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                let line = match message {
                    AsyncMessage::Notice(notice) => all_of(&notice),
                    AsyncMessage::Notification(told) => format!("{} {}", told.channel(), told.payload()),
                    _ => continue,
                };
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(heard, "{line}");
            }
        });
        let pid = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
        Ok(Self {
            client,
            pid,
            said,
            driver,
        })
    }

    /// Runs any text by the simple protocol.
    pub(super) async fn say(&self, sql: &str) -> Heard {
        self.bounded(async {
            let mut text = String::new();
            let stream = match self.client.simple_query_raw(sql).await {
                Ok(stream) => stream,
                Err(error) => return failed(text, &error),
            };
            let mut stream = pin!(stream);
            while let Some(message) = stream.next().await {
                match message {
                    Ok(SimpleQueryMessage::Row(row)) => {
                        let values: Vec<&str> = (0..row.len()).map(|n| row.get(n).unwrap_or("null")).collect();
                        let _ = writeln!(text, "{}", values.join("|"));
                    }
                    Ok(SimpleQueryMessage::CommandComplete(rows)) => {
                        let _ = writeln!(text, "({rows})");
                    }
                    Ok(_) => {}
                    Err(error) => return failed(text, &error),
                }
            }
            Heard { text, failure: None }
        })
        .await
    }

    /// Runs one statement by the extended protocol.
    pub(super) async fn ask(&self, sql: &str) -> Heard {
        self.call(sql, &[]).await
    }

    /// The same with bound values.
    pub(super) async fn call(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Heard {
        self.bounded(async {
            let rows = match self.client.query(sql, values).await {
                Ok(rows) => rows,
                Err(error) => return failed(String::new(), &error),
            };
            let mut text = format!("({})\n", rows.len());
            for row in rows {
                for column in 0..row.len() {
                    let value: Raw = row.get(column);
                    let _ = write!(text, "{}|", String::from_utf8_lossy(&value.0));
                }
                text.push('\n');
            }
            Heard { text, failure: None }
        })
        .await
    }

    /// Reads a `copy … to stdout`.
    pub(super) async fn copy(&self, sql: &str) -> Heard {
        self.bounded(async {
            let stream = match self.client.copy_out(sql).await {
                Ok(stream) => stream,
                Err(error) => return failed(String::new(), &error),
            };
            let mut stream = pin!(stream);
            let mut text = String::new();
            while let Some(piece) = stream.next().await {
                match piece {
                    Ok(piece) => text.push_str(&String::from_utf8_lossy(&piece)),
                    Err(error) => return failed(text, &error),
                }
            }
            Heard { text, failure: None }
        })
        .await
    }

    /// What came without being asked for since the last time.
    pub(super) fn overheard(&self) -> String {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn bounded(&self, step: impl Future<Output = Heard>) -> Heard {
        let mut heard = match tokio::time::timeout(PATIENCE, step).await {
            Ok(heard) => heard,
            Err(_) => {
                // Where this fails too, the next step finds out.
                let _ = self.client.cancel_token().cancel_query(NoTls).await;
                Heard {
                    text: String::new(),
                    failure: Some("57014".to_owned()),
                }
            }
        };
        heard.text.push_str(&self.overheard());
        heard
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn failed(mut text: String, error: &Error) -> Heard {
    let code = match error.as_db_error() {
        Some(db) => {
            text.push_str(&all_of(db));
            db.code().code().to_owned()
        }
        None => {
            let _ = write!(text, "{error:?}");
            "XXXXX".to_owned()
        }
    };
    Heard {
        text,
        failure: Some(code),
    }
}

/// What an attempt to connect brought.
pub(super) fn not_connected(error: &Error) -> Heard {
    failed(String::new(), error)
}

/// Every field of a message that can hold a value.
fn all_of(message: &tokio_postgres::error::DbError) -> String {
    let mut text = format!("{} {}", message.code().code(), message.message());
    let fields = [
        message.detail(),
        message.hint(),
        message.where_(),
        message.schema(),
        message.table(),
        message.column(),
        message.constraint(),
        message.datatype(),
    ];
    for field in fields.into_iter().flatten() {
        text.push_str(" | ");
        text.push_str(field);
    }
    if let Some(tokio_postgres::error::ErrorPosition::Internal { query, .. }) = message.position() {
        text.push_str(" | ");
        text.push_str(query);
    }
    text
}
