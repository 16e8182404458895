//! The options that override the configuration.

use std::path::PathBuf;

use clap::Args;

/// The options that override the configuration.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Configuration (each also in tenantry.toml and as TENANTRY_… in the environment)")]
pub(crate) struct Overrides {
    /// The configuration file [default: tenantry.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The control database, postgres://user:password@host:port/database
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) catalog_url: Option<String>,
    /// The file with the key that encrypts the catalog's secrets
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) master_key_file: Option<String>,
    /// The address of `serve` [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS", hide_short_help = true)]
    pub(crate) listen: Option<String>,
    /// The domains below which each tenant has its host, as a TOML list
    #[arg(long, global = true, value_name = "LIST", hide_short_help = true)]
    pub(crate) domains: Option<String>,
    /// The `iss` claim of access tokens
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) issuer: Option<String>,
    /// The `aud` claim of access tokens
    #[arg(long, global = true, value_name = "AUDIENCE", hide_short_help = true)]
    pub(crate) audience: Option<String>,
    /// Addresses whose forwarded headers are believed, as a TOML list
    #[arg(long, global = true, value_name = "LIST", hide_short_help = true)]
    pub(crate) trusted_proxies: Option<String>,
    /// Other issuers whose access tokens are accepted, as a TOML list of tables
    #[arg(long, global = true, value_name = "LIST", hide_short_help = true)]
    pub(crate) outside_issuers: Option<String>,
    /// The folder with the application's migrations [default: those of the reference CRM]
    #[arg(long, global = true, value_name = "FOLDER", hide_short_help = true)]
    pub(crate) migrations: Option<String>,
    /// The migration without which a tenant is not served, by its number [default: none]
    #[arg(long, global = true, value_name = "NUMBER", hide_short_help = true)]
    pub(crate) minimum_version: Option<String>,
    /// How long `serve` goes on accepting after SIGTERM, while it says that it is not ready [default: 0]
    #[arg(long, global = true, value_name = "SECONDS", hide_short_help = true)]
    pub(crate) drain_delay_s: Option<String>,
    /// How long running requests may take to end after SIGTERM [default: 30]
    #[arg(long, global = true, value_name = "SECONDS", hide_short_help = true)]
    pub(crate) drain_timeout_s: Option<String>,
    /// How long a deleted tenant can be resumed before it is purged [default: 30]
    #[arg(long, global = true, value_name = "DAYS", hide_short_help = true)]
    pub(crate) retention_days: Option<String>,
    /// How many schemas `serve` keeps ready on each server for tenants with one of their own [default: 0]
    #[arg(long, global = true, value_name = "NUMBER", hide_short_help = true)]
    pub(crate) spare_schemas: Option<String>,
    /// How many databases `serve` keeps ready on each server for tenants with one of their own [default: 0]
    #[arg(long, global = true, value_name = "NUMBER", hide_short_help = true)]
    pub(crate) spare_databases: Option<String>,
    /// How many connections `serve` asks for of each server's budget at most [default: 64]
    #[arg(long, global = true, value_name = "NUMBER", hide_short_help = true)]
    pub(crate) server_connections: Option<String>,
    /// How many connections a tenant may use at a time while another one uses its database [default: 4]
    #[arg(long, global = true, value_name = "NUMBER", hide_short_help = true)]
    pub(crate) tenant_connections: Option<String>,
    /// From how long on a statement is told in the log, 0 for never [default: 500]
    #[arg(long, global = true, value_name = "MILLISECONDS", hide_short_help = true)]
    pub(crate) slow_statement_ms: Option<String>,
    /// Where tenants of each plan are placed, as a TOML table
    #[arg(long, global = true, value_name = "TABLE", hide_short_help = true)]
    pub(crate) plans: Option<String>,
    /// Which tenant databases are hardened when they are made: own, all or none [default: own]
    #[arg(long, global = true, value_name = "WHICH", hide_short_help = true)]
    pub(crate) hardening: Option<String>,
    /// How often `serve` audits the tenant databases after its start, 0 for never [default: 24]
    #[arg(long, global = true, value_name = "HOURS", hide_short_help = true)]
    pub(crate) audit_interval_h: Option<String>,
    /// The file with the audit's findings that are accepted [default: tenantry-audit.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) audit_accepted: Option<String>,
    /// The Redis in which the application caches, redis://user:password@host:port/database
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) redis_url: Option<String>,
    /// Where the application keeps files: a folder, or s3://bucket/prefix
    #[arg(long, global = true, value_name = "PLACE", hide_short_help = true)]
    pub(crate) files: Option<String>,
    /// Where backups of tenants stand: a folder, or s3://bucket/prefix
    #[arg(long, global = true, value_name = "PLACE", hide_short_help = true)]
    pub(crate) backups: Option<String>,
    /// How old a tenant's newest backup gets before `serve` makes another, 0 for never [default: 0]
    #[arg(long, global = true, value_name = "HOURS", hide_short_help = true)]
    pub(crate) backup_interval_h: Option<String>,
    /// How many backups of a tenant are kept, as a TOML table [default: { last = 3, daily = 7, weekly = 5 }]
    #[arg(long, global = true, value_name = "TABLE", hide_short_help = true)]
    pub(crate) backup_retention: Option<String>,
    /// Which log lines go to stderr, for example `info` or `tenantry_pool=debug`
    #[arg(long, global = true, value_name = "FILTER", hide_short_help = true)]
    pub(crate) log: Option<String>,
    /// How log lines look: text or json
    #[arg(long, global = true, value_name = "FORMAT", hide_short_help = true)]
    pub(crate) log_format: Option<String>,
    /// The OpenTelemetry collector that gets the span of each request, for example http://localhost:4318 [default: none]
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) otlp_endpoint: Option<String>,
}

impl Overrides {
    /// What the option of a key says.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        match key {
            "catalog_url" => self.catalog_url.as_deref(),
            "master_key_file" => self.master_key_file.as_deref(),
            "listen" => self.listen.as_deref(),
            "domains" => self.domains.as_deref(),
            "issuer" => self.issuer.as_deref(),
            "audience" => self.audience.as_deref(),
            "trusted_proxies" => self.trusted_proxies.as_deref(),
            "outside_issuers" => self.outside_issuers.as_deref(),
            "migrations" => self.migrations.as_deref(),
            "minimum_version" => self.minimum_version.as_deref(),
            "drain_delay_s" => self.drain_delay_s.as_deref(),
            "drain_timeout_s" => self.drain_timeout_s.as_deref(),
            "retention_days" => self.retention_days.as_deref(),
            "spare_schemas" => self.spare_schemas.as_deref(),
            "spare_databases" => self.spare_databases.as_deref(),
            "server_connections" => self.server_connections.as_deref(),
            "tenant_connections" => self.tenant_connections.as_deref(),
            "slow_statement_ms" => self.slow_statement_ms.as_deref(),
            "plans" => self.plans.as_deref(),
            "hardening" => self.hardening.as_deref(),
            "audit_interval_h" => self.audit_interval_h.as_deref(),
            "audit_accepted" => self.audit_accepted.as_deref(),
            "redis_url" => self.redis_url.as_deref(),
            "files" => self.files.as_deref(),
            "backups" => self.backups.as_deref(),
            "backup_interval_h" => self.backup_interval_h.as_deref(),
            "backup_retention" => self.backup_retention.as_deref(),
            "log" => self.log.as_deref(),
            "log_format" => self.log_format.as_deref(),
            "otlp_endpoint" => self.otlp_endpoint.as_deref(),
            _ => None,
        }
    }
}
