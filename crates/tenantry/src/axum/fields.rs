//! Reading the fields of a body or a query, every error at once.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Code, FieldError, Problem, strict::StrictObject};

/// A type that is read from the fields of a JSON object or of a query string.
///
/// ```
/// use tenantry::axum::{Fields, FromFields};
///
/// struct NewNote { title: String, done: Option<bool> }
///
/// impl FromFields for NewNote {
///     fn from_fields(fields: &mut Fields) -> Option<Self> {
///         let title = fields.required("title");
///         let done = fields.optional("done");
///         Some(Self { title: title?, done })
///     }
/// }
///
/// assert!(Fields::from_json(br#"{"title": "x"}"#).unwrap().read::<NewNote>().is_ok());
/// assert!(Fields::from_json(br#"{"title": 7, "tenant_id": 1}"#).unwrap().read::<NewNote>().is_err());
/// ```
pub trait FromFields: Sized {
    /// Takes the type's fields. `None` only where a field was noted as missing or invalid; read all before returning.
    fn from_fields(fields: &mut Fields) -> Option<Self>;
}

/// The fields that are not taken yet, and what was wrong with those that were.
#[derive(Debug)]
pub struct Fields {
    prefix: String,
    values: Vec<(String, Value)>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// The fields of a JSON object.
    ///
    /// # Errors
    ///
    /// `malformed-body` where the text is no JSON object, or names a field twice, at whatever depth: two readers of such a
    /// text can differ in what they see.
    pub fn from_json(text: &[u8]) -> Result<Self, Problem> {
        let object: StrictObject = serde_json::from_slice(text)
            .map_err(|error| Problem::new(Code::MalformedBody, format!("The body is no JSON object: {error}.")))?;
        Ok(Self::new(object.0))
    }

    /// Fields by name.
    pub fn new(values: Vec<(String, Value)>) -> Self {
        Self {
            prefix: String::new(),
            values,
            errors: Vec::new(),
        }
    }

    /// Reads a `T` and refuses what is left over.
    ///
    /// # Errors
    ///
    /// `unknown-field` or `invalid-field`, with every wrong field.
    pub fn read<T: FromFields>(mut self) -> Result<T, Problem> {
        let value = T::from_fields(&mut self);
        self.refuse_rest();
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(Problem::fields(self.errors)),
        }
    }

    /// The field, which must be there and not null.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        match self.take(name) {
            Some(value) => self.convert(name, value),
            None => {
                self.invalid(name, "this field is required");
                None
            }
        }
    }

    /// The field, if it is there and not null.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        match self.take(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.convert(name, value),
        }
    }

    /// A text to compare or to search with: at most 200 characters, without the NUL that PostgreSQL has no place for.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = self.optional::<String>(name)?;
        if text.contains('\0') || text.chars().count() > SEARCH_CHARS_MAX {
            self.invalid(name, format!("at most {SEARCH_CHARS_MAX} characters, no NUL character"));
            return None;
        }
        Some(text)
    }

    /// The field of a change: `None` leaves it alone, `Some(None)` was a null and empties it.
    pub fn change<T: DeserializeOwned>(&mut self, name: &str) -> Option<Option<T>> {
        match self.take(name) {
            None => None,
            Some(Value::Null) => Some(None),
            Some(value) => self.convert(name, value).map(Some),
        }
    }

    /// The field of a change that can't be emptied.
    pub fn change_required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.take(name)?;
        self.convert(name, value)
    }

    /// An object in a field, if it is there and not null.
    pub fn object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        let value = self.optional::<StrictObject>(name)?;
        let mut inner = Self {
            prefix: format!("{}/{}", self.prefix, escape(name)),
            values: value.0,
            errors: Vec::new(),
        };
        let value = T::from_fields(&mut inner);
        inner.refuse_rest();
        self.errors.append(&mut inner.errors);
        value
    }

    /// Takes every field that is left, for readers that check names themselves.
    pub fn take_rest(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.values)
    }

    /// Notes what is wrong with a field.
    pub fn invalid(&mut self, name: &str, detail: impl Into<String>) {
        self.note(Code::InvalidField, name, detail.into());
    }

    /// Notes a field that is not known.
    pub fn unknown(&mut self, name: &str) {
        self.note(
            Code::UnknownField,
            name,
            "this field is not known here; remove it".to_owned(),
        );
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let position = self.values.iter().position(|(field, _)| field == name)?;
        Some(self.values.remove(position).1)
    }

    fn convert<T: DeserializeOwned>(&mut self, name: &str, value: Value) -> Option<T> {
        serde_json::from_value(value)
            .map_err(|error| self.invalid(name, expected(&error.to_string())))
            .ok()
    }

    fn refuse_rest(&mut self) {
        for (name, _) in self.take_rest() {
            self.unknown(&name);
        }
    }

    fn note(&mut self, code: Code, name: &str, detail: String) {
        // A body of a million unknown fields must not give an answer of the same size.
        if self.errors.len() < ERRORS_MAX {
            let pointer = format!("{}/{}", self.prefix, escape(&shorten(name)));
            self.errors.push(FieldError { pointer, code, detail });
        }
    }
}

/// More errors than this help nobody.
const ERRORS_MAX: usize = 32;

/// Nobody searches for more, and patterns cost.
const SEARCH_CHARS_MAX: usize = 200;

/// Messages can hold the value that was sent, which can be long.
const DETAIL_CHARS_MAX: usize = 200;

/// What the field should be. A uuid's own words ("found `n` at 1") tell what it is not.
fn expected(error: &str) -> String {
    if error.starts_with("UUID parsing failed") {
        "a uuid".to_owned()
    } else {
        shorten(error)
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// RFC 6901, section 3.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[derive(Debug)]
    struct Person {
        name: String,
        age: Option<u8>,
    }

    #[derive(Debug)]
    struct Team {
        lead: Option<Person>,
    }

    impl FromFields for Person {
        fn from_fields(fields: &mut Fields) -> Option<Self> {
            let name = fields.required("name");
            let age = fields.optional("age");
            Some(Self { name: name?, age })
        }
    }

    impl FromFields for Team {
        fn from_fields(fields: &mut Fields) -> Option<Self> {
            Some(Self {
                lead: fields.object("lead"),
            })
        }
    }

    fn read<T: FromFields>(text: &str) -> Result<T, Problem> {
        Fields::from_json(text.as_bytes())?.read()
    }

    async fn pointers(problem: Problem) -> Vec<String> {
        let body = axum::body::to_bytes(problem.into_response().into_body(), 10_000)
            .await
            .unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn every_wrong_field_is_told_at_once() {
        let problem = read::<Person>(r#"{"age": "old", "tenant_id": 1, "a/b": 2}"#).unwrap_err();
        assert_eq!(problem.code(), Code::UnknownField);
        assert_eq!(pointers(problem).await, ["/name", "/age", "/tenant_id", "/a~1b"]);
    }

    #[tokio::test]
    async fn pointers_lead_into_inner_objects() {
        let problem = read::<Team>(r#"{"lead": {"nme": "Ann"}}"#).unwrap_err();
        assert_eq!(pointers(problem).await, ["/lead/name", "/lead/nme"]);
    }

    #[test]
    fn null_is_absent_for_an_optional_field() {
        let person = read::<Person>(r#"{"name": "Ann", "age": null}"#).unwrap();
        assert_eq!((person.name.as_str(), person.age), ("Ann", None));
        assert!(read::<Team>("{}").unwrap().lead.is_none());
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "[]",
            "7",
            r#"{"name": "a", "name": "b"}"#,
            "{\"name\": \"\u{0}\"}",
            &deep,
        ] {
            assert_eq!(
                read::<Person>(text).unwrap_err().code(),
                Code::MalformedBody,
                "{text:.20}"
            );
        }
    }

    #[test]
    fn a_flood_of_unknown_fields_gives_a_short_answer() {
        let fields: Vec<_> = (0..10_000).map(|n| format!("\"{n}{}\": 1", "x".repeat(300))).collect();
        let problem = read::<Person>(&format!("{{{}}}", fields.join(","))).unwrap_err();
        assert!(format!("{problem:?}").len() < 50_000);
    }
}
