-- case: a publication of a tenant table
-- expect: MT090 error app.note
reset role; create publication corpus_all for table app.note;

-- case: a publication of every table
-- expect: MT090 error app.note; MT090 error app.task
reset role; create publication corpus_all for all tables;

-- case: a publication with a row filter
-- expect: nothing
reset role; create publication corpus_some for table app.note where (is_public);

-- case: a publication of a shared table
-- expect: nothing
reset role; create table app.country (code text primary key); create publication corpus_some for table app.country;

-- case: large objects of the application role
-- expect: MT095 warn corpus_web; MT043 error corpus_web
reset role; do $$ declare o oid := lo_create(0); begin execute format('alter large object %s owner to corpus_web', o); end $$;

-- case: large objects of the owner
-- expect: nothing
select lo_create(0);

-- case: a schema's name that may have been cut
-- expect: MT096 error tenant_0123456789_0123456789_0123456789_0123456789_0123456789_0
reset role; create schema tenant_0123456789_0123456789_0123456789_0123456789_0123456789_0;

-- case: schemas that differ by case
-- expect: MT097 error Acme, acme
reset role; create schema acme; create schema "Acme";

-- case: a user mapping for all
-- expect: MT098 error corpus_server
reset role; create foreign data wrapper corpus_wrapper; create server corpus_server foreign data wrapper corpus_wrapper; create user mapping for public server corpus_server;

-- case: a user mapping for the application role
-- expect: MT098 error corpus_server
reset role; create foreign data wrapper corpus_wrapper; create server corpus_server foreign data wrapper corpus_wrapper; create user mapping for corpus_web server corpus_server;

-- case: a user mapping for the owner
-- expect: nothing
reset role; create foreign data wrapper corpus_wrapper; create server corpus_server foreign data wrapper corpus_wrapper; create user mapping for corpus_keeper server corpus_server;

-- case: an untrusted language
-- expect: MT099 warn corpus_language
reset role; create language corpus_language handler plpgsql_call_handler;

-- case: a trusted language
-- expect: nothing
reset role; create trusted language corpus_language handler plpgsql_call_handler; revoke usage on language corpus_language from public;
