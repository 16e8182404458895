//! What differs between two tenants, row by row, in bounded memory: both are read in the order of their keys.

use std::{cmp::Ordering, collections::VecDeque, pin::Pin};

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tokio_postgres::CopyOutStream;

use super::{
    ArchiveError, Snapshot, TableHead,
    copy_text::{self, Lines},
    export::reading,
    snapshot::identifier,
};

/// How a table differs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TableDifference {
    /// The table.
    pub table: String,
    /// Rows that are the same.
    pub same: u64,
    /// Rows whose key only the first tenant has.
    pub only_in_a: u64,
    /// Rows whose key only the second tenant has.
    pub only_in_b: u64,
    /// Rows that both have under one key, with other values.
    pub differing: u64,
    /// Columns, or the whole table, that only one of them has: `a.column`, `b.column`.
    pub structure: Vec<String>,
    /// The first of the rows that differ, by their keys.
    pub examples: Vec<KeyedDifference>,
}

/// A row that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct KeyedDifference {
    /// `only_in_a`, `only_in_b` or `differing`.
    pub kind: &'static str,
    /// Its key: the primary key's columns, or all of them where there is none. `None` is null.
    pub key: Vec<Option<String>>,
}

impl TableDifference {
    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        self.only_in_a == 0 && self.only_in_b == 0 && self.differing == 0 && self.structure.is_empty()
    }
}

/// Compares two tenants, each in a snapshot of its own, table by table; at most `examples` rows of each are named.
///
/// # Errors
///
/// Where rows can't be read.
///
/// # Cancel safety
///
/// Dropped before its end, both connections have to be dropped.
pub async fn difference(
    a: &Snapshot<'_>,
    b: &Snapshot<'_>,
    examples: usize,
) -> Result<Vec<TableDifference>, ArchiveError> {
    let mut differences = Vec::new();
    for head in a.tables() {
        let other = b.tables().find(|other| other.name == head.name);
        differences.push(match other {
            Some(other) => of_table(a, b, head, other, examples).await?,
            None => missing(head, "a"),
        });
    }
    for head in b.tables() {
        if !a.tables().any(|other| other.name == head.name) {
            differences.push(missing(head, "b"));
        }
    }
    Ok(differences)
}

fn missing(head: &TableHead, side: &str) -> TableDifference {
    TableDifference {
        table: head.name.clone(),
        structure: vec![format!("{side}.{}", head.name)],
        ..TableDifference::default()
    }
}

async fn of_table(
    a: &Snapshot<'_>,
    b: &Snapshot<'_>,
    head: &TableHead,
    other: &TableHead,
    examples: usize,
) -> Result<TableDifference, ArchiveError> {
    let has = |head: &TableHead, name: &str| head.columns.iter().any(|column| column.name == name);
    let names = |head: &TableHead| -> Vec<String> { head.columns.iter().map(|column| column.name.clone()).collect() };
    let (in_a, in_b) = (names(head), names(other));
    let mut found = TableDifference {
        table: head.name.clone(),
        ..TableDifference::default()
    };
    found.structure.extend(
        in_a.iter()
            .filter(|name| !has(other, name))
            .map(|name| format!("a.{name}")),
    );
    found.structure.extend(
        in_b.iter()
            .filter(|name| !has(head, name))
            .map(|name| format!("b.{name}")),
    );
    // The key first, so that it is found in a row by its number.
    let is_key = head.key == other.key && !head.key.is_empty();
    let mut columns: Vec<&str> = if is_key {
        head.key.iter().map(String::as_str).collect()
    } else {
        Vec::new()
    };
    for name in in_a.iter().filter(|name| has(other, name)) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let width = if is_key { head.key.len() } else { columns.len() };
    let mut a = Rows::open(a, &head.name, &columns, width).await?;
    let mut b = Rows::open(b, &head.name, &columns, width).await?;
    let (mut left, mut right) = (a.next().await?, b.next().await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(found),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.key.cmp(&right.key),
        };
        let (kind, row) = match order {
            Ordering::Less => ("only_in_a", left.as_ref()),
            Ordering::Greater => ("only_in_b", right.as_ref()),
            Ordering::Equal if left.as_ref().map(|row| &row.line) == right.as_ref().map(|row| &row.line) => {
                ("same", None)
            }
            Ordering::Equal => ("differing", left.as_ref()),
        };
        match kind {
            "only_in_a" => found.only_in_a += 1,
            "only_in_b" => found.only_in_b += 1,
            "differing" => found.differing += 1,
            _ => found.same += 1,
        }
        if let Some(row) = row.filter(|_| found.examples.len() < examples) {
            found.examples.push(KeyedDifference { kind, key: row.shown() });
        }
        if order != Ordering::Greater {
            left = a.next().await?;
        }
        if order != Ordering::Less {
            right = b.next().await?;
        }
    }
}

/// A table's rows in the order of their keys.
struct Rows {
    stream: Pin<Box<CopyOutStream>>,
    lines: Lines,
    read: VecDeque<Vec<u8>>,
    width: usize,
}

struct Row {
    /// As the server sorts them: byte by byte, null last.
    key: Vec<(bool, Vec<u8>)>,
    line: Vec<u8>,
}

impl Row {
    fn shown(&self) -> Vec<Option<String>> {
        let shown = |(is_null, value): &(bool, Vec<u8>)| {
            (!is_null).then(|| String::from_utf8_lossy(value).chars().take(200).collect())
        };
        self.key.iter().map(shown).collect()
    }
}

impl Rows {
    async fn open(snapshot: &Snapshot<'_>, table: &str, columns: &[&str], width: usize) -> Result<Self, ArchiveError> {
        let mut by = Vec::new();
        for column in &columns[..width] {
            by.push(format!("{}::text collate \"C\"", identifier(column)?));
        }
        let order = if by.is_empty() {
            String::new()
        } else {
            format!(" order by {}", by.join(", "))
        };
        Ok(Self {
            stream: Box::pin(snapshot.rows(table, columns, &order).await?),
            lines: Lines::default(),
            read: VecDeque::new(),
            width,
        })
    }

    async fn next(&mut self) -> Result<Option<Row>, ArchiveError> {
        while self.read.is_empty() {
            let Some(chunk) = self.stream.try_next().await.map_err(reading)? else {
                return Ok(None);
            };
            let read = &mut self.read;
            self.lines.feed(&chunk, |line| {
                read.push_back(line.to_vec());
                Ok::<_, ArchiveError>(())
            })?;
        }
        let width = self.width;
        Ok(self.read.pop_front().map(|line| {
            let fields = copy_text::fields(&line).take(width);
            let key = fields.map(|field| match copy_text::unescape(field) {
                Some(value) => (false, value),
                None => (true, Vec::new()),
            });
            Row {
                key: key.collect(),
                line,
            }
        }))
    }
}
