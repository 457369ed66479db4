//! The floors of the house: who may depend on whom, and which foreign world lives where. The table
//! is the one of `src/README.md`.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Our crates by floor: a crate may use only crates that stand lower.
const FLOORS: [(&str, u8); 10] = [
    ("wire", 0),
    ("policy", 1),
    ("proof", 1),
    ("sandbox", 1),
    ("keyspace", 2),
    ("client", 2),
    ("script", 3),
    ("broker", 3),
    ("listener", 3),
    ("crypto-cli", 4),
];

/// Foreign crates that only these of ours may name.
const WORLDS: [(&str, &[&str]); 29] = [
    ("rhai", &["script"]),
    ("async-nats", &["client", "listener"]),
    ("tokio", &["client", "listener"]),
    ("futures-util", &["listener"]),
    ("rustls", &["client"]),
    ("rustls-native-certs", &["client"]),
    ("redb", &["keyspace"]),
    ("argon2", &["keyspace"]),
    ("chacha20poly1305", &["keyspace"]),
    ("hkdf", &["keyspace"]),
    ("hmac", &["keyspace"]),
    ("hpke", &["keyspace"]),
    ("bech32", &["policy"]),
    ("pkcs8", &["keyspace"]),
    ("sec1", &["keyspace"]),
    ("ssh-key", &["keyspace"]),
    ("k256", &["keyspace"]),
    ("p256", &["keyspace"]),
    ("sha3", &["keyspace"]),
    ("x25519-dalek", &["keyspace"]),
    ("ed25519-dalek", &["keyspace", "proof"]),
    ("libc", &["sandbox"]),
    ("seccompiler", &["sandbox"]),
    ("landlock", &["sandbox"]),
    ("talc", &["sandbox"]),
    ("toml", &["policy"]),
    ("clap", &["crypto-cli"]),
    ("rpassword", &["crypto-cli"]),
    ("rcgen", &["crypto-cli"]),
];

/// Crate → the names in its `[dependencies]`, of every target.
fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let whole: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let shared =
        whole.get("workspace").and_then(|w| w.get("dependencies")).unwrap().as_table().unwrap();
    let package = |entry: &toml::Value| Some(entry.get("package")?.as_str()?.to_owned());
    let foreign = |name: &str| !FLOORS.iter().any(|(known, _)| *known == name);
    let aliases: BTreeMap<String, String> = shared
        .iter()
        .filter(|(name, _)| foreign(name))
        .filter_map(|(name, entry)| Some((name.clone(), package(entry)?)))
        .collect();
    FLOORS
        .iter()
        .map(|(name, _)| {
            let folder =
                if *name == "crypto-cli" { root.to_owned() } else { root.join("src").join(name) };
            let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let manifest: toml::Table = text.parse().unwrap();
            let mut found = BTreeSet::new();
            collect(&manifest, &aliases, &mut found);
            for target in manifest
                .get("target")
                .and_then(|t| t.as_table())
                .into_iter()
                .flat_map(|t| t.values())
            {
                collect(target.as_table().unwrap(), &aliases, &mut found);
            }
            ((*name).to_owned(), found)
        })
        .collect()
}

/// Build dependencies run on the builder's machine with all its rights: they count as well.
fn collect(table: &toml::Table, aliases: &BTreeMap<String, String>, found: &mut BTreeSet<String>) {
    for section in ["dependencies", "build-dependencies"] {
        let Some(entries) = table.get(section).and_then(|section| section.as_table()) else {
            continue;
        };
        for (name, entry) in entries {
            let renamed = entry.get("package").and_then(|package| package.as_str());
            let name = renamed.unwrap_or(name);
            found.insert(aliases.get(name).map_or(name, String::as_str).to_owned());
        }
    }
}

#[test]
fn dependencies_point_down() {
    let floors: BTreeMap<_, _> = FLOORS.into();
    for (name, dependencies) in manifests() {
        for ours in dependencies.iter().filter(|d| floors.contains_key(d.as_str())) {
            let (from, to) = (floors[name.as_str()], floors[ours.as_str()]);
            assert!(to < from, "`{name}` (floor {from}) uses `{ours}` (floor {to})");
        }
    }
}

#[test]
fn every_member_of_the_workspace_has_a_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    for member in members {
        let name = member.as_str().unwrap().trim_start_matches("src/");
        assert!(FLOORS.iter().any(|(known, _)| *known == name), "{name}");
    }
    assert_eq!(members.len() + 1, FLOORS.len());
}

#[test]
fn each_foreign_world_is_named_in_its_own_crates_only() {
    let manifests = manifests();
    for (foreign, homes) in WORLDS {
        let named: Vec<&str> = manifests
            .iter()
            .filter(|(_, dependencies)| dependencies.contains(foreign))
            .map(|(name, _)| name.as_str())
            .collect();
        let mut homes = homes.to_vec();
        homes.sort_unstable();
        assert_eq!(named, homes, "who names `{foreign}`");
    }
}

#[test]
fn the_listener_and_the_script_cannot_name_a_key() {
    let manifests = manifests();
    for name in ["listener", "script", "client", "wire", "sandbox"] {
        assert!(!manifests[name].contains("keyspace"), "{name}");
    }
    for name in ["broker", "keyspace"] {
        for foreign in ["rhai", "async-nats", "tokio", "rustls"] {
            assert!(!manifests[name].contains(foreign), "{name} names {foreign}");
        }
    }
}

/// What has no policy over it is in the hands of one function.
#[test]
fn the_operators_authority_is_used_in_one_place() {
    fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let users =
        files.iter().filter(|file| fs::read_to_string(file).unwrap().contains("as_operator"));
    let users: Vec<_> = users.map(|file| file.strip_prefix(&root).unwrap()).collect();
    let users: Vec<_> = users.into_iter().filter(|file| !file.starts_with("keyspace")).collect();
    assert_eq!(users, [Path::new("broker/operate.rs")]);
}

#[test]
fn unsafe_code_has_one_address() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in FLOORS.iter().filter(|(name, _)| *name != "sandbox") {
        let file = match *name {
            "crypto-cli" => root.join("src/cli/main.rs"),
            name => root.join("src").join(name).join("lib.rs"),
        };
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
    }
    let worker = fs::read_to_string(root.join("src/script/bin/crypto-cli-worker.rs")).unwrap();
    assert!(worker.contains("#![forbid(unsafe_code)]"));
}

/// The linker's word: neither executable holds the other's worlds.
#[test]
fn neither_executable_contains_what_it_must_not() {
    let holds = |program: &str, word: &str| {
        let bytes = fs::read(program).unwrap();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    };
    let (main, worker) =
        (env!("CARGO_BIN_EXE_crypto-cli"), env!("CARGO_BIN_EXE_crypto-cli-worker"));
    // What is linked leaves the paths of its sources, in the places of its panics.
    assert!(holds(worker, "/rhai-") && !holds(main, "/rhai-"), "the script engine");
    for foreign in ["/async-nats-", "/rustls-", "/redb-", "/tokio-", "/argon2-"] {
        assert!(holds(main, foreign), "{foreign} is not found where it must be");
        assert!(!holds(worker, foreign), "the worker's executable holds {foreign}");
    }
    // These panic nowhere, so their symbols are looked for.
    for foreign in ["ed25519_dalek", "chacha20poly1305"] {
        assert!(holds(main, foreign), "{foreign} is not found where it must be");
        assert!(!holds(worker, foreign), "the worker's executable holds {foreign}");
    }
}
