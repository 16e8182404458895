//! Search: contacts, projects and tasks by their words.

use axum::Json;
use serde::Serialize;
use tenantry::{
    Scope,
    axum::{Fields, FromFields, Problem, Query},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{list::read_limit, text::Line};

/// The statement of a search: `$1` is the text, `$2` how many items at most.
///
/// Each word is a range of words: itself, or for the last one all that begin with it, since it may not be finished. An item is
/// found when it has all of them, and stands the higher the more they count in it. Only the tenant's own words are read, so
/// what others have changes neither what is found nor its order.
pub const SEARCH: &str = "
with asked as (
    select w.lexeme as low,
           w.lexeme || case when w.positions[cardinality(w.positions)] = max(w.positions[cardinality(w.positions)]) over ()
                            then chr(1114111) else chr(1) end as high
    from unnest(to_tsvector('simple', $1)) as w),
hits as (
    select s.kind, s.item_id, a.low, max(s.weight) as weight
    from asked as a join search_words as s on s.word >= a.low and s.word < a.high
    group by s.kind, s.item_id, a.low),
found as (
    select h.kind, h.item_id, sum(h.weight) as score
    from hits as h
    group by h.kind, h.item_id
    having count(*) = (select count(*) from asked)
    order by score desc, h.item_id desc, h.kind
    limit $2)
select f.kind, f.item_id as id, coalesce(c.name, p.name, t.title) as name, t.project_id, f.score
from found as f
left join contacts as c on f.kind = 'contact' and c.id = f.item_id
left join projects as p on f.kind = 'project' and p.id = f.item_id
left join tasks as t on f.kind = 'task' and t.id = f.item_id
order by f.score desc, f.item_id desc, f.kind";

/// Something that was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct Found {
    /// `contact`, `project` or `task`.
    kind: String,
    id: Uuid,
    /// Its name or title.
    name: String,
    /// The project of a task.
    project_id: Option<Uuid>,
    /// How well it fits: compares only within one answer.
    score: i64,
}

tenantry::from_row!(Found {
    kind,
    id,
    name,
    project_id,
    score
});

/// What was found, the best first.
#[derive(Serialize, ToSchema)]
pub(crate) struct SearchResult {
    items: Vec<Found>,
}

/// A search.
pub(crate) struct Search {
    text: String,
    limit: i64,
}

impl FromFields for Search {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let text = fields.required::<Line<200>>("q");
        let limit = read_limit(fields);
        Some(Self {
            text: text?.into(),
            limit: limit?,
        })
    }
}

/// Search contacts, projects and tasks.
#[utoipa::path(get, path = "/search", tag = "search",
    params(
        ("q" = String, Query, min_length = 1, max_length = 200,
            description = "Words that all have to be there; the last one may be the beginning of a word."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "1 to 200 items, 50 by default.")),
    responses((status = 200, body = SearchResult)))]
pub(crate) async fn search(scope: Scope, Query(search): Query<Search>) -> Result<Json<SearchResult>, Problem> {
    let items = scope.query_as::<Found>(SEARCH, &[&search.text, &search.limit]).await?;
    Ok(Json(SearchResult { items }))
}
