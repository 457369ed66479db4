//! `--format json`: one document to a command, of a schema that has a number.

use std::process::Command;

use proof::Identity;
use serde_json::Value;

use crate::operator::{Place, arg};
use crate::support::*;

/// The one document that a command prints.
fn document(command: &mut Command, exit: i32) -> Value {
    let shown = format!("{command:?}");
    let (got, out, err) = outcome(&command.args(["--format", "json"]).output().unwrap());
    assert_eq!(got, exit, "{shown}: {err}");
    assert!(out.ends_with('\n') && out.trim_end().lines().count() == 1, "{shown}: {out}");
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{shown}: {out}"));
    assert_eq!(told["schema"], 1, "{shown}: {out}");
    told
}

#[test]
fn each_command_on_keys_prints_one_document_with_a_schema() {
    let place = Place::new();
    let tells = |words: &str| document(&mut place.command(words), 0);
    let passphrase = place.scratch.write("bundle-passphrase", "for the bundle\n");
    let with = format!("--bundle-passphrase-file {}", arg(&passphrase));
    tells("keyspace new team");
    tells("key new team/release");
    let show = tells("keyspace show team");
    assert_eq!(
        (&show["key_space"]["key_space"], &show["key_space"]["key_count"]),
        (&"team".into(), &1.into())
    );
    assert!(place.does("keyspace show team").starts_with("team 1 keys, made 20"));
    place.refuses("keyspace show none", 2, "there is no key space `none`");
    assert_eq!(tells("keyspace list")["key_spaces"][0]["key_space"], "team");
    assert_eq!(tells("key list")["keys"][0]["key"], "release");
    tells("key rotate team/release");
    let show = tells("key show team/release");
    assert_eq!(
        (&show["key"]["version"], show["versions"].as_array().unwrap().len()),
        (&2.into(), 2)
    );
    let public = tells("key public team/release")["value"].as_str().unwrap().to_owned();
    assert_eq!(show["versions"][1]["public_key"], public);
    tells("key disable team/release");
    assert_eq!(tells("key list")["keys"][0]["state"], "disabled");
    tells("key enable team/release");
    tells("key delete team/release --yes");
    let deleted = tells("key list")["keys"][0].clone();
    let until = deleted["deleted_until"].as_u64().unwrap();
    assert!(deleted["state"] == "deleted" && until >= now() + 6 * 24 * 60 * 60, "{deleted}");
    tells("key restore team/release");
    assert!(tells("key recipient")["value"].as_str().unwrap().starts_with("age1"));
    let bundle = place.scratch.path("team.ccb");
    tells(&format!("keyspace export team --output {} {with}", arg(&bundle)));
    tells(&format!("keyspace import {} --rename copy {with}", arg(&bundle)));
    tells("keyspace rename copy again");
    tells("keyspace verify");
    let new = place.scratch.write("new", "for the day after\n");
    tells(&format!("keyspace passwd --set backup --new-passphrase-file {}", arg(&new)));
    tells("keyspace rotate --yes");
    tells("keyspace delete again --yes");
    assert_eq!(place.does("keyspace list"), "team\n");
    place.refuses("keyspace delete again --yes", 2, "there is no key space `again`");
    let destroyed = std::fs::read_to_string(place.home.join("audit.log")).unwrap();
    assert!(destroyed.contains("\"call\":\"keyspace delete\",\"on\":\"again\",\"status\":\"ok\""));
}

#[test]
fn each_command_on_scripts_and_policies_prints_one_document_with_a_schema() {
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN_TO_ANYBODY);
    let narrow = scratch.write("narrow.toml", "version = 1\nservice.name = \"s\"\n");
    let wrong = scratch.write("wrong.toml", "version = 2\n");
    let script = scratch.write("s.rhai", "sign(1)");
    let with = |words: &str, files: &[&std::path::Path]| {
        let mut command = cli();
        command.args(words.split(' ')).args(files);
        command
    };
    document(cli().arg("doctor"), 0);
    let run = document(&mut with("run --ephemeral --policy", &[&policy, &script]), 1);
    assert_eq!(run["error"]["code"], "script-error");
    document(&mut with("check --policy", &[&policy, &script]), 0);
    let none =
        scratch.write("none.toml", "version = 1\nservice.name = \"s\"\n[anonymous]\nroles = []\n");
    let check = document(&mut with("check --policy", &[&none, &script]), 1);
    assert_eq!(check["findings"][0]["line"], 1);
    document(&mut with("policy check", &[&policy]), 0);
    assert_ne!(
        document(&mut with("policy check", &[&wrong]), 2)["findings"],
        serde_json::json!([])
    );
    document(&mut with("policy explain --call sign --key a/b --policy", &[&policy]), 0);
    assert_ne!(
        document(&mut with("policy diff", &[&narrow, &policy]), 1)["changes"],
        serde_json::json!([])
    );
    document(&mut with("policy test policy/examples/team.toml", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_and_receipt_print_one_document_with_a_schema() {
    let nats = Nats::plain();
    let alice = Identity::generate();
    let service = Service::start(&nats, &(client_entry("alice", &alice, "all") + OPEN_TO_ANYBODY));
    service.await_proofs();
    let receipt = service.scratch.path("receipt");
    let mut request = cli();
    request.arg("request").arg(service.scratch.write("s.rhai", "[1, #{ a: \"b\" }]"));
    request.args(["--server", &nats.url(), "--service", SERVICE, "--service-nkey", &service.nkey]);
    request.arg("--receipt").arg(&receipt).arg("--identity");
    request.arg(service.scratch.seed_file("alice.nk", &alice));
    let told = document(&mut request, 0);
    assert_eq!(
        (&told["status"], &told["result"]),
        (&"ok".into(), &serde_json::json!([1, { "a": "b" }]))
    );
    let mut verify = cli();
    verify.args(["receipt", "verify", "--service-nkey", &service.nkey]).arg(&receipt);
    document(&mut verify, 0);
    let mut verify = cli();
    verify.args(["audit", "verify", "--service-nkey", &service.nkey, "--home"]).arg(&service.home);
    document(&mut verify, 0);
}
