//! The seal and the fence on a hot standby that streams from its primary.

use tenantry_core::{
    Epoch,
    seal::{Place, Signed},
};
use tenantry_engine::fence::{self, Closed};
use tenantry_testing::{OwnCluster, OwnClusterOptions, own_cluster};
use tokio_postgres::Config;

use crate::seal_support::{Fixture, Session, connect, enter, expect, now_us, refusal};

/// A tenant database in each tier, on a primary and its standby.
struct Pair {
    sealed: Fixture,
    signed: Fixture,
    standby: OwnCluster,
    primary: OwnCluster,
}

impl Pair {
    async fn new() -> Self {
        let mut primary = own_cluster(OwnClusterOptions::default()).await;
        let standby = primary.standby(None);
        let pair = Self {
            sealed: Fixture::on(primary.cluster()).await,
            signed: Fixture::signed_on(primary.cluster()).await,
            standby,
            primary,
        };
        pair.standby.until_it_shows(&pair.primary).await;
        pair
    }

    fn fixtures(&self) -> [&Fixture; 2] {
        [&self.sealed, &self.signed]
    }

    /// How the application role connects to the standby.
    fn config(&self, fixture: &Fixture) -> Config {
        let mut there = Config::new();
        let here = fixture.app_config();
        there
            .host(self.standby.cluster().host())
            .port(self.standby.cluster().port())
            .user(here.get_user().unwrap())
            .password(here.get_password().unwrap())
            .dbname(here.get_dbname().unwrap());
        there
    }

    async fn place(&self) -> Place {
        let client = self.standby.connect("postgres").await;
        let sql = "select timestamptz_send(pg_postmaster_start_time())";
        let started: Vec<u8> = client.query_one(sql, &[]).await.unwrap().get(0);
        Place::standby(started.try_into().unwrap())
    }

    /// A new connection of the application role to the standby.
    async fn session(&self, fixture: &Fixture) -> Session {
        let client = connect(&self.config(fixture)).await;
        let session = Session::of(client, fixture.made.key.clone(), fixture.made.tier).await;
        session.at(self.place().await)
    }
}

async fn rejected(session: &mut Session, signed: &Signed) {
    let (code, message) = refusal(&session.try_enter(signed).await.unwrap_err());
    assert_eq!((code.as_str(), message.as_str()), ("28000", "tenantry: token rejected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_hold_on_a_standby_and_forged_ones_do_not() {
    let pair = Pair::new().await;
    for fixture in pair.fixtures() {
        let mut session = pair.session(fixture).await;
        assert!(session.notes().await.unwrap().is_empty(), "no context, no rows");
        for tenant in [fixture.a, fixture.b, fixture.a] {
            session.enter(tenant).await;
            assert_eq!(session.notes_as(tenant).await.unwrap(), [format!("of {tenant}")]);
        }
        // A write is refused by the standby, and what SQL may say about settings changes nothing.
        session.client.batch_execute("begin").await.unwrap();
        session.open(fixture.a).await.unwrap();
        let written = session
            .client
            .execute("insert into app.note (id) values (9)", &[])
            .await;
        assert_eq!(refusal(&written.unwrap_err()).0, "25006");
        session.client.batch_execute("rollback").await.unwrap();

        // A token for the primary, also for a backend of the same number there, and for any other start of a server.
        let mut other = pair.session(fixture).await;
        for place in [Place::PRIMARY, Place::standby([7; 8])] {
            let forged = other.key.sign_at(&other.token(fixture.b), place);
            rejected(&mut other, &forged).await;
            assert!(other.notes().await.unwrap().is_empty());
        }
        // And a standby's is worth nothing at the primary.
        let mut at_primary = fixture.session().await;
        let for_standby = at_primary.key.sign_at(&at_primary.token(fixture.b), pair.place().await);
        rejected(&mut at_primary, &for_standby).await;
        // Used once, for one backend, as anywhere.
        let used = session.enter(fixture.a).await;
        rejected(&mut session, &used).await;
        let of_other = other.key.sign_at(&other.token(fixture.b), pair.place().await);
        rejected(&mut session, &of_other).await;
        // Expectations that were never sealed open nothing.
        session.client.batch_execute("begin").await.unwrap();
        let seal = format!("{}{}", fixture.b.as_uuid().simple(), &session.seal()[32..]);
        expect(&session.client, &seal).await.unwrap();
        assert_eq!(refusal(&session.notes().await.unwrap_err()).0, "22P02");
        session.client.batch_execute("rollback").await.unwrap();
        let carrier = format!("set backtrace_functions = '{}'", tenantry_engine::seal::carried(&seal));
        assert_eq!(
            refusal(&session.client.batch_execute(&carrier).await.unwrap_err()).0,
            "42501"
        );
        assert_eq!(
            session.notes_as(fixture.a).await.unwrap(),
            [format!("of {}", fixture.a)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_closes_on_the_standby_when_it_is_replayed_and_a_promoted_one_takes_no_old_token() {
    let pair = Pair::new().await;
    for fixture in pair.fixtures() {
        let mut bound = pair.session(fixture).await;
        bound.enter(fixture.a).await;
        assert_eq!(bound.notes_as(fixture.a).await.unwrap().len(), 1);
        fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Suspended)
            .await
            .unwrap();
        pair.standby.until_it_shows(&pair.primary).await;
        // Bound before: by the compiled form in the sealed tier, by the token that each transaction brings in the signed.
        let (code, _) = refusal(&bound.notes_as(fixture.a).await.unwrap_err());
        assert!(code == "22P02" || code == "TN002", "{code}");
        let mut new = pair.session(fixture).await;
        let signed = new.key.sign_at(&new.token(fixture.a), pair.place().await);
        assert_eq!(refusal(&enter(&new.client, &signed).await.unwrap_err()).0, "TN002");
        // Its neighbour goes on.
        new.enter(fixture.b).await;
        assert_eq!(new.notes_as(fixture.b).await.unwrap().len(), 1);
    }
    // How far it is, it tells to who holds the key only.
    let fixture = &pair.sealed;
    let session = pair.session(fixture).await;
    let sql = "select standby, reached from tenantry.log_position($1, $2)";
    let worker = |place| fixture.made.key.sign_worker_at(session.pid, now_us(), place);
    let ask = async |signed: Signed| {
        let parameters = (signed.message.to_vec(), signed.mac.to_vec());
        session.client.query_one(sql, &[&parameters.0, &parameters.1]).await
    };
    let told = ask(worker(pair.place().await)).await.unwrap();
    assert!(told.get::<_, bool>(0) && told.get::<_, i64>(1) > 0);
    assert_eq!(refusal(&ask(worker(Place::PRIMARY)).await.unwrap_err()).0, "28000");

    let place = pair.place().await;
    let mut old = pair.session(fixture).await;
    old.enter(fixture.b).await;
    let superuser = pair.standby.connect("postgres").await;
    superuser.execute("select pg_promote(true, 30)", &[]).await.unwrap();
    let stale = old.key.sign_at(&old.token(fixture.b), place);
    rejected(&mut old, &stale).await;
}
