//! Requests that name their target in odd ways, as bytes: no client library would send them.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{App, PASSWORD};

/// What the server says to these bytes until it closes, or has said nothing for a while.
async fn answers(app: &App, bytes: &str) -> String {
    let mut stream = TcpStream::connect(app.server.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 8192];
    let quiet = std::time::Duration::from_millis(700);
    while let Ok(Ok(read)) = tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
        if read == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// The status of each answer.
fn statuses(said: &str) -> Vec<u16> {
    said.split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|answer| answer.get(..3)?.parse().ok())
        .collect()
}

/// An attacker with a token, and a victim with a row that holds the mark.
async fn meeting() -> (App, String, String) {
    let app = App::start().await;
    let mark = uuid::Uuid::now_v7().simple().to_string();
    let victim = &app.tenants[0];
    victim
        .client
        .post("/app/contacts", json!({ "name": mark }))
        .await
        .expect(201);
    let tokens = app.log_in(&app.tenants[1].email, PASSWORD, None).await.expect(200);
    let token = tokens["access_token"].as_str().unwrap().to_owned();
    (app, mark, token)
}

#[tokio::test]
async fn a_target_with_an_authority_opens_no_other_tenant() {
    let (app, mark, token) = meeting().await;
    let (theirs, own) = (&app.tenants[0].slug, &app.tenants[1].slug);
    let hosts = [
        (format!("http://{theirs}.example.com"), format!("{own}.example.com")),
        (format!("http://{own}.example.com"), format!("{theirs}.example.com")),
        (
            format!("http://{own}@{theirs}.example.com"),
            format!("{own}.example.com"),
        ),
        (String::new(), format!("{theirs}.example.com:443")),
        (String::new(), format!("{theirs}.example.com.")),
        (String::new(), theirs.to_uppercase() + ".EXAMPLE.COM"),
        (String::new(), format!("{own}.example.com@{theirs}.example.com")),
        (
            String::new(),
            format!("{theirs}.example.com\r\nHost: {own}.example.com"),
        ),
    ];
    for (authority, host) in hosts {
        let said = answers(
            &app,
            &format!(
                "GET {authority}/app/contacts HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            ),
        )
        .await;
        assert!(!said.contains(&mark), "{authority} {host}: {said}");
        let statuses = statuses(&said);
        assert_eq!(statuses.len(), 1, "{authority} {host}: {said}");
        // Refused for the contradiction or the nonsense, or answered with the own tenant's rows.
        assert!([200, 400, 403].contains(&statuses[0]), "{authority} {host}: {said}");
    }
    // The plain contradiction is refused, in every spelling of the name.
    for host in [
        format!("{theirs}.example.com"),
        format!("{theirs}.example.com:443"),
        theirs.to_uppercase() + ".EXAMPLE.COM",
    ] {
        let said = answers(
            &app,
            &format!("GET /app/contacts HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(statuses(&said), [403], "{host}: {said}");
        assert!(said.contains("tenant-mismatch"), "{host}: {said}");
    }
}

#[tokio::test]
async fn what_is_smuggled_into_a_request_has_no_credential_of_it() {
    let (app, mark, token) = meeting().await;
    let hidden = "GET /app/contacts HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = format!(
        "POST /app/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    let body = r#"{"name":"own"}"#;
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    for (framing, content) in [
        // Two lengths that differ.
        (
            format!(
                "Content-Length: {length}\r\nContent-Length: {}\r\n\r\n",
                length + hidden.len()
            ),
            body.to_owned(),
        ),
        // A length and chunks.
        (
            format!(
                "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                chunked.len() + hidden.len()
            ),
            chunked.clone(),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n".to_owned(),
            chunked.clone(),
        ),
        // Chunks under another name, which a proxy may read otherwise.
        (
            format!("Transfer-Encoding: xchunked\r\nContent-Length: {length}\r\n\r\n"),
            body.to_owned(),
        ),
        (
            format!("Transfer-Encoding: identity, chunked\r\nContent-Length: {length}\r\n\r\n"),
            chunked.clone(),
        ),
        (
            format!("Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n\r\n"),
            body.to_owned(),
        ),
        // A length that is none.
        ("Content-Length: +14\r\n\r\n".to_owned(), body.to_owned()),
        ("Content-Length: 0x0e\r\n\r\n".to_owned(), body.to_owned()),
    ] {
        let said = answers(&app, &format!("{head}{framing}{content}{hidden}")).await;
        let statuses = statuses(&said);
        assert!(!said.contains(&mark), "{framing}: {said}");
        assert!(!statuses.is_empty(), "{framing}: {said}");
        // What came behind it is refused, if it is read at all: it brings no credential.
        for status in &statuses[1..] {
            assert!([400, 401].contains(status), "{framing}: {said}");
        }
        assert!(statuses[0] < 500, "{framing}: {said}");
    }
}
