-- A paused roll-out is one that is under way: the catalog lets nobody begin another beside it.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- First, so that nobody begins or resumes one meanwhile.
drop index operation_one_live_migration;

-- Until now only the program looked, so that there may be several. The one that is at work goes on, else the newest; the others are called off:
-- what schemas have stays, and what is left is the next roll-out's.
update operation as o
set state = 'cancelled', wish = null, finished_at = now(), updated_at = now(), error_code = 'aborted',
    error = 'it was paused while another one was begun: what it had migrated stays, and the other one or the next does the rest'
where o.kind = 'migrate' and o.state = 'paused'
  and exists (select from operation as other
              where other.kind = o.kind and other.id <> o.id
                and (other.state in ('pending', 'running', 'undoing')
                     or other.state = 'paused' and (other.created_at, other.id) > (o.created_at, o.id)));

create unique index operation_one_live_migration on operation (kind)
    where kind in ('migrate', 'plan_migrations', 'verify_migrations') and state in ('pending', 'running', 'undoing', 'paused');
