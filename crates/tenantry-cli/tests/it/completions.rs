//! Completions of shells.

use crate::support::Folder;

#[test]
fn each_shell_gets_a_script_that_knows_the_commands() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = folder.run(["completions", shell]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(
            run.stdout.contains("tenantry") && run.stdout.contains("migrate"),
            "{shell}"
        );
    }
    assert_eq!(folder.run(["completions", "bash", "--json"]).json()["shell"], "bash");
}
