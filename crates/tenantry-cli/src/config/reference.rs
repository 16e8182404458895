//! `docs/configuration.md`, made from the keys themselves.

use clap::{Args as _, Command};

use super::{KEYS, Kind, Overrides, layers::variable};

/// The page: each key with how it is written in the file, in the environment and as an option, and what it means.
fn page() -> String {
    let options = Overrides::augment_args(Command::new("tenantry"));
    let mut page = String::from(
        "# Configuration\n\n\
         `tenantry.toml` in the current folder or `--config FILE`; over it the environment; over it the options. A key that nobody knows is an \
         error that names it. The master key itself stands in `TENANTRY_MASTER_KEY` or in the file that `master_key_file` names, and nowhere else.\n\n\
         This page is made from the code: `TENANTRY_BLESS=1 cargo test -p tenantry-cli configuration_page` writes it.\n\n\
         | In the file | In the environment | As an option | What it is |\n|---|---|---|---|\n",
    );
    for (key, kind) in KEYS {
        let option = options.get_arguments().find(|option| option.get_id() == *key);
        let (what, value) = option.map_or_else(Default::default, |option| {
            let value = option.get_value_names().and_then(<[_]>::first);
            (
                option.get_help().map(ToString::to_string).unwrap_or_default(),
                value.map(|value| value.as_str().to_owned()).unwrap_or_default(),
            )
        });
        let written = match kind {
            Kind::Text => "\"…\"",
            Kind::Toml => "…",
        };
        page.push_str(&format!(
            "| `{key} = {written}` | `{}` | `--{} {value}` | {} |\n",
            variable(key),
            key.replace('_', "-"),
            what.replace('|', "\\|")
        ));
    }
    page
}

#[test]
fn the_configuration_page_is_what_the_code_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("TENANTRY_BLESS").is_some() {
        std::fs::write(&path, page()).expect("the page is written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, page(), "write it anew: see the page");
    assert!(!page().contains("|  |"), "a key without an option or without a meaning");
}

/// What is packaged configures what there is.
#[test]
fn the_packages_name_keys_that_exist() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    let mut named = 0;
    for file in ["Dockerfile", "compose.yaml", "setup.sh", "tenantry.service"] {
        let text = std::fs::read_to_string(folder.join(file)).expect("a packaged file");
        for (at, _) in text.match_indices("TENANTRY_") {
            let end = text[at..].find(|c: char| !(c.is_ascii_uppercase() || c == '_'));
            let name = &text[at..end.map_or(text.len(), |end| at + end)];
            let known = name == "TENANTRY_MASTER_KEY" || KEYS.iter().any(|(key, _)| variable(key) == name);
            assert!(known, "{file}: {name} is no key");
            named += 1;
        }
    }
    assert!(named > 5, "only {named} variables were found");
}
