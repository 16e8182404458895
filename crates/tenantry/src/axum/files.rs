//! Files over HTTP: signed links, and a file as an answer.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::json;

use super::{Code, Problem};
use crate::{
    Tenantry,
    files::{Download, FileError, LinkVerb},
};

/// Serves signed links: `GET ?link=…` downloads, `PUT ?link=…` uploads the body. Mount it wherever links are to lead, outside of
/// [`TenantLayer`](super::TenantLayer): a link is a credential of its own, and names its tenant.
///
/// ```no_run
/// # fn example(tenantry: tenantry::Tenantry) -> axum::Router {
/// axum::Router::new().nest("/files", tenantry::axum::file_links(tenantry))
/// # }
/// ```
///
/// The link stands in the query, which this library's log lines never show; other logs and proxies on the way may. An
/// answer is never stored on the way, and a browser that opens one saves the file instead of running it.
pub fn file_links(tenantry: Tenantry) -> Router {
    Router::new()
        .route("/", get(download_link).put(upload_link))
        .with_state(tenantry)
}

async fn download_link(State(tenantry): State<Tenantry>, uri: Uri) -> Result<Response, Problem> {
    let linked = tenantry.open_file_link(&link(&uri)?, LinkVerb::Download).await?;
    Ok(attachment(linked.files.download(linked.path.as_str()).await?))
}

async fn upload_link(State(tenantry): State<Tenantry>, request: Request) -> Result<Response, Problem> {
    let link = link(request.uri())?;
    let linked = tenantry.open_file_link(&link, LinkVerb::Upload).await?;
    let told = content_length(request.headers());
    if told.is_some_and(|len| len > linked.bytes_max) {
        return Err(too_large(linked.bytes_max));
    }
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/octet-stream")
        .to_owned();
    let files = linked.files.with_file_max(linked.bytes_max);
    let data = request.into_body().into_data_stream();
    let file = files.upload(linked.path.as_str(), &content_type, data).await?;
    let body = json!({ "path": file.path, "bytes": file.bytes, "content_type": file.content_type });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// The one link of the query; of two, either may be meant.
fn link(uri: &Uri) -> Result<String, Problem> {
    let query = uri.query().unwrap_or_default();
    let mut links = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "link")
        .map(|(_, value)| value.into_owned());
    match (links.next(), links.next()) {
        (Some(link), None) => Ok(link),
        _ => Err(Problem::new(
            Code::Unauthenticated,
            "Send one signed link in the query, as `link`.",
        )),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A file as an answer, which a browser saves and never runs: whoever uploaded it chose its type.
pub fn attachment(download: Download) -> Response {
    let file = download.file();
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let own = [
        (
            header::CONTENT_TYPE,
            plain(&file.content_type, "application/octet-stream"),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(file.bytes)),
        (
            header::CONTENT_DISPOSITION,
            plain(&format!("attachment; filename*=UTF-8''{}", encoded(name)), "attachment"),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; sandbox"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let mut response = Response::new(Body::from_stream(download.into_stream()));
    response.headers_mut().extend(own);
    response
}

fn plain(text: &str, otherwise: &'static str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(otherwise))
}

/// As RFC 8187 wants it.
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

fn too_large(max: u64) -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("The file has more than the {max} bytes that are taken."),
    )
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Database(error) => error.into(),
            FileError::Path(why) => Self::field(Code::InvalidField, "path", why.to_string()),
            FileError::ContentType => Self::field(Code::InvalidField, "content_type", error.to_string()),
            FileError::NotFound => Self::not_found(),
            FileError::LookAlike { .. } => Self::new(
                Code::AlreadyExists,
                "There is a file whose name looks the same; use that name, or another one.",
            ),
            FileError::QuotaExceeded { max, .. } => Self::new(
                Code::StorageFull,
                format!("The tenant may have {max} bytes of files; delete some, or ask for more room."),
            ),
            FileError::TooLarge { max } => too_large(max),
            FileError::GivenUp => Self::new(Code::Conflict, "The upload did not go on for too long; begin it again."),
            FileError::Source(_) => Self::new(Code::MalformedBody, "The body broke off before its end."),
            FileError::BadLink => Self::new(
                Code::BadToken,
                "The link is not valid, or not any more; ask for another.",
            ),
            FileError::WrongVerb => Self::new(Code::Forbidden, "The link is for something else."),
            FileError::Bucket(_) | FileError::Store(_) | FileError::Folder(_) => {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "the store of files failed");
                Self::new(Code::Unavailable, "Files can't be reached right now; try again.")
                    .retry_after(Duration::from_secs(2))
            }
            FileError::Damaged(_) | FileError::Location | FileError::NotConfigured | FileError::NoLinkKeys => {
                tracing::error!(%error, "a file could not be served");
                Self::new(Code::Internal, "The request could not be served.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_end_the_header_it_stands_in() {
        assert_eq!(encoded("a\"; b\r\nß.txt"), "a%22%3B%20b%0D%0A%C3%9F.txt");
    }
}
