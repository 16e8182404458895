//! The ledger's tables, and the statements on them, written as for one customer.

use tenantry_core::TenantId;
use tenantry_sql::Identifier;

use super::history::{Entry, Posting, Seen, Session, Thing};

/// What every account begins with.
const OPENING: i64 = 1_000;
/// How many accounts there are.
const NUMBER: i32 = 6;

/// The accounts' balances at the beginning.
pub(crate) const ACCOUNTS: [(i32, i64); NUMBER as usize] = [
    (1, OPENING),
    (2, OPENING),
    (3, OPENING),
    (4, OPENING),
    (5, OPENING),
    (6, OPENING),
];

/// An append-only journal with a sequence per session, balances, and things that are changed, removed and written again: with a unique
/// name, a number of their own, a column of every type, and values that are stored beside the row.
pub(crate) const MIGRATION: &str = "
create type mood as enum ('fine', 'so so');
create domain percent as int check (value between 0 and 100);
create type place as (street text, mood mood);
create table account (id int primary key, balance bigint not null);
create table entry (
    session int not null, seq int not null,
    debit int references account (id), credit int references account (id), amount bigint not null default 0,
    note text, primary key (session, seq));
create table thing (
    session int not null, n int not null, name text not null unique, number bigint generated always as identity unique,
    large text, small smallint, exact numeric, fixed numeric(12, 3), twice numeric generated always as (fixed * 2) stored,
    r real, d double precision, v varchar(20), c char(5), b bytea, ts timestamp, tz timestamptz, da date, ti time, tiz timetz,
    iv interval, bo boolean, u uuid, j json, jb jsonb, ints int[], texts text[], moods mood[], mo mood, p percent, pl place,
    ip inet, cd cidr, ma macaddr, bi bit(4), vb bit varying, pt point, ra int4range, tsv tsvector,
    primary key (session, n));
";

/// Opens the accounts.
pub(crate) const OPEN: &str = "insert into account (id, balance) select n, 1000 from generate_series(1, 6) n";

/// Appends an entry: session, number, note.
pub(super) const APPEND: &str = "insert into entry (session, seq, note) values ($1, $2, $3)
    returning current_setting('transaction_isolation')";

/// Writes the entry of a transfer: session, number, debit, credit, amount.
pub(super) const POST: &str = "insert into entry (session, seq, debit, credit, amount) values ($1, $2, $3, $4, $5)
    returning current_setting('transaction_isolation')";

/// Changes a balance: account, by how much.
pub(super) const BOOK: &str = "update account set balance = balance + $2 where id = $1";

/// All columns but the tenant's, as a number of the row's content.
const DIGEST: &str = "md5((to_jsonb(thing) - 'tenant_id')::text)";

const CHANGED: &str = "large, small, exact, fixed, r, d, v, c, b, ts, tz, da, ti, tiz, iv, bo, u, j, jb, ints, texts, moods, mo, p, pl, ip, cd, \
     ma, bi, vb, pt, ra, tsv";

/// The values of all those columns, by the parameter `$3`. Every third one is too large and too random to stand in its row.
const VALUES: &str = "case when $3::int % 3 = 0 then (select string_agg(md5(random()::text), '') from generate_series(1, 200)) else 'short' end,
    $3 % 1000, (array['NaN', '-Infinity', '12345678901234567890.000100', '0'])[$3 % 4 + 1]::numeric, $3 % 1000 + 0.125,
    (array['NaN', '-Infinity', '1.17549435e-38', '-0'])[$3 % 4 + 1]::real,
    (array['NaN', 'Infinity', '1e-300', '0.1'])[$3 % 4 + 1]::double precision,
    (array['', E'a\\t\\\\ '' b', 'äöü 漢字 🦀', null])[$3 % 4 + 1], 'ab', decode(md5($3::text), 'hex'),
    (array['infinity', '-infinity', '2024-02-29 23:59:59.999999', '0044-03-15 BC'])[$3 % 4 + 1]::timestamp,
    (array['infinity', '-infinity', '2024-02-29 23:59:59.999999+00', '0044-03-15 00:00:00+00 BC'])[$3 % 4 + 1]::timestamptz,
    (array['infinity', '-infinity', '2024-02-29', '0044-03-15 BC'])[$3 % 4 + 1]::date,
    '24:00', '12:00:00.5+05:30', '-1 year 2 mons -3 days 04:05:06.789', $3 % 2 = 1, gen_random_uuid(),
    '{\"a\":  [1, null]}', '{\"b\": {\"c\": \"\\u00e4\"}}',
    (array['{}', '{1,NULL,-3}', '{{1,2},{3,4}}', '[2:3]={7,8}'])[$3 % 4 + 1]::int[], array['a,b', null, '\"', '{}'],
    '{fine,\"so so\"}', 'so so', $3 % 101, '(\"a,b\",fine)', '10.0.0.0/8', '192.168.0.0/24', '08:00:2b:01:02:03', b'1010', b'101',
    '(1.5,-2)', int4range(0, $3 % 1000, '[]'), to_tsvector('simple', 'word ' || $3)";

/// Writes a thing: session, number, a number for its values, name.
pub(super) fn put() -> String {
    format!(
        "insert into thing (session, n, name, {CHANGED}) select $1::int, $2::int, $4::text, {VALUES} returning {DIGEST}"
    )
}

/// Changes all of a thing: session, number, a number for its values.
pub(super) fn change() -> String {
    format!("update thing set ({CHANGED}) = row({VALUES}) where session = $1 and n = $2 returning {DIGEST}")
}

/// Gives a thing another key: session, number, the new number.
pub(super) fn rekey() -> String {
    format!("update thing set n = $3 where session = $1 and n = $2 returning {DIGEST}")
}

/// Removes a thing: session, number.
pub(super) const REMOVE: &str = "delete from thing where session = $1 and n = $2 returning 'gone'::text";

/// Everything, as of one moment, in three columns; [`look`] understands it.
pub(crate) const READ: &str = "select
    array(select concat_ws('/', session, seq, coalesce(debit, 0), coalesce(credit, 0), amount) from entry),
    array(select concat_ws('/', id, balance) from account),
    array(select concat_ws('/', session, n, md5((to_jsonb(thing) - 'tenant_id')::text)) from thing)";

/// The same of one tenant's rows in this schema, for who is bound to nobody.
pub(crate) fn read_of(schema: &Identifier, tenant: TenantId) -> String {
    let of = |table: &str| format!(" from {schema}.{table} where tenant_id = '{tenant}')");
    ["entry", "account", "thing"]
        .iter()
        .fold(READ.to_owned(), |sql, table| {
            sql.replace(&format!(" from {table})"), &of(table))
        })
}

/// The answer to [`READ`]. `None`: it is no such answer.
pub(crate) fn look(entries: &[String], balances: &[String], things: &[String]) -> Option<Seen> {
    let mut seen = Seen::default();
    for text in entries {
        let parts = numbers(text)?;
        let &[session, seq, debit, credit, amount] = parts.as_slice() else {
            return None;
        };
        let entry = Entry {
            session: Session(i32::try_from(session).ok()?),
            seq: i32::try_from(seq).ok()?,
        };
        let posting = Posting {
            debit: i32::try_from(debit).ok()?,
            credit: i32::try_from(credit).ok()?,
            amount,
        };
        seen.entries.push((entry, posting));
    }
    for text in balances {
        let &[id, balance] = numbers(text)?.as_slice() else {
            return None;
        };
        seen.balances.push((i32::try_from(id).ok()?, balance));
    }
    for text in things {
        let (key, digest) = text.rsplit_once('/')?;
        let &[session, n] = numbers(key)?.as_slice() else {
            return None;
        };
        let thing = Thing {
            session: Session(i32::try_from(session).ok()?),
            n: i32::try_from(n).ok()?,
        };
        seen.things.push((thing, digest.to_owned()));
    }
    Some(seen)
}

fn numbers(text: &str) -> Option<Vec<i64>> {
    text.split('/').map(|part| part.parse().ok()).collect()
}
