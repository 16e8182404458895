//! The calls, each one round trip.

use std::{sync::Arc, time::Duration};

use ::redis::{RedisError, RedisResult, aio::MultiplexedConnection, cmd};

use super::{
    DELETION_TTL,
    names::{Names, fresh},
    scripts::{DELETE, PURGE, REMOVE, STORE, WRITE},
};
use crate::cache::remote::Seen;

/// How long a generation is remembered where nothing is stored: longer than a value lives.
const GENERATION_TTL_S: u64 = 25 * 3600;

/// What is to be stored.
pub(super) struct Value<'a> {
    pub(super) text: &'a str,
    pub(super) ttl: Duration,
    pub(super) tenant_bytes_max: u64,
}

/// What names the present connection of this process.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) name: Arc<str>,
    pub(super) token: Arc<str>,
}

/// Whether a change went over the present connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    InTime,
    /// Another was made meanwhile, and this one did nothing.
    TooLate,
}

/// Says which connection of this process is the present one.
pub(super) async fn take_line(connection: &mut MultiplexedConnection, line: &Line) -> RedisResult<()> {
    let mut write = WRITE.prepare_invoke();
    write.key(&*line.name).arg(&*line.token).arg(GENERATION_TTL_S);
    write.invoke_async(connection).await
}

/// Value, generation and deletion; empty where there is none.
pub(super) async fn read(mut connection: MultiplexedConnection, names: &Names) -> RedisResult<[Vec<u8>; 3]> {
    let mut get = cmd("MGET");
    get.arg(&names.value).arg(&names.generation).arg(&names.deletion);
    let found: [Option<Vec<u8>>; 3] = get.query_async(&mut connection).await?;
    Ok(found.map(Option::unwrap_or_default))
}

pub(super) async fn keep(
    mut connection: MultiplexedConnection,
    names: &Names,
    new: &Value<'_>,
    seen: &Seen,
    line: Line,
) -> RedisResult<()> {
    let mut store = store("computed", names, new, &line);
    store
        .arg(&seen.generation[..])
        .arg(&seen.raw[..])
        .arg(&seen.deletion[..]);
    let kept: RedisResult<()> = store.invoke_async(&mut connection).await;
    match kept {
        // Nothing was written, and nothing is wrong with the connection.
        Err(error) if is_full(&error) => Ok(()),
        kept => kept,
    }
}

pub(super) async fn set(
    mut connection: MultiplexedConnection,
    names: &Names,
    new: &Value<'_>,
    line: Line,
) -> RedisResult<Sent> {
    let mut store = store("set", names, new, &line);
    store.arg(&*line.token);
    let stored: RedisResult<i64> = store.invoke_async(&mut connection).await;
    match stored {
        Ok(stored) if stored < 0 => Ok(Sent::TooLate),
        Ok(_) => Ok(Sent::InTime),
        // What stands there is older: where there is no room for the new value there is none.
        Err(error) if is_full(&error) => delete(connection, names, DELETION_TTL).await,
        Err(error) => Err(error),
    }
}

/// Whether Redis refused to write because it is full, and evicts nothing.
fn is_full(error: &RedisError) -> bool {
    error.to_string().contains("used memory > 'maxmemory'")
}

fn store(mode: &str, names: &Names, new: &Value<'_>, line: &Line) -> ::redis::ScriptInvocation<'static> {
    let mut store = STORE.prepare_invoke();
    store
        .key(&names.value)
        .key(&names.generation)
        .key(&names.ends)
        .key(&names.sizes)
        .key(&names.deletion)
        .key(&*line.name)
        .arg(mode)
        .arg(new.text)
        .arg(u64::try_from(new.ttl.as_millis()).unwrap_or(u64::MAX).max(1))
        .arg(fresh())
        .arg(new.tenant_bytes_max);
    store
}

pub(super) async fn delete(
    mut connection: MultiplexedConnection,
    names: &Names,
    mark_ttl: Duration,
) -> RedisResult<Sent> {
    let mut delete = DELETE.prepare_invoke();
    delete
        .key(&names.value)
        .key(&names.deletion)
        .key(&names.ends)
        .key(&names.sizes)
        .arg(fresh())
        .arg(mark_ttl.as_millis() as u64);
    let () = delete.invoke_async(&mut connection).await?;
    Ok(Sent::InTime)
}

pub(super) async fn remove(mut connection: MultiplexedConnection, names: &Names, raw: &[u8]) -> RedisResult<()> {
    REMOVE.key(&names.value).arg(raw).invoke_async(&mut connection).await
}

/// From here on no value counts that was written before.
pub(super) async fn begin_purge(mut connection: MultiplexedConnection, names: &Names) -> RedisResult<Sent> {
    let mut purge = PURGE.prepare_invoke();
    purge
        .key(&names.generation)
        .key(&names.ends)
        .key(&names.sizes)
        .arg(fresh())
        .arg(GENERATION_TTL_S);
    let () = purge.invoke_async(&mut connection).await?;
    Ok(Sent::InTime)
}

/// Removes what a part of the key space has of the tenant; gives where to go on, 0 at the end. SCAN, since KEYS would stop
/// everybody.
pub(super) async fn purge_some(mut connection: MultiplexedConnection, names: &Names, cursor: u64) -> RedisResult<u64> {
    let mut scan = cmd("SCAN");
    scan.arg(cursor)
        .arg("MATCH")
        .arg(names.pattern())
        .arg("COUNT")
        .arg(1000);
    let (next, mut found): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
    found.retain(|name| names.is_ours(name));
    if !found.is_empty() {
        let _: u64 = cmd("UNLINK").arg(found).query_async(&mut connection).await?;
    }
    Ok(next)
}

/// How many names a part of the key space has that hold the tenant's id, its generation aside; and where to go on, 0 at the end.
pub(super) async fn count_some(
    mut connection: MultiplexedConnection,
    names: &Names,
    cursor: u64,
) -> RedisResult<(u64, u64)> {
    let mut scan = cmd("SCAN");
    scan.arg(cursor)
        .arg("MATCH")
        .arg(names.anything())
        .arg("COUNT")
        .arg(1000);
    let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
    let counted = found.iter().filter(|name| **name != names.generation.as_bytes());
    Ok((next, counted.count() as u64))
}

/// Makes new generations for tenants whose values are in doubt.
pub(super) async fn renew(connection: &mut MultiplexedConnection, generations: &[String]) -> RedisResult<()> {
    let mut write = WRITE.prepare_invoke();
    for name in generations {
        write.key(name);
        write.arg(fresh());
    }
    write.arg(GENERATION_TTL_S);
    write.invoke_async(connection).await
}

/// Forgets generations of a part of the key space: no value of any of these tenants counts any more.
pub(super) async fn renew_some(connection: &mut MultiplexedConnection, cursor: u64) -> RedisResult<u64> {
    let mut scan = cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg("g:*").arg("COUNT").arg(1000);
    let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
    if !found.is_empty() {
        let _: u64 = cmd("UNLINK").arg(found).query_async(connection).await?;
    }
    Ok(next)
}
