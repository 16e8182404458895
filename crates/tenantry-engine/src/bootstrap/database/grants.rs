//! Who may do what in a tenant database.

use tenantry_core::Tier;
use tenantry_sql::Identifier;
use tokio_postgres::Transaction;

use super::{Work, identity::Before};
use crate::{
    bootstrap::BootstrapError,
    sql_error::{Doing, SqlError},
};

/// What a session needs to be bound and to read its context.
const SESSION_FUNCTIONS: &str = "function tenantry.enter(bytea, bytea), tenantry.enter_pooled(bytea, bytea), tenantry.leave(), \
    tenantry.tenant_id(), tenantry.account_id(), tenantry.has_role(text), tenantry.may_write(), tenantry.binding_may_write(), \
    tenantry.check_identity()";
/// What tells who holds the key how far a server and its replicas are.
const REPLICA_FUNCTIONS: &str = "function tenantry.log_position(bytea, bytea)";
/// What enqueues jobs and ends them in the tenant's own transaction, and what a worker calls, with a token of its own.
const JOB_FUNCTIONS: &str = "function tenantry.enqueue(uuid, text, text, interval, int2, int2, text, uuid), \
    tenantry.job_done(uuid, int8), \
    tenantry.job_take(bytea, bytea, text, text[], int2, uuid, uuid, int4, interval, int4, boolean, boolean), \
    tenantry.job_claim(bytea, bytea, text, text[], uuid, int4, interval, int4), \
    tenantry.job_beat(bytea, bytea, uuid[], uuid[], int8[], interval), \
    tenantry.job_failed(bytea, bytea, uuid, uuid, int8, text, interval), \
    tenantry.job_release(bytea, bytea, uuid[], uuid[], int8[], interval), tenantry.job_list(int2[], uuid, int4), \
    tenantry.job_retry(uuid), tenantry.job_remove(uuid)";
/// What makes jobs by the clock: for the tenant's own session, and for workers.
const SCHEDULE_FUNCTIONS: &str = "function tenantry.schedule_set(text, text, text, int2, text, text, int2, int2, uuid), \
    tenantry.schedule_list(), tenantry.schedule_remove(text), \
    tenantry.schedule_everyone(bytea, bytea, text, text, text, int2, text, text, int2, int2, int2, int4), \
    tenantry.schedule_due(bytea, bytea, text[], text[], int4), \
    tenantry.schedule_move(bytea, bytea, uuid[], boolean[], text[], timestamptz[], timestamptz[], timestamptz[], text[], uuid[])";
/// What the tenant's admins read and its owners take out.
const HISTORY_FUNCTIONS: &str = "function tenantry.history_list(text, jsonb, uuid, uuid, int4), \
    tenantry.history_forget(timestamptz, int4)";
/// What migrations make triggers of. Whoever else had it could have rows of a temporary table noted as another tenant's.
const HISTORY_TRIGGER: &str = "function tenantry.note_history()";
/// What closes and opens a tenant.
const FENCE_FUNCTIONS: &str = "function tenantry.fence_register(uuid, int8, int2), tenantry.fence_close(uuid, int8, int2), \
    tenantry.fence_settle(uuid), tenantry.fence_open(uuid, int8), tenantry.fence_state(uuid), tenantry.fence_transactions(), \
    tenantry.fence_terminate(text[]), tenantry.fence_forget()";
/// Which migrations a placement has; the administrator writes them in the migration's transaction.
const LEDGER: &str = "tenantry_private.migration, tenantry_private.migration_step, tenantry_private.migration_tenant";
/// What rotates keys.
const KEY_FUNCTIONS: &str = "function tenantry_private.key_add(int4, bytea, bytea), tenantry_private.key_retire(int4), \
    tenantry_private.key_ids(), tenantry_private.allow_pooled(boolean)";
/// What migrations of data act by.
const MIGRATION_FUNCTIONS: &str = "function tenantry_private.act_for(uuid), tenantry_private.act_done(uuid)";
/// What a purge takes a tenant's jobs and history with, and operators look after them with.
const OPERATOR_FUNCTIONS: &str = "function tenantry_private.job_purge(uuid, int4), tenantry_private.job_count(uuid), \
    tenantry_private.job_backlog(int4), \
    tenantry_private.job_list(uuid, text, int2[], uuid, uuid, int4), tenantry_private.job_retry(uuid, uuid, text, int4), \
    tenantry_private.job_remove(uuid, uuid, text, int4), tenantry_private.schedule_list(uuid), \
    tenantry_private.schedule_remove(uuid, text), tenantry_private.history_purge(uuid, int4)";

impl Work<'_> {
    /// Takes from PUBLIC what PostgreSQL gives it: else the application role of any database could come in.
    pub(super) async fn close_to_public(&self, transaction: &Transaction<'_>) -> Result<(), BootstrapError> {
        let (mover, database) = (&self.roles.mover, Identifier::new(self.request.name)?);
        transaction
            .batch_execute(&format!(
                "revoke all on database {database} from public;
                 grant connect on database {database} to {mover};
                 do $$ begin
                   if exists (select from pg_namespace where nspname = 'public') then
                     revoke all on schema public from public;
                   end if;
                 end $$"
            ))
            .await
            .doing("close the database to PUBLIC")
            .map_err(|error| match error.code() {
                Some("42501") => BootstrapError::NotAllowed {
                    admin: self.standing.role.clone(),
                    what: "change the rights on the database",
                    mend: "make it the database's owner, or use a superuser",
                },
                _ => error.into(),
            })?;
        Ok(())
    }

    /// As the owner of the mechanism.
    pub(super) async fn grant_functions(&self, transaction: &Transaction<'_>) -> Result<(), SqlError> {
        let owner = &self.roles.owner;
        let (app, mover) = (&self.app, &self.roles.mover);
        let mut statements = vec![
            format!("revoke all on schema tenantry, tenantry_private from public, {app}, {owner}, {mover}"),
            format!("revoke all on all functions in schema tenantry, tenantry_private from {app}, {owner}, {mover}"),
            format!("grant usage on schema tenantry to {app}, {owner}, {mover}"),
            format!("grant execute on {SESSION_FUNCTIONS} to {app}, {owner}, {mover}"),
            format!("grant execute on {REPLICA_FUNCTIONS} to {app}"),
            format!("grant execute on {JOB_FUNCTIONS} to {app}"),
            format!("grant execute on {SCHEDULE_FUNCTIONS} to {app}"),
            format!("grant execute on {HISTORY_FUNCTIONS} to {app}"),
            format!("grant execute on {HISTORY_TRIGGER} to {owner}"),
            format!("grant execute on {FENCE_FUNCTIONS} to {mover}"),
        ];
        if self.tier == Tier::Signed {
            // Called from the inlined readers, hence by whoever reads; without USAGE on the schema nobody can name it.
            statements.push(format!(
                "grant execute on function tenantry_private.current_seal() to {app}, {owner}, {mover}"
            ));
        }
        if !self.standing.superuser {
            let admin = Identifier::new(self.standing.role.as_str()).expect("the server gave this name");
            statements.extend([
                format!("revoke all on schema tenantry, tenantry_private from {admin}"),
                format!("revoke all on all functions in schema tenantry, tenantry_private from {admin}"),
                format!("revoke all on {LEDGER} from {admin}"),
                format!("grant usage on schema tenantry, tenantry_private to {admin}"),
                format!("grant execute on {SESSION_FUNCTIONS}, {KEY_FUNCTIONS}, {FENCE_FUNCTIONS}, {MIGRATION_FUNCTIONS}, {OPERATOR_FUNCTIONS} to {admin}")
                    .replace(", function", ","),
                format!("grant select, insert, update, delete on {LEDGER} to {admin}"),
            ]);
        }
        transaction
            .batch_execute(&statements.join(";\n"))
            .await
            .doing("grant the mechanism's functions")
    }

    /// As the administrator.
    pub(super) async fn grant_application(&self, transaction: &Transaction<'_>) -> Result<(), BootstrapError> {
        let (app, owner) = (&self.app, &self.roles.owner);
        let (mover, database) = (&self.roles.mover, Identifier::new(self.request.name)?);
        transaction
            .batch_execute(&format!(
                "grant connect on database {database} to {app};
                 grant usage on schema tenantry_ext to {app}, {owner}, {mover};
                 set local role {owner};
                 grant usage on schema app to {app}, {mover};
                 -- functions of the application: for its role and for data migrations, also those that migrations make later
                 alter default privileges revoke execute on functions from public;
                 alter default privileges grant execute on functions to {app}, {mover};
                 reset role"
            ))
            .await
            .doing("grant the application role its rights")?;
        Ok(())
    }

    /// A clone still holds the rights of its original's application role; and the tenants in it live elsewhere.
    pub(super) async fn leave_the_original_behind(
        &self,
        transaction: &Transaction<'_>,
        before: &Before,
    ) -> Result<(), SqlError> {
        if before.database == self.request.database {
            return Ok(());
        }
        transaction
            .batch_execute(
                "update tenantry_private.fence set state = 4, fenced_at = null, settled_at = null where state <> 4",
            )
            .await
            .doing("close the original's tenants in the copy")?;
        if before.app != self.app {
            self.revoke_everything(transaction, &before.app).await?;
        }
        Ok(())
    }

    /// `drop owned` would take the role's rights on its own database as well.
    async fn revoke_everything(&self, transaction: &Transaction<'_>, role: &Identifier) -> Result<(), SqlError> {
        let rows = transaction
            .query(
                "with grantee as (select oid from pg_roles where rolname = $1)
                 select format('revoke all on schema %I from %I', n.nspname, $1)
                   from pg_namespace n, grantee g
                  where exists (select from aclexplode(n.nspacl) x where x.grantee = g.oid)
                 union all
                 select format('revoke all on %s %I.%I from %I', case c.relkind when 'S' then 'sequence' else 'table' end,
                               n.nspname, c.relname, $1)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace, grantee g
                  where exists (select from aclexplode(c.relacl) x where x.grantee = g.oid)
                     or exists (select from pg_attribute a, aclexplode(a.attacl) x where a.attrelid = c.oid and x.grantee = g.oid)
                 union all
                 select format('revoke all on routine %s from %I', p.oid::regprocedure, $1)
                   from pg_proc p, grantee g
                  where exists (select from aclexplode(p.proacl) x where x.grantee = g.oid)",
                &[&role.as_str()],
            )
            .await
            .doing("list the rights of the original's application role")?;
        let statements: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        // As who owns them: the administrator, who acts as the owners.
        transaction
            .batch_execute("reset role")
            .await
            .doing("act as the administrator again")?;
        transaction
            .batch_execute(&statements.join(";\n"))
            .await
            .doing("take the rights of the original's application role")?;
        let seal = &self.roles.seal;
        transaction
            .batch_execute(&format!("set local role {seal}"))
            .await
            .doing("act as the mechanism's owner")
    }
}
