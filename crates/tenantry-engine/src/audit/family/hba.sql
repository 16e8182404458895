select 'MT094' as id, null as severity, 'pg_hba.conf:' || h.line_number as object,
       format('%s %s %s lets in by %s', h.type, array_to_string(h.database, ','), array_to_string(h.user_name, ','), h.auth_method) as message,
       'use scram-sha-256 in that line' as mend, null as target
  from pg_hba_file_rules h where h.auth_method in ('trust', 'password', 'md5', 'ident')
 order by h.line_number
