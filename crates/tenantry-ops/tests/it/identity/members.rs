use tenantry_core::{MembershipStatus, OperatorScope, Role, TenantId};
use tenantry_ops::{Authority, MemberError, MemberFilter};
use uuid::Uuid;

use super::support::{Fixture, account, api_key, new_member, operator, operator_with, origin, session};

#[tokio::test]
async fn the_last_owner_is_neither_removed_nor_demoted() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.login("ann@example.com", None).await.unwrap();
    fixture.member(acme, "bob@example.com", Role::Admin).await;
    for authority in [operator(), account(acme, ann, Role::Owner)] {
        let refused = fixture.ops.set_member_role(&authority, acme, ann, Role::Admin).await;
        assert!(matches!(refused, Err(MemberError::LastOwner)), "{refused:?}");
        let refused = fixture.ops.remove_member(&authority, acme, ann).await;
        assert!(matches!(refused, Err(MemberError::LastOwner)), "{refused:?}");
    }
    let zoe = fixture.member(acme, "zoe@example.com", Role::Owner).await;
    fixture.login("zoe@example.com", None).await.unwrap();
    fixture
        .ops
        .set_member_role(&operator(), acme, ann, Role::Admin)
        .await
        .unwrap();
    let refused = fixture.ops.remove_member(&operator(), acme, zoe).await;
    assert!(matches!(refused, Err(MemberError::LastOwner)), "{refused:?}");
}

/// Nor does the answer tell whether the invited e-mail had an account.
#[tokio::test]
async fn an_owner_who_was_only_invited_keeps_no_tenant() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(globex, "known@example.com", Role::Owner).await;
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.login("ann@example.com", None).await.unwrap();
    for email in ["known@example.com", "fresh@example.com"] {
        let invited = fixture.member(acme, email, Role::Owner).await;
        let refused = fixture.ops.remove_member(&operator(), acme, ann).await;
        assert!(matches!(refused, Err(MemberError::LastOwner)), "{email}: {refused:?}");
        let refused = fixture.ops.set_member_role(&operator(), acme, ann, Role::Member).await;
        assert!(matches!(refused, Err(MemberError::LastOwner)), "{email}: {refused:?}");
        fixture
            .ops
            .set_member_role(&operator(), acme, invited, Role::Admin)
            .await
            .expect("an invitation can be changed");
        fixture
            .ops
            .set_member_role(&operator(), acme, invited, Role::Owner)
            .await
            .unwrap();
        fixture
            .ops
            .remove_member(&operator(), acme, invited)
            .await
            .expect("an invitation can be taken back");
    }
    // Once the person has come, the other one may go: by log-in where the account was made with the invitation.
    fixture.member(acme, "fresh2@example.com", Role::Owner).await;
    fixture.login("fresh2@example.com", None).await.unwrap();
    fixture.ops.remove_member(&operator(), acme, ann).await.unwrap();
    // And by accepting where it was there before.
    let known = fixture.member(acme, "known@example.com", Role::Owner).await;
    let logged_in = fixture.login("known@example.com", None).await.unwrap();
    fixture
        .ops
        .accept(session(&logged_in), "acme", &origin())
        .await
        .unwrap();
    let fresh = fixture
        .count("select count(*) from membership where role = 'owner' and not awaited")
        .await;
    assert_eq!(fresh, 3, "two of acme, one of globex");
    let leaving = account(acme, known, Role::Owner);
    fixture.ops.remove_member(&leaving, acme, known).await.unwrap();
}

#[tokio::test]
async fn two_owners_who_leave_at_once_leave_one_owner() {
    let fixture = Fixture::new().await;
    for round in 0..6 {
        let tenant = fixture
            .tenant(&format!("round-{}", ["a", "b", "c", "d", "e", "f"][round]))
            .await;
        let mut owners = Vec::new();
        for name in ["ann", "bob"] {
            let email = format!("{name}{round}@example.com");
            owners.push(fixture.member(tenant, &email, Role::Owner).await);
            fixture.login(&email, None).await.unwrap();
        }
        let (ann, bob) = (owners[0], owners[1]);
        let (as_ann, as_bob) = (account(tenant, ann, Role::Owner), account(tenant, bob, Role::Owner));
        let ops = &fixture.ops;
        // Each leaves, each removes the other, each demotes itself.
        let outcomes: [Result<(), MemberError>; 2] = match round % 3 {
            0 => tokio::join!(
                ops.remove_member(&as_ann, tenant, ann),
                ops.remove_member(&as_bob, tenant, bob)
            )
            .into(),
            1 => tokio::join!(
                ops.remove_member(&as_ann, tenant, bob),
                ops.remove_member(&as_bob, tenant, ann)
            )
            .into(),
            _ => {
                let (a, b) = tokio::join!(
                    ops.set_member_role(&as_ann, tenant, ann, Role::Member),
                    ops.set_member_role(&as_bob, tenant, bob, Role::Member)
                );
                [a.map(drop), b.map(drop)]
            }
        };
        let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(
            matches!(refused[..], [MemberError::LastOwner]),
            "round {round}: {outcomes:?}"
        );
    }
    let owners = "select count(*) from membership where role = 'owner'";
    assert_eq!(fixture.count(owners).await, 6);
}

#[tokio::test]
async fn nobody_hands_out_or_touches_more_than_their_own_role() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let owner = fixture.member(acme, "owner@example.com", Role::Owner).await;
    let admin = fixture.member(acme, "admin@example.com", Role::Admin).await;
    let member = fixture.member(acme, "member@example.com", Role::Member).await;
    let as_admin = account(acme, admin, Role::Admin);
    let as_member = account(acme, member, Role::Member);

    let ops = &fixture.ops;
    let forbidden = |outcome: Result<(), MemberError>| {
        assert!(matches!(outcome, Err(MemberError::Forbidden(_))), "{outcome:?}");
    };
    let adds = async |authority: &Authority, role| {
        ops.add_member(authority, acme, &new_member("new@example.com", role))
            .await
            .map(drop)
    };
    forbidden(adds(&as_admin, Role::Owner).await);
    forbidden(
        ops.set_member_role(&as_admin, acme, member, Role::Owner)
            .await
            .map(drop),
    );
    forbidden(ops.set_member_role(&as_admin, acme, admin, Role::Owner).await.map(drop));
    forbidden(
        ops.set_member_role(&as_admin, acme, owner, Role::Viewer)
            .await
            .map(drop),
    );
    forbidden(ops.remove_member(&as_admin, acme, owner).await);
    forbidden(adds(&as_member, Role::Viewer).await);
    forbidden(ops.remove_member(&as_member, acme, admin).await);
    forbidden(
        ops.list_members(&as_member, acme, &MemberFilter::default(), 10)
            .await
            .map(drop),
    );
    // A role that was taken away a moment ago, still in the context.
    let forged = account(acme, member, Role::Owner);
    forbidden(ops.set_member_role(&forged, acme, admin, Role::Viewer).await.map(drop));
    forbidden(adds(&forged, Role::Viewer).await);

    ops.set_member_role(&as_admin, acme, member, Role::Viewer)
        .await
        .unwrap();
    ops.add_member(&as_admin, acme, &new_member("new@example.com", Role::Admin))
        .await
        .unwrap();
    ops.remove_member(&as_member, acme, member)
        .await
        .expect("everybody may leave");
}

#[tokio::test]
async fn another_tenants_members_learn_and_change_nothing() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    let bob = fixture.member(globex, "bob@example.com", Role::Owner).await;
    let ops = &fixture.ops;
    for foreign in [account(acme, ann, Role::Owner), api_key(acme, Role::Owner)] {
        for tenant in [globex, TenantId::from_uuid(Uuid::now_v7())] {
            let outcomes = [
                ops.list_members(&foreign, tenant, &MemberFilter::default(), 10)
                    .await
                    .map(drop),
                ops.add_member(&foreign, tenant, &new_member("new@example.com", Role::Viewer))
                    .await
                    .map(drop),
                ops.set_member_role(&foreign, tenant, bob, Role::Viewer).await.map(drop),
                ops.remove_member(&foreign, tenant, bob).await,
                ops.remove_member(&foreign, tenant, ann).await,
            ];
            for outcome in outcomes {
                assert!(matches!(outcome, Err(MemberError::NotFound)), "{outcome:?}");
            }
        }
        // In the own tenant, another tenant's account is not there.
        let outcome = ops.set_member_role(&foreign, acme, bob, Role::Viewer).await;
        assert!(matches!(outcome, Err(MemberError::NotFound)), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_operator_needs_the_scope() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let reader = operator_with([OperatorScope::Read, OperatorScope::Tenants]);
    let writer = operator_with([OperatorScope::Members]);
    let ops = &fixture.ops;
    let refused = ops
        .add_member(&reader, acme, &new_member("ann@example.com", Role::Owner))
        .await;
    assert!(matches!(refused, Err(MemberError::Forbidden(_))), "{refused:?}");
    ops.add_member(&writer, acme, &new_member("ann@example.com", Role::Owner))
        .await
        .unwrap();
    for authority in [reader, writer] {
        assert_eq!(
            ops.list_members(&authority, acme, &MemberFilter::default(), 10)
                .await
                .unwrap()
                .len(),
            1
        );
    }
    let nothing = operator_with([OperatorScope::Servers]);
    let refused = ops.list_members(&nothing, acme, &MemberFilter::default(), 10).await;
    assert!(matches!(refused, Err(MemberError::Forbidden(_))), "{refused:?}");
}

#[tokio::test]
async fn a_deleted_tenant_takes_no_members() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.set_state(acme, "deleted").await;
    let refused = fixture.add(acme, "ann@example.com", Role::Owner).await;
    assert!(matches!(refused, Err(MemberError::NotFound)), "{refused:?}");
    assert_eq!(
        fixture.count("select count(*) from account").await,
        0,
        "nothing is left behind"
    );
}

#[tokio::test]
async fn a_list_is_filtered_and_read_page_by_page() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    for name in ["ann", "bob", "cid", "dan"] {
        let role = if name == "ann" { Role::Owner } else { Role::Viewer };
        fixture.member(acme, &format!("{name}@example.com"), role).await;
    }
    fixture.login("ann@example.com", None).await.unwrap();
    let list = async |filter: MemberFilter<'_>, limit| {
        let members = fixture
            .ops
            .list_members(&operator(), acme, &filter, limit)
            .await
            .unwrap();
        let names: Vec<_> = members.iter().map(|member| member.email[..3].to_owned()).collect();
        (names, members.last().map(|last| (last.created_at, last.account)))
    };
    let (first, last) = list(MemberFilter::default(), 3).await;
    assert_eq!(first, ["dan", "cid", "bob"]);
    let rest = MemberFilter {
        after: last,
        ..MemberFilter::default()
    };
    assert_eq!(list(rest, 3).await.0, ["ann"]);
    let q = MemberFilter {
        q: Some("BOB"),
        ..MemberFilter::default()
    };
    assert_eq!(list(q, 9).await.0, ["bob"]);
    let by_role = MemberFilter {
        role: Some(Role::Owner),
        ..MemberFilter::default()
    };
    assert_eq!(list(by_role, 9).await.0, ["ann"]);
    let by_status = MemberFilter {
        status: Some(MembershipStatus::Active),
        ..MemberFilter::default()
    };
    assert_eq!(list(by_status, 9).await.0, ["ann"]);
    let by_email = MemberFilter {
        email: Some("cid@example.com"),
        ..MemberFilter::default()
    };
    assert_eq!(list(by_email, 9).await.0, ["cid"]);
    let wild = MemberFilter {
        q: Some("%"),
        ..MemberFilter::default()
    };
    assert!(list(wild, 9).await.0.is_empty(), "a pattern is a text");
}

#[tokio::test]
async fn me_shows_the_account_and_every_membership() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.add(globex, "ann@example.com", Role::Viewer).await.unwrap();
    let logged_in = fixture.login("ann@example.com", None).await.unwrap();
    let me = fixture.ops.me(session(&logged_in).account, Some(acme)).await.unwrap();
    assert_eq!(
        (me.account.id, me.account.email.as_str(), me.account.name.as_str()),
        (ann, "ann@example.com", "Given Name")
    );
    assert_eq!(me.tenant.map(|place| place.slug).as_deref(), Some("acme"));
    let places: Vec<_> = me
        .memberships
        .iter()
        .map(|place| (place.slug.as_str(), place.status))
        .collect();
    assert_eq!(
        places,
        [
            ("acme", MembershipStatus::Active),
            ("globex", MembershipStatus::Invited)
        ]
    );
}

#[tokio::test]
async fn a_new_tenants_owner_is_active_if_the_account_is_new_and_invited_if_not() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let owner = async || {
        fixture
            .ops
            .prepare_owner("ann@example.com".parse().unwrap(), None, None)
            .await
            .unwrap()
    };
    let client = fixture.catalog.client().await.unwrap();
    let mut statuses = Vec::new();
    for tenant in [acme, globex] {
        let prepared = owner().await;
        for _ in 0..2 {
            tenantry_ops::add_first_owner(&client, tenant, &prepared).await.unwrap();
        }
        let members = fixture
            .ops
            .list_members(&operator(), tenant, &MemberFilter::default(), 10)
            .await
            .unwrap();
        assert_eq!(members.len(), 1, "twice changes nothing");
        statuses.push(members[0].status);
    }
    assert_eq!(statuses, [MembershipStatus::Active, MembershipStatus::Invited]);
}
