//! Clients that take their time: a connection is not held by asking for nothing.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::App;

const TIMEOUT: Duration = Duration::from_millis(500);
/// Twice as long as anything here may take.
const LONG: Duration = Duration::from_secs(20);
const HALF_A_HEAD: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-slow: ";

async fn app() -> App {
    App::start_with(|options| {
        options.isolations = &["shared"];
        options.head_timeout = TIMEOUT;
    })
    .await
}

async fn connect(app: &App) -> TcpStream {
    TcpStream::connect(app.server.address()).await.unwrap()
}

/// How long it takes until the server closes the connection, and what it says before.
async fn until_closed(stream: &mut TcpStream) -> (Duration, String) {
    let begun = Instant::now();
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut said))
        .await
        .expect("the connection is held");
    (begun.elapsed(), String::from_utf8(said).unwrap())
}

async fn status(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 64 * 1024];
    let read = tokio::time::timeout(LONG, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&answer[..read])
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn half_a_head_does_not_hold_a_connection() {
    let app = app().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = connect(&app).await;
        stream.write_all(HALF_A_HEAD).await.unwrap();
        slow.push(stream);
    }
    // Others are served meanwhile.
    app.tenants[0].client.get("/app/contacts").await.expect(200);
    for mut stream in slow {
        let (_, said) = until_closed(&mut stream).await;
        assert!(!said.starts_with("HTTP/1.1 200"), "{said}");
    }
    app.tenants[0].client.get("/app/contacts").await.expect(200);
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let app = app().await;
    let mut stream = connect(&app).await;
    let begun = Instant::now();
    stream.write_all(HALF_A_HEAD).await.unwrap();
    // Each byte comes well within the time; all of them don't.
    while stream.write_all(b"x").await.is_ok() {
        assert!(begun.elapsed() < LONG, "the connection is held");
        tokio::time::sleep(TIMEOUT / 10).await;
    }
    assert!(begun.elapsed() >= TIMEOUT);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let app = app().await;
    let (silent, said) = until_closed(&mut connect(&app).await).await;
    assert!(
        silent >= TIMEOUT - Duration::from_millis(50) && said.is_empty(),
        "{silent:?} {said}"
    );

    let mut stream = connect(&app).await;
    // What is used is kept, also beyond the time.
    for _ in 0..4 {
        stream
            .write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(status(&mut stream).await, "HTTP/1.1 200 OK");
        tokio::time::sleep(TIMEOUT / 2).await;
    }
    // The last pause was half of it.
    let (idle, said) = until_closed(&mut stream).await;
    assert!(idle >= TIMEOUT / 4 && said.is_empty(), "{idle:?} {said}");
}

#[tokio::test]
async fn a_body_may_take_longer_than_a_head() {
    let app = app().await;
    let mut stream = connect(&app).await;
    let head = "POST /v1/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for byte in [b"{", b"}"] {
        tokio::time::sleep(TIMEOUT).await;
        stream.write_all(byte).await.unwrap();
    }
    assert_eq!(status(&mut stream).await, "HTTP/1.1 422 Unprocessable Entity");
}
