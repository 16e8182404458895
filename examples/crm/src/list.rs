//! Lists: filtered, searched, sorted, page by page.

use std::{collections::BTreeMap, marker::PhantomData};

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use postgres_types::ToSql;
use serde::Serialize;
use serde_json::Value;
use tenantry::{
    FromRow, Row, Scope,
    axum::{Fields, FromFields, Problem, decode_cursor, encode_cursor},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::text::Day;

/// How many items a page has where the request says nothing, and how many it may ask for.
const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;

/// What of a table can be listed. Only these texts get into a statement; what a request sends is bound.
pub(crate) struct List {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static str,
    /// The fields that can be filtered by equality.
    pub(crate) fields: &'static [(&'static str, Field)],
    /// The text fields that `q` looks into.
    pub(crate) searched: &'static [&'static str],
    /// The fields that `sort` takes: never null, or rows would be left out between pages.
    pub(crate) sorted: &'static [&'static str],
}

/// How the text of a filter is read.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    Uuid,
    Text,
    OneOf(&'static [&'static str]),
    Date,
    Time,
}

/// A type with a list.
pub(crate) trait Listed: FromRow {
    /// What of it can be listed.
    const LIST: List;
}

/// One page and the place where the next begins.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    items: Vec<T>,
    /// To be sent as `cursor` with the same filters; null on the last page.
    next_cursor: Option<String>,
}

/// What every list takes, besides each field of its items as an equality filter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `ListQuery` reads")]
pub(crate) struct ListParams {
    /// 1 to 200 items, 50 by default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// A field to sort by, `-` before it for the largest first; `-created_at` by default.
    sort: Option<String>,
    /// A text that one of the text fields contains.
    q: Option<String>,
    /// Each field of an item is an equality filter.
    #[param(style = Form, explode, value_type = BTreeMap<String, String>)]
    filter: Option<BTreeMap<String, String>>,
}

type Param = Box<dyn ToSql + Sync + Send>;

/// A request for a page of `T`s.
pub(crate) struct ListQuery<T> {
    limit: i64,
    cursor: Option<String>,
    sort: Sort,
    filter: Filter,
    of: PhantomData<fn() -> T>,
}

struct Sort {
    field: &'static str,
    kind: Field,
    descending: bool,
}

/// The conditions of a statement, with what is bound to them.
#[derive(Default)]
struct Filter {
    conditions: Vec<String>,
    params: Vec<Param>,
}

impl<T: Listed> FromFields for ListQuery<T> {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let limit = read_limit(fields);
        let cursor = fields.optional("cursor");
        let sort = read_sort::<T>(fields);
        let mut filter = Filter::default();
        if let Some(text) = fields.text("q") {
            filter.search::<T>(&text);
        }
        for (name, value) in fields.take_rest() {
            filter.equal::<T>(fields, &name, &value);
        }
        Some(Self {
            limit: limit?,
            cursor,
            sort: sort?,
            filter,
            of: PhantomData,
        })
    }
}

/// How many items are asked for.
pub(crate) fn read_limit(fields: &mut Fields) -> Option<i64> {
    let Some(text) = fields.optional::<String>("limit") else {
        return Some(LIMIT_DEFAULT);
    };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    if limit.is_none() {
        fields.invalid("limit", format!("a whole number from 1 to {LIMIT_MAX}"));
    }
    limit
}

fn read_sort<T: Listed>(fields: &mut Fields) -> Option<Sort> {
    let text = fields
        .optional::<String>("sort")
        .unwrap_or_else(|| "-created_at".to_owned());
    let (descending, name) = text
        .strip_prefix('-')
        .map_or((false, text.as_str()), |name| (true, name));
    let mut sortable = T::LIST
        .fields
        .iter()
        .filter(|(field, _)| T::LIST.sorted.contains(field));
    let Some((field, kind)) = sortable.find(|(field, _)| *field == name) else {
        fields.invalid(
            "sort",
            format!("one of {}, or `-` and one of them", T::LIST.sorted.join(", ")),
        );
        return None;
    };
    Some(Sort {
        field,
        kind: *kind,
        descending,
    })
}

impl Filter {
    fn bind(&mut self, param: Param) -> String {
        self.params.push(param);
        format!("${}", self.params.len())
    }

    fn search<T: Listed>(&mut self, text: &str) {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let pattern = self.bind(Box::new(format!("%{escaped}%")));
        let any: Vec<_> = T::LIST
            .searched
            .iter()
            .map(|field| format!("{field} ilike {pattern}"))
            .collect();
        self.conditions.push(format!("({})", any.join(" or ")));
    }

    fn equal<T: Listed>(&mut self, fields: &mut Fields, name: &str, value: &Value) {
        let Some((field, kind)) = T::LIST.fields.iter().find(|(field, _)| *field == name) else {
            return fields.unknown(name);
        };
        match kind.read(value.as_str().unwrap_or_default()) {
            Ok(param) => {
                let bound = self.bind(param);
                self.conditions.push(format!("{field} = {bound}"));
            }
            Err(expected) => fields.invalid(name, expected),
        }
    }

    /// Leaves out what stands before the place.
    fn begin_after(&mut self, sort: &Sort, value: Param, id: Uuid) {
        let (field, value, id) = (sort.field, self.bind(value), self.bind(Box::new(id)));
        let comparison = if sort.descending { '<' } else { '>' };
        self.conditions
            .push(format!("({field}, id) {comparison} ({value}, {id})"));
    }

    fn clause(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!("where {}", self.conditions.join(" and "))
        }
    }
}

impl Field {
    fn read(self, text: &str) -> Result<Param, String> {
        match self {
            Self::Uuid => text.parse::<Uuid>().map(boxed).map_err(|_| "a uuid".to_owned()),
            Self::Text if text.contains('\0') => Err("a text without NUL characters".to_owned()),
            Self::Text => Ok(boxed(text.to_owned())),
            Self::OneOf(words) if words.contains(&text) => Ok(boxed(text.to_owned())),
            Self::OneOf(words) => Err(format!("one of {}", words.join(", "))),
            Self::Date => {
                let day = Day::try_from(text.to_owned()).ok();
                day.map(|day| boxed(day.0))
                    .ok_or_else(|| "a date like 2026-01-31".to_owned())
            }
            Self::Time => {
                let time =
                    DateTime::parse_from_rfc3339(text).map_err(|_| "a time like 2026-01-31T12:00:00Z".to_owned());
                time.map(|time| boxed(time.to_utc()))
            }
        }
    }

    /// The value of a row, as the text that `read` takes.
    fn write(self, row: &Row, field: &str) -> Result<String, tenantry::Error> {
        match self {
            Self::Uuid => row.get::<Uuid>(field).map(|id| id.to_string()),
            Self::Text | Self::OneOf(_) => row.get(field),
            Self::Date => row.get::<NaiveDate>(field).map(|day| day.to_string()),
            Self::Time => {
                let time = row.get::<DateTime<Utc>>(field);
                time.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
            }
        }
    }
}

fn boxed(value: impl ToSql + Sync + Send + 'static) -> Param {
    Box::new(value)
}

impl<T: Listed> ListQuery<T> {
    /// Reads the page, and one row more to see whether another page follows.
    pub(crate) async fn page(mut self, scope: &Scope) -> Result<Page<T>, Problem> {
        let list = format!("{} {} {}", T::LIST.table, self.sort.field, self.sort.descending);
        if let Some(cursor) = self.cursor.take() {
            let (value, id): (String, Uuid) = decode_cursor(scope.context(), &list, &cursor)?;
            let value = self.sort.kind.read(&value).map_err(|_| Problem::not_found())?;
            self.filter.begin_after(&self.sort, value, id);
        }
        let rows = self.rows(scope).await?;
        let shown = &rows[..rows.len().min(self.limit as usize)];
        let next_cursor = match shown.last() {
            Some(last) if rows.len() > shown.len() => {
                let place = (self.sort.kind.write(last, self.sort.field)?, last.get::<Uuid>("id")?);
                Some(encode_cursor(scope.context(), &list, &place))
            }
            _ => None,
        };
        let items = shown.iter().map(T::from_row).collect::<Result<_, _>>()?;
        Ok(Page { items, next_cursor })
    }

    async fn rows(&mut self, scope: &Scope) -> Result<Vec<Row>, tenantry::Error> {
        let List { table, columns, .. } = T::LIST;
        let Sort { field, descending, .. } = self.sort;
        let direction = if descending { "desc" } else { "asc" };
        let filter = self.filter.clause();
        let limit = self.filter.bind(Box::new(self.limit + 1));
        let sql = format!(
            "select {columns} from {table} {filter} order by {field} {direction}, id {direction} limit {limit}"
        );
        let params: Vec<_> = self
            .filter
            .params
            .iter()
            .map(|param| &**param as &(dyn ToSql + Sync))
            .collect();
        scope.query(&sql, &params).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contacts::Contact;

    fn sql(query: &str) -> Result<(String, usize), Problem> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), Value::String(value.to_owned()))
        });
        let query: ListQuery<Contact> = Fields::new(pairs.collect()).read()?;
        Ok((query.filter.clause(), query.filter.params.len()))
    }

    #[test]
    fn values_are_bound_and_never_written() {
        let (clause, params) = sql("q=x' or 1=1 --&email=' or ''='").unwrap();
        let searched = "(name ilike $1 or email ilike $1 or phone ilike $1 or company ilike $1 or notes ilike $1)";
        assert_eq!(clause, format!("where {searched} and email = $2"));
        assert_eq!(params, 2);
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for (query, code) in [
            ("tenant_id=x", "unknown-field"),
            ("nme=x", "unknown-field"),
            ("sort=notes", "invalid-field"),
            ("sort=--name", "invalid-field"),
            ("sort=name;drop table contacts", "invalid-field"),
            ("limit=0", "invalid-field"),
            ("limit=201", "invalid-field"),
            ("limit=ten", "invalid-field"),
            ("id=7", "invalid-field"),
            ("created_at=yesterday", "invalid-field"),
        ] {
            assert_eq!(sql(query).unwrap_err().code().as_str(), code, "{query}");
        }
    }
}
