//! Every command where the catalog is away: told in one line with what to do, and nothing is left.

use std::collections::BTreeSet;

use crate::support::Folder;

/// What needs no catalog: `dev`, `adopt` and `bench` bring their own, `doctor` lists what is wrong.
const WITHOUT: &[&str] = &["dev", "init", "adopt", "doctor", "bench", "completions"];

/// Every other command with arguments that are right.
const COMMANDS: &[&[&str]] = &[
    &["serve", "--listen", "127.0.0.1:0", "--log", "off"],
    &["audit"],
    &["tenant", "create", "acme"],
    &["tenant", "list"],
    &["tenant", "show", "acme"],
    &["tenant", "size", "acme"],
    &["tenant", "usage", "acme"],
    &["tenant", "move", "acme", "--to", "schema"],
    &["tenant", "suspend", "acme"],
    &["tenant", "resume", "acme"],
    &["tenant", "delete", "acme"],
    &["tenant", "purge", "acme", "--yes"],
    &["tenant", "erasure", "acme"],
    &["tenant", "hold", "acme", "--reason", "case 7"],
    &["tenant", "release", "acme"],
    &["tenant", "export", "acme", "--to", "file"],
    &["tenant", "import", "file", "--slug", "other"],
    &["tenant", "clone", "acme", "--slug", "other"],
    &["tenant", "diff", "acme", "other"],
    &["tenant", "restore", "acme", "--at", "latest", "--slug", "other"],
    &["backup", "create", "acme"],
    &["backup", "list"],
    &["backup", "verify", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &[
        "backup",
        "restore",
        "01a227dd-8968-72b2-8274-340314d5afcc",
        "--slug",
        "other",
    ],
    &["backup", "drill", "acme"],
    &["backup", "schedule", "acme"],
    &["backup", "schedule", "acme", "--interval-h", "6"],
    &["backup", "prune"],
    &["member", "list", "acme"],
    &["member", "add", "acme", "a@example.com", "--role", "member"],
    &["member", "set-role", "acme", "a@example.com", "admin"],
    &["member", "remove", "acme", "a@example.com"],
    &["member", "reset-password", "a@example.com"],
    &["job", "list", "acme"],
    &["job", "retry", "acme"],
    &["job", "remove", "acme", "--yes"],
    &["job", "schedules", "acme"],
    &["job", "unschedule", "acme", "nightly"],
    &["plan", "list"],
    &["plan", "set", "free", "--members", "3"],
    &["plan", "remove", "free"],
    &["server", "list"],
    &["server", "add", "one", "--url", "postgres://a:b@127.0.0.1:1/postgres"],
    &["server", "check"],
    &["server", "set", "one", "--connections", "9"],
    &["server", "drain", "one", "--yes"],
    &["server", "rebalance", "--yes"],
    &["server", "harden", "one"],
    &["migrate", "plan"],
    &["migrate", "apply"],
    &["migrate", "retry"],
    &["migrate", "status"],
    &["migrate", "verify"],
    &["migrate", "require", "1"],
    &["migrate", "diff", "--to", "file"],
    &["operation", "list"],
    &["operation", "show", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["operation", "certificate", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["operation", "pause", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["operation", "resume", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["operation", "abort", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["operation", "rollback", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["operation", "finish", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["token", "access", "a@example.com"],
    &["token", "create", "one", "--scope", "read"],
    &["token", "list"],
    &["token", "revoke", "01a227dd-8968-72b2-8274-340314d5afcc"],
    &["signing-key", "list"],
    &["signing-key", "rotate"],
    &["signing-key", "remove", "01a227dd-8968-72b2-8274-340314d5afcc"],
];

/// The commands below this one, as its help lists them.
fn below(folder: &Folder, command: &[&str]) -> Vec<String> {
    let mut arguments = command.to_vec();
    arguments.push("--help");
    let help = folder.run(arguments).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_says_which_catalog_is_away_and_what_to_do() {
    let folder = Folder::new();
    folder.write("file", "");
    let mut commands = BTreeSet::new();
    for top in below(&folder, &[]) {
        let subs = below(&folder, &[&top]);
        if subs.is_empty() {
            commands.insert(top);
        } else {
            commands.extend(subs.iter().map(|sub| format!("{top} {sub}")));
        }
    }
    let name = |command: &&[&str]| {
        let subs = !matches!(command[0], "serve" | "audit");
        command[..=usize::from(subs)].join(" ")
    };
    let tried: BTreeSet<String> = COMMANDS
        .iter()
        .map(name)
        .chain(WITHOUT.iter().map(|name| (*name).to_owned()))
        .collect();
    assert_eq!(
        commands, tried,
        "left: the commands that there are; right: those that are tried here"
    );

    let files = |folder: &Folder| -> BTreeSet<_> {
        std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    };
    let before = files(&folder);
    let environment = [
        ("TENANTRY_CATALOG_URL", "postgres://u:hunter2@127.0.0.1:1/catalog"),
        ("TENANTRY_MASTER_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
        ("TENANTRY_BACKUPS", "."),
    ];
    for command in COMMANDS {
        let run = folder.run_with(*command, &environment);
        let error = run.fails(1);
        assert!(
            error.contains("127.0.0.1:1") && error.contains("catalog_url") && !error.contains("hunter2"),
            "{command:?}: {error}"
        );
    }
    assert_eq!(files(&folder), before);
}
