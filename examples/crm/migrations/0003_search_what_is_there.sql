-- tenantry: each tenant
-- The words of what was there before. A tenant made later has nothing to catch up with.

update contacts set name = name;
update projects set name = name;
update tasks set title = title;
