use tenantry_core::{MembershipStatus, Role};
use tenantry_ops::{LoginError, MemberError, MemberFilter};

use super::support::{Fixture, account, claims, operator, origin, session};

#[tokio::test]
async fn an_invitation_answers_the_same_whether_or_not_the_account_existed() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(acme, "known@example.com", Role::Owner).await;
    fixture.login("known@example.com", None).await.unwrap();
    let owner = fixture.member(globex, "owner@example.com", Role::Owner).await;
    let owner = account(globex, owner, Role::Owner);

    let mut answers = Vec::new();
    for email in ["known@example.com", "fresh@example.com"] {
        let new = super::support::new_member(email, Role::Member);
        let member = fixture.ops.add_member(&owner, globex, &new).await.unwrap();
        // A time in the id would tell.
        assert_eq!(member.account.as_uuid().get_version_num(), 4);
        answers.push((member.name, member.role, member.status));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].2, MembershipStatus::Invited);
    let listed = fixture
        .ops
        .list_members(&owner, globex, &MemberFilter::default(), 10)
        .await
        .unwrap();
    let listed: Vec<_> = listed
        .iter()
        .filter(|member| member.email != "owner@example.com")
        .map(|member| (member.name.as_str(), member.status))
        .collect();
    assert_eq!(listed, [("Given Name", MembershipStatus::Invited); 2]);
}

#[tokio::test]
async fn a_new_account_opens_its_tenant_at_once_and_is_shown_as_active_then() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let ann = fixture.member(acme, "ann@example.com", Role::Member).await;
    let logged_in = fixture.login("ann@example.com", None).await.unwrap();
    assert_eq!(claims(&logged_in).tenant, Some(acme));
    let members = fixture
        .ops
        .list_members(&operator(), acme, &MemberFilter::default(), 10)
        .await
        .unwrap();
    assert_eq!((members[0].account, members[0].status), (ann, MembershipStatus::Active));
}

#[tokio::test]
async fn an_existing_account_keeps_its_password_and_opens_the_tenant_only_after_accepting() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    let mut invitation = super::support::new_member("ann@example.com", Role::Admin);
    invitation.password = Some(tenantry_ops::Password::new("another password", &invitation.email).unwrap());
    fixture.ops.add_member(&operator(), globex, &invitation).await.unwrap();

    let refused = fixture.login_with("ann@example.com", "another password", None).await;
    assert!(matches!(refused, Err(LoginError::BadCredentials)), "{refused:?}");
    let logged_in = fixture.login("ann@example.com", None).await.unwrap();
    assert_eq!(claims(&logged_in).tenant, Some(acme));
    let refused = fixture.login("ann@example.com", Some("globex")).await;
    assert!(matches!(refused, Err(LoginError::NotAMember)), "{refused:?}");

    let place = fixture
        .ops
        .accept(session(&logged_in), "globex", &origin())
        .await
        .unwrap();

    assert_eq!(
        (place.tenant, place.role, place.status),
        (globex, Role::Admin, MembershipStatus::Active)
    );
    let there = fixture.login("ann@example.com", Some("globex")).await.unwrap();
    assert_eq!((claims(&there).sub, claims(&there).tenant), (ann, Some(globex)));
    let again = fixture.ops.accept(session(&logged_in), "globex", &origin()).await;
    assert!(
        matches!(again, Err(LoginError::NotInvited)),
        "an invitation is used once: {again:?}"
    );
}

#[tokio::test]
async fn nobody_accepts_what_was_not_offered_to_them_or_was_taken_back() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.member(acme, "bob@example.com", Role::Member).await;
    fixture.add(globex, "ann@example.com", Role::Member).await.unwrap();
    let bob = fixture.login("bob@example.com", None).await.unwrap();
    for tenant in ["globex", "nowhere", "acme"] {
        let refused = fixture.ops.accept(session(&bob), tenant, &origin()).await;
        assert!(matches!(refused, Err(LoginError::NotInvited)), "{tenant}: {refused:?}");
    }
    let as_ann = fixture.login("ann@example.com", None).await.unwrap();
    fixture.ops.remove_member(&operator(), globex, ann).await.unwrap();
    let refused = fixture.ops.accept(session(&as_ann), "globex", &origin()).await;
    assert!(matches!(refused, Err(LoginError::NotInvited)), "{refused:?}");
}

#[tokio::test]
async fn of_many_acceptances_at_once_one_counts() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.add(globex, "ann@example.com", Role::Member).await.unwrap();
    let ann = session(&fixture.login("ann@example.com", None).await.unwrap());
    let origin = origin();
    let tries = (0..8).map(|_| fixture.ops.accept(ann, "globex", &origin));
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn who_is_a_member_or_invited_is_not_added_again() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.add(globex, "ann@example.com", Role::Member).await.unwrap();
    for tenant in [acme, globex] {
        let refused = fixture.add(tenant, "ANN@example.com", Role::Viewer).await;
        assert!(matches!(refused, Err(MemberError::AlreadyMember)), "{refused:?}");
    }
    let tries = (0..8).map(|_| fixture.add(acme, "new@example.com", Role::Viewer));
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(fixture.count("select count(*) from account").await, 2);
}
