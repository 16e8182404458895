//! The definitions of versions where there is neither a row nor a ledger: what a placement looks like.

use tokio_postgres::Client;

use super::{
    Mode,
    apply::{self, ApplyError},
    run::{self, Building},
    target::{Patience, Target},
};
use crate::isolate::{Act, Step, Version};

/// Runs them, each version in a transaction of its own.
pub(crate) async fn lay_out(client: &Client, target: &Target, versions: &[&Version]) -> Result<(), ApplyError> {
    let patience = Patience::default();
    for version in versions.iter().filter(|version| version.mode == Mode::Schema) {
        let steps: Vec<_> = version.steps.iter().filter(|step| !step.only_filled).collect();
        for steps in steps.chunk_by(|a, b| !is_alone(a) && !is_alone(b)) {
            run_together(client, target, version, steps, &patience).await?;
        }
    }
    Ok(())
}

/// Whether PostgreSQL refuses the step in a transaction, and it can't be written otherwise.
pub(crate) fn is_alone(step: &Step) -> bool {
    matches!(step.act, Act::Sql(_)) && run::stands_alone(step)
}

async fn run_together(
    client: &Client,
    target: &Target,
    version: &Version,
    steps: &[&Step],
    patience: &Patience,
) -> Result<(), ApplyError> {
    let line = steps.first().map_or(1, |step| step.line);
    let alone = steps.iter().any(|step| is_alone(step));
    let messages: Vec<String> = if alone {
        let enter = format!(
            "set role {}; set search_path = {}, tenantry_ext",
            target.owner, target.schema
        );
        let steps = steps.iter().map(|step| run::statement(target, step, Building::Plainly));
        std::iter::once(enter)
            .chain(steps)
            .chain(["reset role; reset search_path".to_owned()])
            .collect()
    } else {
        let mut text = run::begin(target, patience) + &run::act_as(&target.owner);
        for step in steps {
            text.push_str(&run::statement(target, step, Building::Plainly));
            text.push_str(";\n");
        }
        vec![text + "commit"]
    };
    for message in messages {
        if let Err(error) = client.batch_execute(&message).await {
            run::roll_back(client).await?;
            client.batch_execute("reset role; reset search_path").await?;
            return Err(apply::explain(run::failure(version, line, error)));
        }
    }
    Ok(())
}
