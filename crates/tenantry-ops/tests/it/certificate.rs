//! Certificates of erasures and of moves: one form and one key, and nothing else is taken for one.

use tenantry_core::{Isolation, OperationId, TenantId};
use tenantry_ops::{CertificateError, MoveRequest, OperationError, OperationKind, Ops};

use crate::fleet::{Fleet, config, operator};

/// Whether a reader takes it, and why not.
type Read = fn(&Ops, &str) -> Result<(), CertificateError>;

/// The readers, with what each takes and what it calls the other.
const READERS: [(Read, &str, &str); 2] = [
    (
        |ops, document| ops.verify_erasure(document).map(drop),
        "an erasure",
        "a move",
    ),
    (
        |ops, document| ops.verify_move(document).map(drop),
        "a move",
        "an erasure",
    ),
];

async fn moved(fleet: &Fleet, tenant: TenantId) -> OperationId {
    let request = MoveRequest {
        to: Isolation::Schema,
        server: None,
        force: false,
        wait: false,
        soak: None,
    };
    let begun = fleet
        .ops
        .move_tenant(&operator(), &tenant.into(), &request, None)
        .await
        .unwrap();
    fleet.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap().id
}

/// The same line with another letter in one of its three parts.
fn changed(jws: &str, part: usize) -> String {
    let mut parts: Vec<String> = jws.split('.').map(str::to_owned).collect();
    let other = if &parts[part][20..=20] == "A" { "B" } else { "A" };
    parts[part].replace_range(20..=20, other);
    parts.join(".")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_foreign_or_of_the_other_kind_is_refused() {
    let fleet = Fleet::start().await;
    let (ops, by) = (&fleet.ops, operator());
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let moved = moved(&fleet, tenant).await;
    let of_move = ops.find_move_certificate(&by, moved).await.unwrap();
    let provision = ops.list_operations(&by, Some(tenant), None, 10).await.unwrap();
    let provision = provision
        .iter()
        .find(|one| one.kind == OperationKind::Provision)
        .unwrap();
    let none = ops.find_move_certificate(&by, provision.id).await;
    assert!(matches!(none, Err(OperationError::NoCertificate)), "{none:?}");
    ops.delete_tenant(&by, &tenant.into()).await.unwrap();
    ops.purge_tenant(&by, &tenant.into()).await.unwrap();
    let of_erasure = ops.find_erasure(&by, &tenant.into()).await.unwrap();
    // The purge took the move's out of the operation; the audit log has it, and it counts as before.
    let gone = ops.find_move_certificate(&by, moved).await;
    assert!(matches!(gone, Err(OperationError::NoCertificate)), "{gone:?}");
    let told = ops.list_audit(&by, Some(tenant), None, 100).await.unwrap();
    let told = told
        .into_iter()
        .find(|entry| entry.action == "tenant.move_certified")
        .unwrap();
    assert_eq!(told.after, Some(of_move.document()));

    let another = Fleet::empty(config()).await;
    let kids = ops.jwks().await.unwrap();
    let kids: Vec<&str> = kids["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect();
    let documents = [
        (of_erasure.document(), of_erasure.jws),
        (of_move.document(), of_move.jws),
    ];
    for (number, (document, jws)) in documents.iter().enumerate() {
        let (read, subject, _) = READERS[number];
        for shown in [
            document.to_string(),
            format!("{document:#}\n"),
            jws.clone(),
            format!("{jws}\n"),
        ] {
            assert_eq!(read(ops, &shown), Ok(()), "{subject}: {shown}");
        }
        let mut beside = document.clone();
        beside["certificate"]["tenant"] = "another".into();
        assert_eq!(
            read(ops, &beside.to_string()),
            Err(CertificateError::Differs),
            "{subject}"
        );
        for part in [1, 2] {
            let refused = read(ops, &changed(jws, part));
            assert_eq!(refused, Err(CertificateError::Tampered), "{subject}, part {part}");
        }
        // Another installation says whose it is.
        let Err(CertificateError::Foreign { kid }) = read(&another.ops, jws) else {
            panic!("{subject}: another installation takes it");
        };
        assert!(
            kid.starts_with("certificate-") && kids.contains(&&*kid),
            "{kid}: {kids:?}"
        );
        let (other, wanted, found) = READERS[1 - number];
        for shown in [&document.to_string(), jws] {
            let refused = other(ops, shown);
            assert!(
                matches!(&refused, Err(CertificateError::OtherSubject { wanted: w, found: f, .. }) if (*w, *f) == (wanted, found)),
                "{refused:?}"
            );
        }
        for nothing in ["", "{}", "x.y.z", &jws[..jws.len() / 2], r#"{"jws": 1}"#] {
            assert_eq!(
                read(ops, nothing),
                Err(CertificateError::Malformed),
                "{subject}: {nothing}"
            );
        }
    }
}
