-- For figures of the fleet, which name nobody: how many jobs wait though they are due, for how long the first of them has, and how many
-- are dead, each counted up to `p_most`. What wants a worker to tidy it waits as well: without workers nobody does. Not what waits
-- behind a fence that is not open, which nobody may take, nor what a tenant left behind that lives elsewhere by now.
create or replace function tenantry_private.job_backlog(p_most int4, out waiting int8, out oldest_s float8, out dead int8)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  with due as (
    (select j.run_at from tenantry_private.job j
      where j.state = 0 and exists (select from tenantry_private.fence f where f.tenant = j.tenant and f.state = 0)
      limit p_most)
    union all
    (select j.run_at from tenantry_private.job j
      where j.state = 3 and j.run_at <= now()
        and exists (select from tenantry_private.fence f where f.tenant = j.tenant and f.state = 0)
      order by j.run_at limit p_most)
    union all
    (select j.run_at from tenantry_private.job j
      where j.state = 1 and j.leased_until < now()
        and exists (select from tenantry_private.fence f where f.tenant = j.tenant and f.state = 0)
      limit p_most)
  ),
  buried as (
    select j.id from tenantry_private.job j
     where j.state = 2 and exists (select from tenantry_private.fence f where f.tenant = j.tenant and f.state in (0, 1, 3))
     limit p_most
  )
  select least((select count(*) from due), p_most)::int8,
         coalesce(greatest(extract(epoch from now() - (select min(d.run_at) from due d)), 0), 0)::float8,
         (select count(*) from buried)::int8;
end;
