//! The declared channels: what one tenant may notice of others, and what closes it.
//!
//! This is the published list (`docs/attacks.md` repeats it, and a test keeps them equal). A program that succeeds through
//! one of these is listed and is no breach; whatever succeeds otherwise is one.

/// A channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) name: &'static str,
    /// What can be noticed or done.
    pub(super) what: &'static str,
    /// Why row security leaves it open.
    pub(super) why: &'static str,
    /// What closes it.
    pub(super) closed_by: &'static str,
}

/// The list.
pub(super) const CHANNELS: &[Channel] = &[
    Channel {
        name: "sequence-gaps",
        what: "the next number of a shared table's sequence tells how many others took",
        why: "a sequence is one counter for all tenants of a shared table",
        closed_by: "ids made by the application (uuid v7); isolation schema or database",
    },
    Channel {
        name: "sizes-and-counters",
        what: "how large shared tables are and how much is written in them",
        why: "PostgreSQL shows sizes, statistics' counters and reltuples to everybody",
        closed_by: "hardening; isolation database (in a schema of one's own they are one's own table's, and still readable)",
    },
    Channel {
        name: "activity",
        what: "the text of other statements of the same application role, without bound values",
        why: "a role sees its own sessions' statements in pg_stat_activity",
        closed_by: "bound parameters, which is what the library sends; hardening; isolation database, whose role is its own",
    },
    Channel {
        name: "transaction-numbers",
        what: "how many transactions and how much write-ahead log the server makes",
        why: "the counters are the server's",
        closed_by: "a server of one's own",
    },
    Channel {
        name: "catalog-names",
        what: "how many databases, schemas and roles there are, and their names, which are made of ids",
        why: "the system catalogs are readable by everybody",
        closed_by: "nothing; the names tell no customer's name",
    },
    Channel {
        name: "notifications",
        what: "what an application sends with NOTIFY reaches every listener in the database",
        why: "channels know no rows",
        closed_by: "the library refuses LISTEN and NOTIFY in the code lane; hardening for pg_notify; isolation database",
    },
    Channel {
        name: "advisory-locks",
        what: "whether a lock number is taken, and taking it from others",
        why: "lock numbers are one space for all of a database",
        closed_by: "hardening; isolation database",
    },
    Channel {
        name: "large-objects",
        what: "large objects that the application makes belong to its role and to no tenant",
        why: "large objects know no rows",
        closed_by: "hardening; rows instead of large objects; isolation database",
    },
    Channel {
        name: "locks",
        what: "locking a shared table keeps all others waiting",
        why: "who may change a row may lock its table",
        closed_by: "the library refuses LOCK in the code lane; time-outs; isolation schema does not, database does",
    },
    Channel {
        name: "ending-sessions",
        what: "sessions of the same application role can be cancelled and ended",
        why: "a role may end its own sessions",
        closed_by: "hardening; isolation database, whose role is its own",
    },
    Channel {
        name: "leaked-token",
        what: "a token that was made for a new session and leaked with its code can be used again in that very session after a reset, for 30 seconds",
        why: "a session keeps nothing that its own reset does not forget",
        closed_by: "tokens are bound values, which no other session can read; the pool marks only a session's first token so",
    },
    Channel {
        name: "own-role",
        what: "the application role's password and default settings can be changed, which keeps new connections out until they are set again",
        why: "PostgreSQL lets every role change its own password and defaults, and no right takes that away",
        closed_by: "the library refuses ALTER in the code lane; `tenantry server set <name> --new-passwords` and the next start of `serve` put both back; isolation database, whose role is its own",
    },
    Channel {
        name: "exhaustion",
        what: "long statements, sleep, temporary files and open transactions take what others need",
        why: "PostgreSQL has no limits per row's owner",
        closed_by: "the pool's time-outs and its fairness; isolation database on a server of one's own",
    },
    Channel {
        name: "row-order",
        what: "the order of rows without ORDER BY depends on what others deleted before",
        why: "rows of shared tables share pages",
        closed_by: "ORDER BY; isolation schema or database",
    },
    Channel {
        name: "plans",
        what: "EXPLAIN shows estimates, and buffers and filtered rows, that depend on others' rows",
        why: "statistics and pages of a shared table are all tenants' together",
        closed_by: "indexes that begin with tenant_id, which is how ours are made; isolation schema or database",
    },
];

/// The channel of this name.
pub(super) fn channel(name: &str) -> Option<&'static Channel> {
    CHANNELS.iter().find(|channel| channel.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_list_is_this_one() {
        let published = include_str!("../../../../docs/attacks.md");
        let rows: Vec<String> = CHANNELS
            .iter()
            .map(|channel| {
                let Channel {
                    name,
                    what,
                    why,
                    closed_by,
                } = channel;
                format!("| `{name}` | {what} | {why} | {closed_by} |")
            })
            .collect();
        let listed: Vec<&str> = published.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(listed, rows);
    }

    #[test]
    fn every_channel_is_shown_by_a_program() {
        let programs = crate::attack::program::all().unwrap();
        for channel in CHANNELS {
            assert!(
                programs
                    .iter()
                    .any(|program| program.declared.as_deref() == Some(channel.name)),
                "{} is declared and nothing shows it",
                channel.name
            );
        }
    }
}
