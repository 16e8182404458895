//! Lists of the control plane: newest first, page by page.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tenantry::axum::{CursorOwner, Fields, Problem, decode_cursor, encode_cursor};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;

/// What every list takes.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `Paging` reads")]
pub(crate) struct PageParams {
    /// 1 to 200 items, 50 by default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// `-created_at`, the newest first; some lists know `created_at` too.
    sort: Option<String>,
}

/// Which page is wanted.
pub(crate) struct Paging {
    limit: i64,
    cursor: Option<String>,
    /// Whether the oldest come first.
    pub(crate) oldest_first: bool,
}

/// One page and the place where the next begins.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    items: Vec<T>,
    /// To be sent as `cursor` with the same filters; null on the last page.
    next_cursor: Option<String>,
}

/// The place of an item in its list.
pub(crate) type Place = (DateTime<Utc>, Uuid);

impl Paging {
    /// Takes `limit`, `cursor` and `sort`, of a list that shows the newest first.
    pub(crate) fn newest_first(fields: &mut Fields) -> Option<Self> {
        let paging = Self::either_way(fields)?;
        if paging.oldest_first {
            fields.invalid("sort", "this list knows -created_at only");
        }
        Some(paging)
    }

    /// Takes `limit`, `cursor` and `sort`.
    pub(crate) fn either_way(fields: &mut Fields) -> Option<Self> {
        let limit = match fields.optional::<String>("limit").map(|text| text.parse()) {
            None => Some(LIMIT_DEFAULT),
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => Some(limit),
            Some(_) => {
                fields.invalid("limit", format!("a whole number from 1 to {LIMIT_MAX}"));
                None
            }
        };
        let cursor = fields.optional("cursor");
        let oldest_first = match fields.optional::<String>("sort").as_deref() {
            None | Some("-created_at") => false,
            Some("created_at") => true,
            Some(_) => {
                fields.invalid("sort", "created_at or -created_at");
                false
            }
        };
        Some(Self {
            limit: limit?,
            cursor,
            oldest_first,
        })
    }

    /// How many items to ask for: one more than is shown, to see whether another page follows.
    pub(crate) fn limit(&self) -> i64 {
        self.limit + 1
    }

    /// After which item the page begins.
    pub(crate) fn after(&self, owner: &impl CursorOwner, list: &str) -> Result<Option<Place>, Problem> {
        self.cursor
            .as_deref()
            .map(|cursor| decode_cursor(owner, list, cursor))
            .transpose()
    }

    /// The page, of the items that were found.
    pub(crate) fn page<T, B: From<T>>(
        &self,
        mut found: Vec<T>,
        owner: &impl CursorOwner,
        list: &str,
        place: impl Fn(&T) -> Place,
    ) -> Page<B> {
        let follows = found.len() > self.limit as usize;
        found.truncate(self.limit as usize);
        let last = found.last().filter(|_| follows);
        let next_cursor = last.map(|item| encode_cursor(owner, &self.list(list), &place(item)));
        Page {
            items: found.into_iter().map(Into::into).collect(),
            next_cursor,
        }
    }

    /// A cursor of one direction is none of the other.
    fn list(&self, list: &str) -> String {
        if self.oldest_first {
            format!("{list} oldest first")
        } else {
            list.to_owned()
        }
    }
}
