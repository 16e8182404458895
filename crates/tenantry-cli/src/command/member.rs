//! `tenantry member`: the people of a tenant.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;
use tenantry_core::{AccountId, Email, MembershipStatus, PersonName, Role, TenantId};
use tenantry_ops::{LoginError, Member, MemberFilter, NewMember, Ops, PasswordReset};

use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    lookup::tenant_id,
    output::{Answer, Done, List as Items, Output, fields, table, time},
    password,
};

/// What to do with members.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Add a member; who already has an account is invited
    Add(Add),
    /// List a tenant's members
    List(List),
    /// Change a member's role
    SetRole(SetRole),
    /// Take a member out of the tenant
    Remove(Named),
    /// Offer a person a new password: prints what sets it once; the old one and every log-in end
    ResetPassword(Person),
}

/// The member to add.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The tenant's slug or id
    tenant: String,
    /// The person's e-mail
    email: Email,
    /// What the person may do: owner, admin, member, viewer
    #[arg(long, default_value_t = Role::Member)]
    role: Role,
    /// The person's name
    #[arg(long)]
    name: Option<PersonName>,
    /// Read the password from the first line of stdin [default: make one and print it]
    #[arg(long)]
    password_stdin: bool,
}

/// Whose members.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// The tenant's slug or id
    tenant: String,
}

/// A member of a tenant.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The tenant's slug or id
    tenant: String,
    /// The member's e-mail or account id
    member: String,
}

/// A person, in whatever tenants.
#[derive(Args, Debug)]
pub(crate) struct Person {
    /// The account's e-mail
    email: Email,
}

/// The member and the new role.
#[derive(Args, Debug)]
pub(crate) struct SetRole {
    #[command(flatten)]
    member: Named,
    /// owner, admin, member or viewer
    role: Role,
}

/// A member, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Shown {
    account_id: AccountId,
    email: String,
    name: String,
    role: Role,
    status: MembershipStatus,
    created_at: DateTime<Utc>,
    /// The password that was made here, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl From<Member> for Shown {
    fn from(member: Member) -> Self {
        Self {
            account_id: member.account,
            email: member.email,
            name: member.name,
            role: member.role,
            status: member.status,
            created_at: member.created_at,
            password: None,
        }
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let mut shown = vec![
            ("account", self.account_id.to_string()),
            ("e-mail", self.email.clone()),
            ("name", self.name.clone()),
            ("role", self.role.to_string()),
            ("status", self.status.as_str().to_owned()),
        ];
        if let Some(password) = &self.password {
            shown.push((
                "password",
                format!("{password} (good if the e-mail had no account yet; shown this once)"),
            ));
        }
        fields(shown)
    }
}

impl Answer for Items<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|member| {
            [
                member.email.clone(),
                member.name.clone(),
                member.role.to_string(),
                member.status.as_str().to_owned(),
                member.account_id.to_string(),
                time(member.created_at),
            ]
        });
        table(["e-mail", "name", "role", "status", "account", "since"], rows)
    }
}

/// An offered reset, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct ShownReset {
    account_id: AccountId,
    email: String,
    token: String,
    expires_at: DateTime<Utc>,
}

impl From<PasswordReset> for ShownReset {
    fn from(reset: PasswordReset) -> Self {
        Self {
            account_id: reset.account,
            email: reset.email,
            token: reset.token.expose_secret().to_owned(),
            expires_at: reset.expires_at,
        }
    }
}

impl Answer for ShownReset {
    fn text(&self) -> String {
        let shown = fields([
            ("account", self.account_id.to_string()),
            ("e-mail", self.email.clone()),
            ("token", format!("{} (shown this once)", self.token)),
            ("expires", time(self.expires_at)),
        ]);
        format!(
            "{shown}\nThe person sets the new password, once, by \
             POST /v1/auth/reset-password {{\"token\": …, \"new_password\": …}}"
        )
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::Add(add) => run_add(&ops, add, output).await,
        Command::ResetPassword(person) => run_reset_password(&ops, &person.email, output).await,
        Command::List(list) => {
            let tenant = tenant_id(&ops, &list.tenant).await?;
            let members = members(&ops, tenant, &MemberFilter::default()).await?;
            Ok(output.answer(&Items {
                items: members.into_iter().map(Shown::from).collect(),
            })?)
        }
        Command::SetRole(set) => {
            let (tenant, account) = find(&ops, &set.member).await?;
            let member = ops.set_member_role(&authority(), tenant, account, set.role).await?;
            Ok(output.answer(&Shown::from(member))?)
        }
        Command::Remove(named) => {
            let (tenant, account) = find(&ops, &named).await?;
            ops.remove_member(&authority(), tenant, account).await?;
            let text = format!("{} is no member of {} any more", named.member, named.tenant);
            Ok(output.answer(&Done {
                text,
                json: json!({"account_id": account, "removed": true}),
            })?)
        }
    }
}

async fn run_add(ops: &Ops, add: Add, output: Output) -> Result<(), Failure> {
    let tenant = tenant_id(ops, &add.tenant).await?;
    let password = password::obtain(add.password_stdin, &add.email)?;
    let new = NewMember {
        email: add.email,
        name: add.name,
        password: Some(password.password),
        role: add.role,
    };
    let member = ops.add_member(&authority(), tenant, &new).await?;
    Ok(output.answer(&Shown {
        password: password.shown,
        ..Shown::from(member)
    })?)
}

async fn run_reset_password(ops: &Ops, email: &Email, output: Output) -> Result<(), Failure> {
    match ops.offer_password_reset(&authority(), email).await {
        Ok(reset) => Ok(output.answer(&ShownReset::from(reset))?),
        Err(LoginError::BadCredentials) => Err(Failure::failed(format!("there is no active account {email}"))),
        Err(error) => Err(error.into()),
    }
}

/// All of them: pages are for the wire.
async fn members(ops: &Ops, tenant: TenantId, filter: &MemberFilter<'_>) -> Result<Vec<Member>, Failure> {
    const PAGE: i64 = 500;
    let mut all: Vec<Member> = Vec::new();
    loop {
        let after = all.last().map(|last| (last.created_at, last.account)).or(filter.after);
        let page = ops
            .list_members(
                &authority(),
                tenant,
                &MemberFilter {
                    after,
                    ..filter.clone()
                },
                PAGE,
            )
            .await?;
        let last = (page.len() as i64) < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

async fn find(ops: &Ops, named: &Named) -> Result<(TenantId, AccountId), Failure> {
    let tenant = tenant_id(ops, &named.tenant).await?;
    if let Ok(account) = named.member.parse() {
        return Ok((tenant, account));
    }
    let email: Email = named
        .member
        .parse()
        .map_err(|_| Failure::usage(format!("`{}` is neither an e-mail nor an account's id", named.member)))?;
    let filter = MemberFilter {
        email: Some(email.as_str()),
        ..MemberFilter::default()
    };
    match members(ops, tenant, &filter).await?.first() {
        Some(member) => Ok((tenant, member.account)),
        None => Err(Failure::failed(format!(
            "{} has no member {email}: see `tenantry member list`",
            named.tenant
        ))),
    }
}
