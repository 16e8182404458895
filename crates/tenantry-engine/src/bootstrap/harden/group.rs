//! What is taken from PUBLIC, in groups that belong together, each with its reason.

/// Rights that are taken from PUBLIC together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its name; for functions of an extension, the extension's.
    pub name: &'static str,
    /// The functions of `pg_catalog`, as a pattern of their names.
    pub(super) functions: &'static str,
    /// The tables and views of `pg_catalog`, as a pattern of their names.
    pub(super) relations: &'static str,
    /// What SQL from outside does with it.
    pub why: &'static str,
    /// What an application misses.
    pub breaks: &'static str,
    /// What is granted to the application role to have it back.
    pub back: &'static str,
}

/// All groups. A group that is added here is found missing on databases that were hardened before.
pub const GROUPS: &[Group] = &[
    Group {
        name: "activity",
        functions: r"^(pg_stat_get_\w+|pg_lock_status|pg_blocking_pids|pg_safe_snapshot_blocking_pids|pg_prepared_xact)$",
        relations: "^(pg_stat_.+|pg_statio_.+|pg_stats|pg_stats_ext|pg_stats_ext_exprs|pg_locks|pg_prepared_xacts)$",
        why: "reads what other sessions of the application role run, with the constants in it; counts other tenants' rows, calls and locks",
        breaks: "monitoring by the application role; use a role that is a member of `pg_monitor`, which keeps all of it",
        back: "`select` on the view and `execute` on the functions it calls",
    },
    Group {
        name: "signals",
        functions: "^(pg_cancel_backend|pg_terminate_backend)$",
        relations: "",
        why: "ends or stops the sessions of every other tenant in the database, which have the same role",
        breaks: "an application that stops its own statements by SQL; drop the future instead",
        back: "`execute` on the function",
    },
    Group {
        name: "notify",
        functions: "^(pg_notify|pg_listening_channels|pg_notification_queue_usage)$",
        relations: "",
        why: "channels are the database's: what one tenant sends, every listener gets",
        breaks: "triggers and queries that call `pg_notify`; the statement `notify` has no right to take and is refused on scoped connections",
        back: "`execute` on function `pg_notify(text, text)`",
    },
    Group {
        name: "advisory-locks",
        functions: r"^pg_(try_)?advisory_\w+$",
        relations: "",
        why: "keys are the database's: one tenant holds, and sees held, what another waits for",
        breaks: "job queues and migrations of the application's own that use advisory locks",
        back: "`execute` on the functions used, those that end with the transaction (`…_xact_…`) at best",
    },
    Group {
        name: "large-objects",
        functions: r"^(lo_\w+|loread|lowrite)$",
        relations: "^pg_largeobject_metadata$",
        why: "large objects know no tenants, and all of the application role's are everybody's",
        breaks: "large objects; use `bytea` in an isolated table",
        back: "nothing that would be safe in shared tables",
    },
    Group {
        name: "sleep",
        functions: "^pg_sleep(_for|_until)?$",
        relations: "",
        why: "holds connections, and the moment a fence has to wait for, at no cost",
        breaks: "waiting in SQL",
        back: "`execute` on the function",
    },
    Group {
        name: "transaction-numbers",
        functions: r"^(txid_current|txid_current_if_assigned|txid_current_snapshot|txid_status|pg_current_xact_id|pg_current_xact_id_if_assigned|pg_current_snapshot|pg_xact_status|pg_xact_commit_timestamp|pg_xact_commit_timestamp_origin|pg_last_committed_xact|pg_get_multixact_members|pg_current_wal_\w+|pg_last_wal_\w+|pg_walfile_name|pg_walfile_name_offset)$",
        relations: "",
        why: "numbers of the whole server, which say how busy all others are; the hidden column `xmin` says so still",
        breaks: "outbox tables and change feeds that store `pg_current_xact_id()`",
        back: "`execute` on the function",
    },
    Group {
        name: "write-ahead-log",
        functions: "^(pg_logical_emit_message|pg_export_snapshot)$",
        relations: "",
        why: "writes to the server's log what no table bounds, into the stream that moves read; keeps old rows from being removed",
        breaks: "messages of the application's in logical replication",
        back: "`execute` on the function",
    },
    Group {
        name: "sizes",
        functions: "^(pg_relation_size|pg_table_size|pg_total_relation_size|pg_indexes_size|pg_database_size|pg_tablespace_size|pg_relation_filenode|pg_relation_filepath|pg_filenode_relation)$",
        relations: "",
        why: "sizes of shared tables are those of all tenants; `pg_class.relpages` says roughly the same still",
        breaks: "pages that show how much a tenant stores",
        back: "`execute` on the function",
    },
    Group {
        name: "text-as-query",
        functions: "^((query|table|cursor|schema|database)_to_xml(schema|_and_xmlschema)?|ts_stat|ts_rewrite)$",
        relations: "",
        why: "runs a text as a query, past whoever looks at statements",
        breaks: "XML made from queries (`xmlelement`, `xmlagg` stay); `ts_stat` and `ts_rewrite`",
        back: "`execute` on the function",
    },
    Group {
        name: "statement-names",
        functions: "^(pg_prepared_statement|pg_cursor)$",
        relations: "^(pg_prepared_statements|pg_cursors)$",
        why: "tells the names of the statements that Tenantry has prepared, which must be known to be replaced",
        breaks: "nothing that we know of",
        back: "`select` on the view and `execute` on the function it calls",
    },
    Group {
        name: "seed",
        functions: "^setseed$",
        relations: "",
        why: "makes `random()` of the next tenant on the connection known; `discard all` does not undo it",
        breaks: "repeatable random numbers in SQL",
        back: "`execute` on the function",
    },
    Group {
        name: "languages",
        functions: "",
        relations: "",
        why: "`do` runs any statement from text, so `lock table`, `notify` or `alter role … set` past whoever looks at statements",
        breaks: "`do` and `create function` by the application role; migrations and functions that exist go on",
        back: "`usage` on the language",
    },
    Group {
        name: "dblink",
        functions: "",
        relations: "",
        why: "opens connections from the server, to other databases and past firewalls",
        breaks: "`dblink` where the extension is installed",
        back: "`execute` on the functions used",
    },
];

impl Group {
    /// The group's row in `docs/hardening.md`.
    pub fn row(&self) -> String {
        format!("| `{}` | {} | {} | {} |", self.name, self.why, self.breaks, self.back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_a_row_for_each_group() {
        let page = include_str!("../../../../../docs/hardening.md");
        for group in GROUPS {
            assert!(page.contains(&group.row()), "docs/hardening.md lacks:\n{}", group.row());
        }
    }
}
