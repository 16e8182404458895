//! The answer as SARIF 2.1.0, which code scanning takes.

use serde_json::{Value, json};
use tenantry_engine::audit::{Finding, Severity, checks};

use super::answer::{Answered, Audited};

/// The whole log.
pub(super) fn log(answered: &Answered) -> Value {
    let ids: Vec<&str> = checks().map(|check| check.id).collect();
    let rules: Vec<Value> = checks()
        .map(|check| {
            json!({
                "id": check.id,
                "name": check.name,
                "shortDescription": { "text": check.title },
                "fullDescription": { "text": check.why },
                "help": { "text": format!("{} Mend: {}", check.why, check.mend) },
                "defaultConfiguration": { "level": level(check.severity) },
                "properties": { "security-severity": score(check.severity), "tags": ["security", "tenant-isolation"] },
            })
        })
        .collect();
    let results: Vec<Value> = answered
        .databases
        .iter()
        .flat_map(|database| database.findings.iter().map(|finding| result(&ids, database, finding)))
        .collect();
    let unasked: Vec<Value> = answered
        .databases
        .iter()
        .filter_map(|database| {
            let error = database.error.as_ref()?;
            Some(json!({ "level": "error", "message": { "text": format!("{}: {error}", database.database) } }))
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "tenantry audit", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "invocations": [{ "executionSuccessful": unasked.is_empty(), "toolExecutionNotifications": unasked }],
            "results": results,
        }],
    })
}

fn result(ids: &[&str], database: &Audited, finding: &Finding) -> Value {
    let object = format!("{}/{}", database.database, finding.object);
    let mut result = json!({
        "ruleId": finding.id,
        "ruleIndex": ids.iter().position(|id| *id == finding.id),
        "level": level(finding.severity),
        "message": { "text": format!("{}: {}. {} Mend: {}", finding.object, finding.message, finding.why, finding.mend) },
        "locations": [{
            // Code scanning asks for a file: the database stands for one.
            "physicalLocation": { "artifactLocation": { "uri": uri(&database.database) }, "region": { "startLine": 1 } },
            "logicalLocations": [{ "fullyQualifiedName": object, "kind": "resource" }],
        }],
        "partialFingerprints": { "tenantryFinding/v1": format!("{} {object}", finding.id) },
        "properties": { "severity": finding.severity.as_str() },
    });
    if let Some(proof) = &finding.proof {
        result["properties"]["proof"] = json!(proof);
    }
    if let Some(reason) = &finding.accepted {
        result["suppressions"] = json!([{ "kind": "external", "justification": reason }]);
    }
    result
}

/// A relative reference has no spaces and no colon before its first slash.
fn uri(database: &str) -> String {
    let plain: String = database
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() || "._-/".contains(character) {
                character
            } else {
                '_'
            }
        })
        .collect();
    format!("databases/{}", plain.trim_start_matches('/'))
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::Error => "error",
        Severity::Warn => "warning",
        Severity::Info => "note",
    }
}

/// As code scanning orders them.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::Error => "7.5",
        Severity::Warn => "4.5",
        Severity::Info => "1.0",
    }
}
