//! `tenantry operation certificate`: what a move has shown, with a signature.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::Value;
use tenantry_core::OperationId;
use tenantry_ops::Ops;

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output, fields},
};

/// Of which move, or which file.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["operation", "verify"])))]
pub(crate) struct Certificate {
    /// The move's operation, as `tenantry operation list` shows it
    operation: Option<OperationId>,
    /// Check the certificate in this file: that this installation signed it, and that nothing was changed
    #[arg(long, value_name = "FILE")]
    verify: Option<PathBuf>,
}

/// A certificate; with the line that is signed, unless that was given.
#[derive(Serialize)]
struct Shown {
    certificate: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    jws: Option<String>,
}

impl Answer for Shown {
    fn text(&self) -> String {
        let certificate = &self.certificate;
        let mut shown = vec![
            ("operation", text(&certificate["operation"])),
            ("tenant", text(&certificate["tenant"])),
            ("installation", text(&certificate["installation"])),
        ];
        shown.extend(lines(certificate));
        shown.push(("closed", text(&certificate["closed_at"])));
        shown.push(("opened", text(&certificate["opened_at"])));
        fields(shown)
    }
}

pub(super) async fn run(ops: &Ops, wish: Certificate, output: Output) -> Result<(), Failure> {
    let shown = match (wish.verify, wish.operation) {
        (Some(file), _) => {
            let document = std::fs::read_to_string(&file)
                .with_context(|| format!("can't read the certificate {}", file.display()))?;
            Shown {
                certificate: ops.verify_move(&document)?,
                jws: None,
            }
        }
        (None, Some(id)) => {
            let found = ops.find_move_certificate(&authority(), id).await?;
            Shown {
                certificate: found.certificate,
                jws: Some(found.jws),
            }
        }
        (None, None) => return Err(Failure::usage("name the move's operation, or --verify FILE")),
    };
    Ok(output.answer(&shown)?)
}

/// What a certificate says, a line each.
pub(super) fn lines(certificate: &Value) -> Vec<(&'static str, String)> {
    let home = |home: &Value| {
        let [isolation, server, database, epoch] =
            ["isolation", "server_name", "database", "epoch"].map(|key| text(&home[key]));
        format!("{isolation} on {server}, database {database}, epoch {epoch}")
    };
    let tables = certificate["tables"].as_array().into_iter().flatten();
    let tables: Vec<_> = tables
        .map(|one| {
            format!(
                "{} {} rows, sum {}",
                text(&one["table"]),
                one["rows"],
                text(&one["checksum"])
            )
        })
        .collect();
    let positions = certificate["positions"].as_object().into_iter().flatten();
    let positions: Vec<_> = positions
        .filter(|(_, position)| !position.is_null())
        .map(|(name, position)| format!("{name} {}", text(position)))
        .collect();
    vec![
        ("moved from", home(&certificate["from"])),
        ("moved to", home(&certificate["to"])),
        ("tables", tables.join("\n")),
        ("compared", text(&certificate["compared"])),
        ("positions", positions.join(", ")),
        ("waited", format!("{} ms", certificate["held_ms"])),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
