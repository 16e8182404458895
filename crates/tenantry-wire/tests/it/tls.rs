//! Encryption: the server is verified, or not talked to.

use std::{sync::Arc, time::Duration};

use rcgen::{CertificateParams, SanType, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tenantry_testing::{Authority, TlsCluster, tls_cluster};
use tenantry_wire::{Connection, Endpoint, Error, Options, Tls, replication::Replication};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// The eight bytes that ask for encryption.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

fn url(server: &TlsCluster) -> String {
    server.own().cluster().admin_url("postgres")
}

fn endpoint(server: &TlsCluster, options: &str) -> Endpoint {
    Endpoint::from_url(&format!("{}?{options}", url(server))).unwrap()
}

fn verified(server: &TlsCluster) -> Endpoint {
    let options = format!("sslmode=verify-full&sslrootcert={}", server.root().display());
    endpoint(server, &options)
}

fn trusting(authority: &Authority) -> Tls {
    Tls::Verified {
        roots_pem: authority.root_pem().to_owned(),
    }
}

/// Whatever a server does, an answer comes soon.
async fn connect(endpoint: Endpoint) -> Result<Connection, Error> {
    let options = Options::default();
    let connecting = Connection::connect(Arc::new(endpoint), &options);
    tokio::time::timeout(Duration::from_secs(20), connecting)
        .await
        .expect("neither connected nor refused")
}

async fn refusal(endpoint: Endpoint) -> String {
    match connect(endpoint).await {
        Err(Error::Tls(reason)) => reason,
        other => panic!("refused for another reason: {other:?}"),
    }
}

async fn is_encrypted(connection: &mut Connection) -> bool {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    connection.query(sql, &[]).await.unwrap().rows[0].get(0).unwrap()
}

#[tokio::test]
async fn a_server_is_verified_against_the_given_root_and_its_name() {
    let server = tls_cluster().await;
    let mut connection = connect(verified(&server)).await.unwrap();
    assert!(is_encrypted(&mut connection).await);
    // More than one record of TLS, both ways.
    let long = "x".repeat(300_000);
    let echo = connection.query("select $1::text", &[&long]).await.unwrap();
    assert_eq!(echo.rows[0].get::<&str>(0).unwrap(), long);

    // A cancel request goes the same way, and reaches the server.
    let token = connection.cancel_token();
    let (slept, ()) = tokio::join!(connection.query("select pg_sleep(60)", &[]), async {
        let admin = server.own().connect("postgres").await;
        let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid()";
        while admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        token.cancel().await.unwrap();
    });
    assert_eq!(slept.unwrap_err().code(), Some("57014"));

    // Another authority, the same name.
    let mut endpoint = verified(&server);
    endpoint.tls = trusting(&Authority::new());
    let reason = refusal(endpoint).await;
    assert!(
        reason.contains("UnknownIssuer") || reason.contains("BadSignature"),
        "{reason}"
    );

    // Another name, the same server.
    let elsewhere = url(&server).replace("127.0.0.1", "localhost");
    let url = format!(
        "{elsewhere}?sslmode=verify-full&sslrootcert={}",
        server.root().display()
    );
    let reason = refusal(Endpoint::from_url(&url).unwrap()).await;
    assert!(reason.contains("not valid for name"), "{reason}");

    // Both authorities in one file.
    let mut endpoint = verified(&server);
    endpoint.tls = Tls::Verified {
        roots_pem: Authority::new().root_pem().to_owned() + server.authority().root_pem(),
    };
    assert!(is_encrypted(&mut connect(endpoint).await.unwrap()).await);
}

#[tokio::test]
async fn sslmode_means_what_the_address_says() {
    let server = tls_cluster().await;
    assert!(is_encrypted(&mut connect(verified(&server)).await.unwrap()).await);
    for plain in ["sslmode=disable", "application_name=x"] {
        assert!(
            !is_encrypted(&mut connect(endpoint(&server, plain)).await.unwrap()).await,
            "{plain}"
        );
    }
    let root = server.root().display();
    for unverified in [
        "sslmode=allow".to_owned(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=require&sslrootcert={root}"),
        format!("sslmode=verify-ca&sslrootcert={root}"),
        "sslmode=verify-full".to_owned(),
        "sslmode=verify-full&sslrootcert=/nowhere".to_owned(),
    ] {
        let refused = Endpoint::from_url(&format!("{}?{unverified}", url(&server)));
        assert!(matches!(refused, Err(Error::Address(_))), "{unverified}");
    }
    // A file without a certificate verifies nobody.
    let mut nobody = verified(&server);
    nobody.tls = Tls::Verified {
        roots_pem: "no certificate".to_owned(),
    };
    assert!(refusal(nobody).await.contains("no certificate"));

    // A server that takes encrypted connections only.
    let admin = server.own().connect("postgres").await;
    let hba: String = admin.query_one("show hba_file", &[]).await.unwrap().get(0);
    std::fs::write(hba, "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    let mut refused = None;
    for _ in 0..200 {
        match connect(endpoint(&server, "sslmode=disable")).await {
            Err(error) => {
                refused = error.code().map(str::to_owned);
                break;
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    assert_eq!(refused.as_deref(), Some("28000"));
    assert!(is_encrypted(&mut connect(verified(&server)).await.unwrap()).await);
}

/// A server of our own making, for one connection; gives what the client sent in the clear.
async fn answering<F>(answer: impl FnOnce(TcpStream) -> F + Send + 'static) -> (Endpoint, JoinHandle<Vec<u8>>)
where
    F: Future<Output = Vec<u8>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, SSL_REQUEST);
        answer(stream).await
    });
    let mut endpoint = Endpoint::from_url(&format!("postgres://someone:hush@127.0.0.1:{port}/app")).unwrap();
    endpoint.tls = trusting(&Authority::new());
    (endpoint, task)
}

/// Everything that the client still sends.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut sent = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut sent)).await;
    sent
}

fn shows_the_start(sent: &[u8]) -> bool {
    let shows = |text: &[u8]| sent.windows(text.len()).any(|window| window == text);
    shows(b"someone") || shows(b"hush") || shows(b"user\0")
}

#[tokio::test]
async fn a_server_that_does_not_offer_encryption_is_told_nothing() {
    // `E` begins the error of a server that knows no such request.
    for answer in [b"N".as_slice(), b"E\0\0\0\x08why\0", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"] {
        let (endpoint, task) = answering(move |mut stream| async move {
            stream.write_all(answer).await.unwrap();
            rest(stream).await
        })
        .await;
        assert!(refusal(endpoint).await.contains("does not offer encryption"));
        assert!(task.await.unwrap().is_empty());
    }
}

/// CVE-2021-23222: what stands in the clear behind the `S` is not the server's, though a client with a buffer takes it so.
#[tokio::test]
async fn bytes_before_the_handshake_are_not_taken_for_the_servers() {
    for injected in [
        // AuthenticationOk and ReadyForQuery: would be the whole of the start.
        b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".as_slice(),
        b"SE\0\0\0\x0cC42601\0\0",
        b"S\0",
        b"SS",
    ] {
        let (endpoint, task) = answering(move |mut stream| async move {
            stream.write_all(injected).await.unwrap();
            rest(stream).await
        })
        .await;
        // Where too little came to be a record of TLS, the client waits for more until the server has gone.
        match tokio::time::timeout(Duration::from_secs(1), connect(endpoint)).await {
            Ok(result) => assert!(matches!(result, Err(Error::Tls(_))), "{result:?}"),
            Err(_) => assert!(injected.len() < 6),
        }
        let sent = task.await.unwrap();
        assert!(!shows_the_start(&sent), "{sent:?}");
    }
}

/// The same in front of a server that is genuine and verified: the injected answer breaks the handshake.
#[tokio::test]
async fn bytes_before_a_genuine_handshake_break_it() {
    let server = tls_cluster().await;
    let port = server.own().cluster().port();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).await.unwrap();
        server.write_all(&request).await.unwrap();
        let answer = server.read_u8().await.unwrap();
        assert_eq!(answer, b'S');
        client.write_all(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let mut endpoint = verified(&server);
    endpoint.address = tenantry_wire::Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: between,
    };
    refusal(endpoint.clone()).await;
    task.await.unwrap();
    // Without the injection the same way leads in.
    endpoint.address = verified(&server).address;
    connect(endpoint).await.unwrap();
}

#[tokio::test]
async fn certificates_that_are_not_valid_now_or_not_here_are_refused() {
    type Change = fn(&mut CertificateParams);
    let cases: [(Change, &str); 3] = [
        (|params| params.not_after = date_time_ymd(2020, 1, 1), "Expired"),
        (|params| params.not_before = date_time_ymd(4000, 1, 1), "not valid"),
        (
            |params| params.subject_alt_names = vec![SanType::DnsName("127.0.0.1.example".try_into().unwrap())],
            "not valid for name",
        ),
    ];
    for (change, reason) in cases {
        let authority = Authority::new();
        let certified = authority.certify(change);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certified.der)],
                PrivateKeyDer::try_from(certified.key_der).unwrap(),
            )
            .unwrap();
        let (mut endpoint, task) = answering(move |mut stream| async move {
            stream.write_all(b"S").await.unwrap();
            let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
            let mut sent = Vec::new();
            if let Ok(mut stream) = accepted {
                let _ = stream.read_to_end(&mut sent).await;
            }
            sent
        })
        .await;
        endpoint.tls = trusting(&authority);
        let given = refusal(endpoint).await;
        assert!(given.to_lowercase().contains(&reason.to_lowercase()), "{given}");
        assert!(task.await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_replication_connection_is_encrypted_and_verified_too() {
    let server = tls_cluster().await;
    let mut replication = Replication::connect(Arc::new(verified(&server)), "test").await.unwrap();
    assert_eq!(replication.identify().await.unwrap().database, "postgres");
    let client = server.own().connect("postgres").await;
    let sql = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where backend_type = 'walsender'";
    assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));

    let mut stranger = verified(&server);
    stranger.tls = trusting(&Authority::new());
    let refused = Replication::connect(Arc::new(stranger), "test").await;
    assert!(matches!(refused, Err(Error::Tls(_))), "{refused:?}");
}
