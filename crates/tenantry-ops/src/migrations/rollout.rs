//! In which order a roll-out reaches the fleet, and when it stops. Pure: who goes when follows from ids alone, so that a
//! roll-out that was killed goes on in the same order.

use std::{fmt, str::FromStr, time::Duration};

use tenantry_catalog::fleet_state::SiteState;
use tenantry_core::seal::sha256;

/// How a roll-out reaches the fleet.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Rollout {
    /// Only these tenants, by slug; all where it is empty.
    pub only: Vec<String>,
    /// Only schemas whose last attempt failed.
    pub only_failed: bool,
    /// Tenants that go first, by slug: a wave of their own.
    pub canaries: Vec<String>,
    /// Tenants that go after the canaries, a wave for each label in this order.
    pub labels: Vec<Label>,
    /// Up to how many percent of the schemas of single tenants each wave reaches, growing; what is left goes last.
    pub waves: Vec<u8>,
    /// How long to wait between waves.
    pub pause: Duration,
    /// How many failures are too many.
    pub budget: FailureBudget,
    /// Connections to one server.
    pub per_server: usize,
    /// Connections in all.
    pub connections_max: usize,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            only_failed: false,
            canaries: Vec::new(),
            labels: Vec::new(),
            waves: Vec::new(),
            pause: Duration::ZERO,
            budget: FailureBudget::Any,
            // Two keep a server's disk and one of its cores busy and leave the rest to the application.
            per_server: 2,
            connections_max: 16,
        }
    }
}

/// What a tenant is marked with: `plan=free`, `server=first`, or any of the `labels` in its settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// `plan`, `server`, or a name of one's own.
    pub name: String,
    /// The value that it has to have.
    pub value: String,
}

impl Label {
    fn is_of(&self, state: &SiteState) -> bool {
        match self.name.as_str() {
            "plan" => state.plan.as_deref() == Some(&self.value),
            "server" => state.site.server == self.value,
            name => state
                .labels
                .as_ref()
                .and_then(|labels| labels.get(name))
                .is_some_and(|value| *value == *self.value),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// The text is no label.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a label is written name=value, like plan=free")]
pub struct NoLabel;

impl FromStr for Label {
    type Err = NoLabel;

    fn from_str(text: &str) -> Result<Self, NoLabel> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(NoLabel),
        }
    }
}

/// How many failures a roll-out bears before it stops.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum FailureBudget {
    /// Any number: the others go on.
    Any,
    /// So many.
    Count(usize),
    /// So many percent of the schemas that are to be migrated.
    Percent(f64),
}

/// The text is no number of failures.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a number like 3, or a share like 1%")]
pub struct NoBudget;

impl FromStr for FailureBudget {
    type Err = NoBudget;

    fn from_str(text: &str) -> Result<Self, NoBudget> {
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Count).map_err(|_| NoBudget);
        };
        let percent: f64 = percent.trim().parse().map_err(|_| NoBudget)?;
        if (0.0..=100.0).contains(&percent) {
            Ok(Self::Percent(percent))
        } else {
            Err(NoBudget)
        }
    }
}

impl FailureBudget {
    /// Whether so many failures of so many schemas are too many.
    pub(super) fn is_spent(self, failures: usize, of: usize) -> bool {
        match self {
            Self::Any => false,
            Self::Count(count) => failures > count,
            Self::Percent(percent) => failures as f64 > of as f64 * percent / 100.0,
        }
    }
}

/// Why a roll-out can't be as it is wanted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// No tenant of this name has a schema of its own.
    #[error(
        "no tenant `{0}` has a schema or a database of its own: tenants in shared tables are migrated together, as the last wave"
    )]
    NoSuchSite(String),
    /// The same of one that is to go first.
    #[error(
        "no tenant `{0}` has a schema or a database of its own, so it can't go first: tenants in shared tables are migrated together, as the last wave"
    )]
    NoSuchCanary(String),
    /// Waves have to grow.
    #[error("the waves {0:?} don't grow from 1 to 100 percent")]
    Waves(Vec<u8>),
    /// Nothing could be done by no connection.
    #[error("a roll-out needs at least one connection")]
    NoConnection,
}

/// Schemas that are migrated side by side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wave {
    /// For people: `canaries`, `5 %`, `shared tables`.
    pub(super) name: String,
    pub(super) sites: Vec<SiteState>,
}

impl Wave {
    /// Those that were made, at an older version, while the others were migrated.
    pub(super) fn of_late(sites: Vec<SiteState>) -> Self {
        wave("made meanwhile".to_owned(), sites)
    }
}

/// Divides the schemas that are behind into waves; `all` is every schema of the fleet, since percentages are of the whole.
pub(super) fn waves(
    all: Vec<SiteState>,
    is_behind: impl Fn(&SiteState) -> bool,
    rollout: &Rollout,
) -> Result<Vec<Wave>, RolloutError> {
    check(&all, rollout)?;
    let (own, shared): (Vec<_>, Vec<_>) = all.into_iter().partition(|state| state.site.tenant.is_some());
    let (canaries, mut own): (Vec<_>, Vec<_>) = own
        .into_iter()
        .partition(|state| slug(state).is_some_and(|slug| rollout.canaries.iter().any(|canary| canary == slug)));
    let mut waves = vec![wave("canaries".to_owned(), canaries)];
    for label in &rollout.labels {
        let labelled;
        (labelled, own) = own.into_iter().partition(|state| label.is_of(state));
        waves.push(wave(label.to_string(), labelled));
    }
    own.sort_by_cached_key(place);
    let (total, mut done) = (own.len(), 0);
    for percent in rollout
        .waves
        .iter()
        .copied()
        .chain((rollout.waves.last() != Some(&100)).then_some(100))
    {
        let end = (total * usize::from(percent)).div_ceil(100);
        let sites = own.drain(..end - done).collect();
        done = end;
        let name = if rollout.waves.is_empty() {
            "schemas and databases of single tenants".to_owned()
        } else {
            format!("{percent} %")
        };
        waves.push(wave(name, sites));
    }
    waves.push(wave("shared tables".to_owned(), shared));
    for wave in &mut waves {
        wave.sites.retain(|state| is_wanted(state, rollout) && is_behind(state));
        // One after the other through each database, as connections are.
        wave.sites
            .sort_by(|a, b| (&a.site.server, &a.site.database.name).cmp(&(&b.site.server, &b.site.database.name)));
    }
    waves.retain(|wave| !wave.sites.is_empty());
    Ok(waves)
}

/// Whether the roll-out is for this schema, as far as that is behind.
pub(super) fn is_wanted(state: &SiteState, rollout: &Rollout) -> bool {
    let named = rollout.only.is_empty() || slug(state).is_some_and(|slug| rollout.only.iter().any(|only| only == slug));
    named && (!rollout.only_failed || state.error.is_some())
}

fn wave(name: String, sites: Vec<SiteState>) -> Wave {
    Wave { name, sites }
}

fn check(all: &[SiteState], rollout: &Rollout) -> Result<(), RolloutError> {
    let grow = rollout.waves.iter().is_sorted_by(|a, b| a < b);
    if !grow || rollout.waves.iter().any(|percent| !(1..=100).contains(percent)) {
        return Err(RolloutError::Waves(rollout.waves.clone()));
    }
    if rollout.per_server == 0 || rollout.connections_max == 0 {
        return Err(RolloutError::NoConnection);
    }
    let is_nobody = |name: &&String| !all.iter().any(|state| slug(state) == Some(name.as_str()));
    if let Some(nobody) = rollout.only.iter().find(is_nobody) {
        return Err(RolloutError::NoSuchSite(nobody.clone()));
    }
    if let Some(nobody) = rollout.canaries.iter().find(is_nobody) {
        return Err(RolloutError::NoSuchCanary(nobody.clone()));
    }
    Ok(())
}

fn slug(state: &SiteState) -> Option<&str> {
    state.site.slug.as_deref()
}

/// A schema's place in the order of waves: even over servers and ages, and the same in each run.
fn place(state: &SiteState) -> [u8; 32] {
    sha256(format!("{}.{}", state.site.database.id, state.site.schema).as_bytes())
}

#[cfg(test)]
mod tests {
    use tenantry_catalog::{
        placement::Site,
        tenant_database::{DatabaseKind, DatabaseState, TenantDatabase},
    };
    use tenantry_core::{ServerId, TenantDatabaseId, TenantId};
    use uuid::Uuid;

    use super::*;

    fn site(slug: Option<&str>) -> SiteState {
        SiteState {
            site: Site {
                database: TenantDatabase {
                    id: TenantDatabaseId::from_uuid(Uuid::nil()),
                    server: ServerId::from_uuid(Uuid::nil()),
                    name: "d".to_owned(),
                    kind: DatabaseKind::Shared,
                    state: DatabaseState::Ready,
                    app_role: "a".to_owned(),
                    tier: None,
                    bootstrap_version: None,
                    system_identifier: None,
                    database_oid: None,
                },
                server: "s".to_owned(),
                schema: slug.unwrap_or("app").to_owned(),
                tenant: slug.map(|_| TenantId::from_uuid(Uuid::nil())),
                slug: slug.map(str::to_owned),
            },
            plan: (slug == Some("t5")).then(|| "free".to_owned()),
            labels: (slug == Some("t6")).then(|| serde_json::json!({ "ring": "early" })),
            version: 1,
            versions: 1,
            expected: 1,
            error: (slug == Some("t7")).then(|| "failed".to_owned()),
        }
    }

    fn fleet() -> Vec<SiteState> {
        let slugs: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
        std::iter::once(site(None))
            .chain(slugs.iter().map(|slug| site(Some(slug))))
            .collect()
    }

    fn shape(rollout: &Rollout, is_behind: impl Fn(&SiteState) -> bool) -> Vec<(String, usize)> {
        let waves = waves(fleet(), is_behind, rollout).unwrap();
        waves.into_iter().map(|wave| (wave.name, wave.sites.len())).collect()
    }

    #[test]
    fn canaries_go_first_and_shared_tables_last() {
        let rollout = Rollout {
            canaries: vec!["t3".to_owned()],
            waves: vec![10, 50],
            ..Rollout::default()
        };
        let expected = [
            ("canaries", 1),
            ("10 %", 2),
            ("50 %", 8),
            ("100 %", 9),
            ("shared tables", 1),
        ];
        assert_eq!(
            shape(&rollout, |_| true),
            expected.map(|(name, sites)| (name.to_owned(), sites))
        );
    }

    #[test]
    fn labelled_tenants_go_in_waves_of_their_own() {
        let rollout = Rollout {
            labels: vec!["ring=early".parse().unwrap(), "plan=free".parse().unwrap()],
            ..Rollout::default()
        };
        let all = waves(fleet(), |_| true, &rollout).unwrap();
        let of = |at: usize| {
            (
                all[at].name.as_str(),
                all[at].sites[0].site.slug.as_deref(),
                all[at].sites.len(),
            )
        };
        assert_eq!(of(0), ("ring=early", Some("t6"), 1));
        assert_eq!(of(1), ("plan=free", Some("t5"), 1));
        assert_eq!(all[2].sites.len(), 18);
        for text in ["", "plan", "=free", "plan="] {
            assert_eq!(text.parse::<Label>(), Err(NoLabel), "{text}");
        }
    }

    #[test]
    fn a_number_or_a_share_is_a_budget() {
        assert_eq!("3".parse(), Ok(FailureBudget::Count(3)));
        assert_eq!("1.5%".parse(), Ok(FailureBudget::Percent(1.5)));
        for text in ["", "%", "-1", "101%", "few", "NaN%"] {
            assert_eq!(text.parse::<FailureBudget>(), Err(NoBudget), "{text}");
        }
    }

    #[test]
    fn a_schema_is_in_the_same_wave_when_others_are_done() {
        let rollout = Rollout {
            waves: vec![30],
            ..Rollout::default()
        };
        let all = waves(fleet(), |_| true, &rollout).unwrap();
        let first = all[0].sites[0].clone();
        let left = waves(fleet(), |state| *state != first, &rollout).unwrap();
        assert_eq!(left[0].sites, all[0].sites[1..]);
        assert_eq!(left[1..], all[1..]);
    }

    #[test]
    fn one_can_migrate_some_only() {
        let named = Rollout {
            only: vec!["t1".to_owned(), "t2".to_owned()],
            ..Rollout::default()
        };
        assert_eq!(shape(&named, |_| true).iter().map(|(_, sites)| sites).sum::<usize>(), 2);
        let failed = Rollout {
            only_failed: true,
            ..Rollout::default()
        };
        assert_eq!(
            shape(&failed, |_| true).iter().map(|(_, sites)| sites).sum::<usize>(),
            1
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |rollout: Rollout| waves(fleet(), |_| true, &rollout).unwrap_err();
        let unknown = refused(Rollout {
            only: vec!["t1".to_owned(), "nobody".to_owned()],
            ..Rollout::default()
        });
        assert_eq!(unknown, RolloutError::NoSuchSite("nobody".to_owned()));
        let unknown = refused(Rollout {
            canaries: vec!["nobody".to_owned()],
            ..Rollout::default()
        });
        assert_eq!(unknown, RolloutError::NoSuchCanary("nobody".to_owned()));
        for waves in [vec![50, 10], vec![0], vec![101], vec![5, 5]] {
            let error = refused(Rollout {
                waves: waves.clone(),
                ..Rollout::default()
            });
            assert_eq!(error, RolloutError::Waves(waves));
        }
    }

    #[test]
    fn a_budget_is_spent_by_one_failure_too_many() {
        assert!(!FailureBudget::Any.is_spent(1000, 1000));
        assert!(!FailureBudget::Count(2).is_spent(2, 1000));
        assert!(FailureBudget::Count(2).is_spent(3, 1000));
        assert!(!FailureBudget::Percent(1.0).is_spent(10, 1000));
        assert!(FailureBudget::Percent(1.0).is_spent(11, 1000));
        assert!(FailureBudget::Percent(1.0).is_spent(1, 10));
    }
}
