//! What programs read of an operator's commands: numbers and names, never a sentence to take apart.

use serde_json::{Value, json};

use crate::operator::{Place, arg};
use crate::support::*;

fn document(place: &Place, words: &str) -> Value {
    serde_json::from_str(&place.does(&format!("{words} --format json"))).unwrap()
}

/// What was done, beside what people are told.
fn done(place: &Place, words: &str) -> Value {
    let document = document(place, words);
    assert!(!document["message"].as_str().unwrap().is_empty(), "{document}");
    document["done"].clone()
}

fn is_told_in_members(place: &Place) {
    let space = json!({ "act": "keyspace new", "key_space": "team" });
    assert_eq!(done(place, "keyspace new team"), space);
    let key = json!({ "act": "key new", "key_space": "team", "key": "k", "algorithm": "p256" });
    assert_eq!(done(place, "key new team/k --algorithm p256"), key);
    assert_eq!(done(place, "key rotate team/k")["version"], 2);
    let bundle = place.scratch.path("team.ccb");
    let to = place.does("key recipient");
    let export = format!("keyspace export team --to {} --output {}", to.trim(), arg(&bundle));
    assert_eq!(done(place, &export), json!({ "act": "keyspace export", "key_count": 1 }));
    let import = format!("keyspace import {} --to-us --skip-existing", arg(&bundle));
    let imported = json!({ "act": "keyspace import", "key_space_count": 0, "key_count": 0,
        "skipped_count": 1 });
    assert_eq!(done(place, &import), imported);
    let found = done(place, "keyspace verify");
    assert_eq!((&found["key_space_count"], &found["key_count"]), (&json!(1), &json!(1)));
    let operator =
        json!({ "passphrase": "operator", "memory_kib": 65536, "passes": 3, "lanes": 4 });
    assert_eq!(found["passphrases"], json!([operator]));
    // A key space is the same object wherever it is told, and so is a key.
    let shown = document(place, "keyspace show team")["key_space"].clone();
    assert_eq!((&shown["key_space"], &shown["key_count"]), (&json!("team"), &json!(1)));
    let listed = document(place, "keyspace list")["key_spaces"][0].clone();
    assert_eq!(
        (&listed["key_space"], &listed["created"]),
        (&shown["key_space"], &shown["created"])
    );
    assert_eq!(document(place, "key list")["keys"][0], document(place, "key show team/k")["key"]);
    let jwk = document(place, "key public team/k --as jwk")["value"].clone();
    assert_eq!((&jwk["kty"], &jwk["crv"]), (&json!("EC"), &json!("P-256")));
    let deleted = done(place, "key delete team/k --yes --wait-days 2");
    let days = (deleted["deleted_until"].as_u64().unwrap() - now()).div_ceil(86_400);
    assert_eq!(days, 2, "{deleted}");
}

#[test]
fn what_a_command_does_is_told_to_programs_in_members() {
    let place = Place::new();
    is_told_in_members(&place);
    let policy = place.scratch.write("untidy.toml", "version=1\n[service]\nname=\"s\"\n");
    let mut fmt = cli();
    let (exit, out, _) =
        outcome(&fmt.args(["policy", "fmt", "--format", "json"]).arg(&policy).output().unwrap());
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, told), (0, json!({ "schema": 1, "changed": [arg(&policy)] })));
    let home = place.scratch.path("another");
    let mut init = cli();
    init.args(["init", "--yes", "--format", "json", "--passphrase-file"]);
    init.arg(place.scratch.passphrase_file()).arg("--home").arg(&home);
    let made: Value = serde_json::from_str(&outcome(&init.output().unwrap()).1).unwrap();
    assert_eq!(made["service_nkey"].as_str().unwrap().len(), 56, "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_does_and_tells_the_same() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let place = Place {
        scratch: Scratch::new(),
        home: service.home.clone(),
        nkey: service.nkey.clone(),
        passphrase: service.scratch.passphrase_file(),
    };
    is_told_in_members(&place);
    let ask = |words: &str| {
        let mut command = cli();
        command.args(words.split(' ')).args(["--format", "json", "--home"]).arg(&service.home);
        serde_json::from_str::<Value>(&outcome(&command.output().unwrap()).1).unwrap()
    };
    assert_eq!(ask("policy reload")["done"], json!({ "act": "policy reload" }));
    let mut unseal = place.command("unseal --format json");
    let told: Value = serde_json::from_str(&outcome(&unseal.output().unwrap()).1).unwrap();
    assert_eq!(told["done"], json!({ "act": "unseal", "before": true }));
}
