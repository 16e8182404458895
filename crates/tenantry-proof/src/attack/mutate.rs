//! Mutated tokens in numbers, tried inside of the database: the application role calls `enter` in a loop.
//!
//! Each batch begins with a token that a signer would make this moment for this very connection and the victim, so that
//! nothing but the mutation is a reason to refuse it; and ends with that token as it is, which has to be accepted.

use anyhow::{Context as _, Result, bail};
use rand::RngExt as _;

use super::{ground::Ground, seat::Seat, token::Spec};

/// How many of a batch are offered within a token's 30 seconds, on a slow machine too.
const BATCH: u64 = 10_000;

/// What was offered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub(super) struct Offered {
    pub(super) mutated: u64,
    pub(super) accepted: u64,
    /// Those that were not mutated: each ends a batch and has to be accepted.
    pub(super) whole: u64,
    pub(super) whole_accepted: u64,
}

/// Offers so many mutated tokens: each of the 90 bytes by itself with all 255 others, each pair of bits, and bytes at
/// random.
pub(super) async fn offer(ground: &Ground, number: u64) -> Result<Offered> {
    let mut seat = Seat::new(ground.line().await?, false);
    let mut offered = Offered::default();
    while offered.mutated < number {
        let batch = BATCH.min(number - offered.mutated);
        let token = seat.make(ground, &Spec::parse("tenant=B")?, 0)?;
        let hex = |bytes: &Option<Vec<u8>>| {
            bytes
                .iter()
                .flatten()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let text = include_str!("mutate.sql")
            .replace("{message}", &hex(&token.message))
            .replace("{code}", &hex(&token.mac))
            .replace("{first}", &offered.mutated.to_string())
            .replace("{number}", &batch.to_string())
            .replace("{seed}", &format!("{:.6}", rand::rng().random_range(-1.0..1.0)));
        seat.line
            .client
            .batch_execute(&text)
            .await
            .context("the mutated tokens can't be offered")?;
        let row = seat
            .line
            .client
            .query_one(
                "select current_setting('proof.tried')::int8, current_setting('proof.accepted')::int8",
                &[],
            )
            .await?;
        let (tried, accepted): (i64, i64) = (row.get(0), row.get(1));
        if tried.unsigned_abs() != batch {
            bail!("{tried} of {batch} mutated tokens were offered");
        }
        offered.mutated += batch;
        offered.accepted += accepted.unsigned_abs();
        offered.whole += 1;
        if seat.offer(&token, "enter").await.failure.is_none() {
            offered.whole_accepted += 1;
        }
        // Each batch on a session as it was.
        seat.discard().await;
    }
    Ok(offered)
}
