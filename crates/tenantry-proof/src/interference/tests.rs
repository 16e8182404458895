//! What every change has to pass.

use super::*;

fn options(statements: u64) -> Options {
    Options {
        statements,
        seed: 1,
        isolation: None,
        second: false,
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

#[test]
fn there_are_forty_defects_and_thirty_shapes_at_least() {
    let mut defects: Vec<_> = mutations::MUTATIONS.iter().map(|mutation| mutation.id).collect();
    defects.sort_unstable();
    defects.dedup();
    assert!(defects.len() >= 40, "{}", defects.len());
    assert!(grammar::shape_names().len() >= 30);
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
