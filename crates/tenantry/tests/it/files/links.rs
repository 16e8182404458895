//! Signed links: one file of one tenant, one verb, for a while.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
    response::Response,
};
use tenantry::{
    Role, Tenantry,
    axum::file_links,
    files::{FileError, Files, FilesConfig, LinkKey, LinkKeys, LinkVerb},
};
use tenantry_core::Epoch;
use tenantry_engine::fence::{self, Closed};
use tower::ServiceExt as _;

use super::{Filed, config, put, read};

const SOON: Duration = Duration::from_secs(600);

async fn ask(tenantry: &Tenantry, method: &str, query: &str, body: &str) -> Response {
    let router = Router::new().nest("/files", file_links(tenantry.clone()));
    let request = Request::builder()
        .method(method)
        .uri(format!("/files?{query}"))
        .header("content-type", "text/html")
        .body(Body::from(body.to_owned()))
        .unwrap();
    router.oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_link_downloads_its_file_as_something_that_a_browser_saves() {
    let filed = Filed::new().await;
    let tenantry = &filed.world.tenantry;
    for n in 0..6 {
        let files = filed.files(n).await;
        let data = format!("<script>of {n}</script>").repeat(2000);
        files
            .upload("a/ü \"x\".html", "text/html", super::pieces(data.as_bytes(), 999))
            .await
            .unwrap();
        let link = files.link("a/ü \"x\".html", SOON).unwrap();
        let response = ask(tenantry, "GET", &format!("link={link}"), "").await;
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], "text/html");
        assert_eq!(headers["content-length"], data.len().to_string());
        assert_eq!(
            headers["content-disposition"],
            "attachment; filename*=UTF-8''%C3%BC%20%22x%22.html"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["content-security-policy"], "default-src 'none'; sandbox");
        assert_eq!(headers["cache-control"], "private, no-store");
        assert_eq!(text(response).await, data);
        let head = ask(tenantry, "HEAD", &format!("link={link}"), "").await;
        assert_eq!((head.status(), text(head).await), (StatusCode::OK, String::new()));
        // It says nothing of itself that could be asked for as another's.
        let missing = files.link("missing", SOON).unwrap();
        assert_eq!(
            ask(tenantry, "GET", &format!("link={missing}"), "").await.status(),
            StatusCode::NOT_FOUND
        );
    }
}

#[tokio::test]
async fn a_link_uploads_its_file_within_its_bound() {
    let filed = Filed::new().await;
    let tenantry = &filed.world.tenantry;
    let files = filed.files(2).await;
    let link = files.upload_link("in/box.txt", 20, SOON).unwrap();
    let response = ask(tenantry, "PUT", &format!("link={link}"), "hello").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert!(text(response).await.contains("\"path\":\"in/box.txt\""));
    assert_eq!(read(&files, "in/box.txt").await.unwrap(), b"hello");
    let large = ask(tenantry, "PUT", &format!("link={link}"), &"x".repeat(21)).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // Without a length told beforehand, too.
    let (tenant_files, path) = {
        let linked = tenantry.open_file_link(&link, LinkVerb::Upload).await.unwrap();
        assert_eq!(linked.bytes_max, 20);
        (linked.files.with_file_max(linked.bytes_max), linked.path)
    };
    let refused = put(&tenant_files, path.as_str(), &[b'x'; 21]).await.unwrap_err();
    assert!(matches!(refused, FileError::TooLarge { max: 20 }));
    assert_eq!(read(&files, "in/box.txt").await.unwrap(), b"hello");
    filed.settles(2, 1, 5).await;
    for n in [0, 1, 3, 4, 5] {
        assert!(filed.there(n).is_empty());
    }
}

#[tokio::test]
async fn a_link_is_for_one_verb_and_gives_no_more_rights() {
    let filed = Filed::new().await;
    let tenantry = &filed.world.tenantry;
    let files = filed.files(0).await;
    put(&files, "file", b"text").await.unwrap();
    let down = files.link("file", SOON).unwrap();
    let up = files.upload_link("file", 100, SOON).unwrap();
    for (method, link, code) in [("PUT", &down, "forbidden"), ("GET", &up, "forbidden")] {
        let response = ask(tenantry, method, &format!("link={link}"), "x").await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method}");
        assert!(text(response).await.contains(code));
    }
    assert_eq!(
        ask(tenantry, "DELETE", &format!("link={down}"), "").await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    // What it opens has the rights of the link, though its signer had all.
    let linked = tenantry.open_file_link(&down, LinkVerb::Download).await.unwrap();
    let FileError::Database(refused) = linked.files.delete("file").await.unwrap_err() else {
        panic!("a link to read deletes");
    };
    assert_eq!(refused.kind(), tenantry::ErrorKind::ReadOnlyRole);
    let viewer = filed.scope(0).await.at_most(Role::Viewer).files().unwrap();
    let down = viewer.link("file", SOON).unwrap();
    assert_eq!(
        ask(tenantry, "GET", &format!("link={down}"), "").await.status(),
        StatusCode::OK
    );
    assert_eq!(read(&files, "file").await.unwrap(), b"text");
}

#[tokio::test]
async fn a_link_that_was_changed_or_is_over_opens_nothing() {
    let filed = Filed::new().await;
    let tenantry = &filed.world.tenantry;
    let files = filed.files(0).await;
    put(&files, "file", b"text").await.unwrap();
    let link = files.link("file", SOON).unwrap();
    let other = filed.files(1).await.link("file", SOON).unwrap();
    // The head of one before the signature of the other.
    let mixed = format!("{}{}", &other[..link.len() - 43], &link[link.len() - 43..]);
    let over = files.link("file", Duration::ZERO).unwrap();
    let mut changed = link.clone().into_bytes();
    changed[40] = if changed[40] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for bad in [
        &mixed,
        &over,
        &changed,
        &link[..link.len() - 1].to_owned(),
        &format!("{link}A"),
        &String::new(),
    ] {
        let response = ask(tenantry, "GET", &format!("link={bad}"), "").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{bad}");
        assert!(text(response).await.contains("bad-token"));
    }
    // None, or two of which either may be meant.
    for query in [String::new(), format!("link={link}&link={other}"), format!("x={link}")] {
        assert_eq!(
            ask(tenantry, "GET", &query, "").await.status(),
            StatusCode::UNAUTHORIZED
        );
    }
    // One that asks for a year has a week.
    let long = files.link("file", Duration::from_secs(365 * 24 * 3600)).unwrap();
    assert_eq!(
        ask(tenantry, "GET", &format!("link={long}"), "").await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_key_that_is_taken_away_takes_its_links_with_it() {
    let mut filed = Filed::new().await;
    put(&filed.files(0).await, "file", b"text").await.unwrap();
    let key = |number: u8| LinkKey::from_bytes(number, &[number; 32]);
    let link = filed.files(0).await.link("file", SOON).unwrap();
    let mut config = config();
    config.link_keys = Some(LinkKeys::new(key(2), vec![key(1)]));
    filed.configure(config.clone());
    let status = async |filed: &Filed, link: &str| {
        ask(&filed.world.tenantry, "GET", &format!("link={link}"), "")
            .await
            .status()
    };
    assert_eq!(status(&filed, &link).await, StatusCode::OK);
    let newer = filed.files(0).await.link("file", SOON).unwrap();
    config.link_keys = Some(LinkKeys::new(key(2), Vec::new()));
    filed.configure(config);
    assert_eq!(status(&filed, &link).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&filed, &newer).await, StatusCode::OK);
    // Without keys there are no links.
    filed.configure(FilesConfig::default());
    assert!(matches!(
        filed.files(0).await.link("file", SOON),
        Err(FileError::NoLinkKeys)
    ));
    assert_eq!(status(&filed, &newer).await, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_link_of_a_suspended_tenant_opens_nothing() {
    let filed = Filed::new().await;
    let tenantry = &filed.world.tenantry;
    for (n, database) in [(0, 0), (2, 0), (4, 1)] {
        put(&filed.files(n).await, "file", b"text").await.unwrap();
        let link = filed.files(n).await.link("file", SOON).unwrap();
        let admin = &filed.world.databases[database].admin;
        fence::close(admin, filed.world.tenants[n], Epoch::FIRST, Closed::Suspended)
            .await
            .unwrap();
        let response = ask(tenantry, "GET", &format!("link={link}"), "").await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert!(text(response).await.contains("tenant-suspended"));
    }
}

#[tokio::test]
async fn a_handle_without_files_says_so() {
    let world = crate::world::World::new().await;
    let scope = world.scope(0).await;
    assert!(matches!(scope.files(), Err(FileError::NotConfigured)));
    let link = "x";
    assert_eq!(
        ask(&world.tenantry, "GET", &format!("link={link}"), "").await.status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let folder = tenantry_testing::test_folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(
        Files::in_folder(&file, FilesConfig::default()),
        Err(FileError::Folder(_) | FileError::Store(_))
    ));
}
