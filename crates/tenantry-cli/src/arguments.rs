//! What can be written on the command line. Each command's own arguments stand in its file below [`crate::command`].

use clap::{ArgAction, Parser, Subcommand};

use crate::{
    command::{
        adopt, audit, backup, bench, completions, dev, doctor, init, job, member, migrate, operation, plan, serve,
        server, signing_key, tenant, token,
    },
    config::Overrides,
};

/// Multi-tenancy on PostgreSQL: tenants in shared tables, in schemas or in databases of their own, behind one application.
///
/// Exit codes: 0 when all went well, 1 when something failed, 2 when the call or the configuration is wrong.
#[derive(Parser, Debug)]
#[command(name = "tenantry", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Answer with one JSON document on stdout; errors are one JSON line on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to stderr (-v, -vv)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// The commands, in the order in which one meets them.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run everything on a private PostgreSQL: catalog, server, the CRM and three tenants with data
    Dev(dev::Arguments),
    /// Write a project for an application of your own
    Init(init::Arguments),
    /// Make an existing single-tenant database the application, and its rows a tenant's
    Adopt(adopt::Arguments),
    /// Run the server
    Serve(serve::Arguments),
    /// Create, list and change tenants
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Back single tenants up into an object store, and restore them
    #[command(subcommand)]
    Backup(backup::Command),
    /// Add, list and change the members of a tenant
    #[command(subcommand)]
    Member(member::Command),
    /// List dead jobs and others, begin them anew, take them out
    #[command(subcommand)]
    Job(job::Command),
    /// How far durable work is, and what is in its way
    #[command(subcommand)]
    Operation(operation::Command),
    /// What each plan gives at most
    #[command(subcommand)]
    Plan(plan::Command),
    /// Add, list and check PostgreSQL servers
    #[command(subcommand)]
    Server(server::Command),
    /// Bring every tenant to the application's newest migration
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Make an access token to try things, and manage operator keys
    #[command(subcommand)]
    Token(token::Command),
    /// List, rotate and remove the keys that sign access tokens
    #[command(subcommand)]
    SigningKey(signing_key::Command),
    /// Look for what lets one tenant reach another's rows, in tenant databases or in any PostgreSQL
    Audit(audit::Arguments),
    /// Look for everything that could be wrong, and say how to mend it
    Doctor(doctor::Arguments),
    /// Measure what scoped access costs on this machine, on a private PostgreSQL
    Bench(bench::Arguments),
    /// Print the completions of a shell
    Completions(completions::Arguments),
}
