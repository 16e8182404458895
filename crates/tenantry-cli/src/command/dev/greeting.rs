//! What `dev` prints when it runs: addresses, log-ins, lines to try.

use serde::Serialize;

use super::state::Running;
use crate::output::{Answer, table};

/// The greeting; as JSON it is what `dev.json` holds.
#[derive(Serialize)]
pub(super) struct Greeting<'a> {
    #[serde(flatten)]
    pub(super) running: &'a Running,
    /// Where `dev.json` stands.
    #[serde(skip)]
    pub(super) file: String,
    /// Whether the reference CRM is served, so that its lines can be tried.
    #[serde(skip)]
    pub(super) crm: bool,
}

impl Answer for Greeting<'_> {
    fn text(&self) -> String {
        let running = self.running;
        let logins = running.tenants.iter().map(|tenant| {
            [
                tenant.slug.clone(),
                tenant.isolation.to_string(),
                tenant.email.clone(),
                tenant.password.clone(),
            ]
        });
        let mut text = format!(
            "\nTenantry runs at {http}\n\n{logins}\n\n\
             Operator key  {key}\nCatalog       {catalog}\nSuperuser     {admin}\nAll of it     {file}\n\nTry:\n\n",
            http = running.http,
            logins = table(["tenant", "isolation", "log-in", "password"], logins),
            key = running.operator_key,
            catalog = running.catalog_url,
            admin = running.admin_url,
            file = self.file,
        );
        text.push_str(&self.lines_to_try());
        text.push_str("\nCtrl-C stops all of it; the state stays for the next time, `--fresh` starts over.\n");
        text
    }
}

impl Greeting<'_> {
    fn lines_to_try(&self) -> String {
        let http = &self.running.http;
        let Some(tenant) = self.running.tenants.first() else {
            return String::new();
        };
        let log_in = format!(
            "  TOKEN=$(curl -s {http}/v1/auth/login -H 'content-type: application/json' \\\n    \
             -d '{{\"email\":\"{}\",\"password\":\"{}\"}}' | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n",
            tenant.email, tenant.password
        );
        let crm = format!(
            "  curl -sw '\\n' {http}/app/contacts -H \"authorization: Bearer $TOKEN\"\n  \
             curl -sw '\\n' {http}/app/contacts -H \"authorization: Bearer $TOKEN\" \\\n    \
             -H 'content-type: application/json' -d '{{\"name\":\"Grace Hopper\",\"email\":\"grace@navy.example\"}}'\n"
        );
        let operator = format!(
            "  curl -sw '\\n' {http}/v1/tenants -H 'authorization: Bearer {}'\n",
            self.running.operator_key
        );
        let crm = if self.crm { crm } else { String::new() };
        format!("{log_in}{crm}{operator}")
    }
}
