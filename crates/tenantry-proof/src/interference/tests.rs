//! What every change has to pass.

use super::{gate::Seeded, mutations::FURTHER, ways::Found, *};

fn options(statements: u64) -> Options {
    Options {
        statements,
        seed: 1,
        isolation: None,
        tier: None,
        way: None,
        second: false,
        pairs: 2,
        only: None,
        replay: None,
        write: std::env::temp_dir().join("tenantry-prove-finding.json"),
        keep_going: false,
        mutations: false,
        every: 1,
        channels: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_observes_the_same_whatever_another_one_holds_and_does() {
    run(&options(50_000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_observes_the_same_on_the_second_server() {
    run(&Options {
        second: true,
        ..options(4_000)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn seeded_defects_are_found() {
    // All of them are the gate of `cargo xtask prove --mutations`.
    run(&Options {
        mutations: true,
        every: 4,
        ..options(0)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_channel_is_as_declared() {
    run(&Options {
        channels: true,
        ..options(0)
    })
    .await
    .unwrap();
}

/// Seeds a defect, makes the program that finds it small, and runs that from its file: it finds the defect, and finds
/// nothing where the defect is not.
async fn shrinks_and_replays(id: &str, statements_most: usize) {
    let further = FURTHER.iter().find(|further| further.mutation.id == id).unwrap();
    let mode = further.mode();
    let grounds = Grounds::default();
    let mut seeded = Seeded::new(&grounds, &further.mutation, mode).await.unwrap();
    let folder = tenantry_testing::test_folder();
    let file = folder.path().join("finding.json");
    let extent = Extent::of(5_000);
    let program = |number| program_of(1, number, mode);
    let error = match &mut seeded.comparers {
        Comparers::Wire(pairs) => {
            let found = search(pairs, extent, program).await.found.unwrap();
            report::found(pairs, mode, 1, found, &file).await
        }
        Comparers::Library(libraries) => {
            let found = search(libraries, extent, program).await.found.unwrap();
            report::found(libraries, mode, 1, found, &file).await
        }
        Comparers::Http(webs) => {
            let found: Found<_> = search(webs, extent, |number| http::requests(1, number))
                .await
                .found
                .unwrap();
            report::found(webs, mode, 1, found, &file).await
        }
    };
    assert!(
        error.to_string().contains(&format!("--replay {}", file.display())),
        "{error}"
    );
    let case: report::Case = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let statements = match &case.acts {
        Acts::Program(program) => program.statements(),
        Acts::Requests(requests) => shrink::Shrinks::statements(requests),
    };
    assert!(statements <= statements_most, "{statements}");
    report::run_again(&mut seeded.comparers, &case.acts).await.unwrap_err();
    seeded.undo().await.unwrap();
    // On sound worlds, by the command's own way.
    report::replay(&grounds, &file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_wire_finds_is_made_small_and_runs_again() {
    shrinks_and_replays("signed: row security disabled", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_library_finds_is_made_small_and_runs_again() {
    shrinks_and_replays("library: row security disabled", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_raw_lane_finds_is_made_small_and_runs_again() {
    shrinks_and_replays("raw lane: row security disabled", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_finds_is_made_small_and_runs_again() {
    shrinks_and_replays("HTTP: row security disabled", 2).await;
}

#[test]
fn there_are_forty_defects_and_thirty_shapes_at_least() {
    let mut defects: Vec<_> = mutations::MUTATIONS.iter().map(|mutation| mutation.id).collect();
    defects.sort_unstable();
    defects.dedup();
    assert!(defects.len() >= 40, "{}", defects.len());
    assert!(grammar::shape_names().len() >= 30);
    // Each way that is not the wire's, the other tier and the other server have defects of their own.
    for way in Way::ALL {
        assert!(FURTHER.iter().any(|further| further.way == way), "{way:?}");
    }
    assert!(FURTHER.iter().any(|further| further.second));
    assert!(FURTHER.iter().any(|further| further.tier == Tier::Signed));
}

#[test]
fn a_program_is_a_function_of_its_seed() {
    let text = |seed, number| {
        let program = grammar::program(seed, number, Isolation::Shared);
        serde_json::to_string(&program).unwrap()
    };
    assert_eq!(text(3, 5), text(3, 5));
    assert_ne!(text(3, 5), text(4, 5));
    assert_ne!(text(3, 5), text(3, 6));
}

#[test]
fn the_declared_channels_are_those_of_the_documentation() {
    let text = include_str!("../../../../docs/security.md");
    for channel in channels::CHANNELS {
        let row = format!("| `{}` | {} | {} |", channel.id, channel.what, channel.closed_by);
        assert!(text.contains(&row), "docs/security.md lacks: {row}");
    }
}
