//! `tenantry tenant erasure`: what is left of a purged tenant, with a signature.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use serde::Serialize;
use tenantry_ops::{Certificate, ErasureRequest, Ops, TenantRef, Verdict};

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output, fields, table, time},
    progress::Progress,
};

/// Of which tenant, and how deep.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["tenant", "verify"])))]
pub(crate) struct Erasure {
    /// The purged tenant's id, or the slug that it had
    tenant: Option<String>,
    /// Look again, in every tenant database of the fleet, and make a new certificate [default: show the latest]
    #[arg(long, requires = "tenant")]
    scan: bool,
    /// Look for this text too, which nothing but the tenant's own data held; can be given several times; reads every row
    #[arg(long, value_name = "TEXT", requires = "scan")]
    canary: Vec<String>,
    /// Read every column of every row of every tenant database, not only the columns that say whose a row is
    #[arg(long, requires = "scan")]
    every_row: bool,
    /// Write the tables that tenants share anew first, so that no bytes of dead rows stay; whoever uses one waits meanwhile
    #[arg(long, requires = "scan")]
    rewrite: bool,
    /// Read the files of the databases on their servers' disks; needs superusers
    #[arg(long, requires = "scan")]
    read_files: bool,
    /// Check the certificate in this file: that this installation signed it, and that nothing was changed
    #[arg(long, value_name = "FILE", conflicts_with = "tenant")]
    verify: Option<PathBuf>,
}

/// A certificate; with the line that is signed, unless that was given.
#[derive(Serialize)]
struct Shown {
    certificate: Certificate,
    #[serde(skip_serializing_if = "Option::is_none")]
    jws: Option<String>,
}

impl Answer for Shown {
    fn text(&self) -> String {
        let shown = &self.certificate;
        let verdict = match shown.verdict {
            Verdict::Erased => "erased: nothing is left but the record",
            Verdict::Left => "LEFT: something is there that is not the record",
            _ => "not shown: somewhere could not be looked",
        };
        let mut head = vec![
            ("certificate", shown.id.to_string()),
            ("tenant", format!("{} ({})", shown.slug, shown.tenant)),
            ("verdict", verdict.to_owned()),
        ];
        if let Some(at) = shown.deleted_at {
            head.push(("deleted", time(at)));
        }
        head.push((
            "looked at",
            format!("{} to {}", time(shown.begun_at), time(shown.ended_at)),
        ));
        head.push(("asked by", shown.asked_by.clone()));
        if let Some(removed) = &shown.removed {
            let history = removed.history.map_or_else(
                || "history that nobody counted".to_owned(),
                |entries| format!("{entries} entries of history"),
            );
            head.push((
                "dropped",
                format!("{} jobs, {} schedules, {history}", removed.jobs, removed.schedules),
            ));
        }
        let rows = shown.places.iter().flat_map(|place| {
            let name = format!("{} {}", place.kind, place.name);
            let looked: Vec<String> = place
                .looked_at
                .iter()
                .map(|one| format!("{} {}", one.count, one.how))
                .collect();
            let mut rows = vec![[name.clone(), "looked at".to_owned(), looked.join(", ")]];
            rows.extend(place.found.iter().map(|trace| match &trace.record {
                Some(why) => [
                    name.clone(),
                    "record".to_owned(),
                    format!("{} × {}: {why}", trace.count, trace.what),
                ],
                None => [
                    name.clone(),
                    "LEFT".to_owned(),
                    format!("{} × {}", trace.count, trace.what),
                ],
            }));
            rows.extend(
                place
                    .not_looked_at
                    .iter()
                    .map(|why| [name.clone(), "not looked at".to_owned(), why.clone()]),
            );
            rows
        });
        let limits: String = shown.not_shown.iter().map(|limit| format!("- {limit}\n")).collect();
        format!(
            "{}\n{}\n\nThis does not show:\n{limits}",
            fields(head),
            table(["place", "", "found"], rows)
        )
    }
}

pub(super) async fn run(ops: &Ops, wish: Erasure, output: Output) -> Result<(), Failure> {
    if let Some(file) = &wish.verify {
        let document =
            std::fs::read_to_string(file).with_context(|| format!("can't read the certificate {}", file.display()))?;
        let certificate = ops.verify_erasure(&document)?;
        output.answer(&Shown { certificate, jws: None })?;
        return Ok(());
    }
    let tenant = TenantRef::parse(wish.tenant.as_deref().unwrap_or_default());
    let progress = Progress::start(output);
    let erasure = if wish.scan {
        progress.step("looking for what is left");
        let mut request = ErasureRequest::default();
        request.texts = wish.canary;
        request.all_databases = true;
        request.every_row = wish.every_row;
        request.rewrite = wish.rewrite;
        request.read_files = wish.read_files;
        ops.certify_erasure(&authority(), &tenant, &request).await
    } else {
        ops.find_erasure(&authority(), &tenant).await
    };
    progress.end();
    let erasure = erasure?;
    let (verdict, left) = (erasure.certificate.verdict, left(&erasure.certificate));
    output.answer(&Shown {
        certificate: erasure.certificate,
        jws: Some(erasure.jws),
    })?;
    match verdict {
        Verdict::Erased => Ok(()),
        Verdict::Left => Err(Failure::failed(format!("something of the tenant is left: {left}"))),
        _ => Err(Failure::failed(
            "somewhere could not be looked, so that it is not shown that the tenant is gone: mend that, and run it again with --scan",
        )),
    }
}

fn left(certificate: &Certificate) -> String {
    let each: Vec<String> = certificate
        .places
        .iter()
        .flat_map(|place| {
            place
                .left()
                .map(move |trace| format!("{} in {} {}", trace.what, place.kind, place.name))
        })
        .collect();
    each.join("; ")
}
