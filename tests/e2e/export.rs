//! Keys leave by a script only for those whom the policy names.

use data_encoding::BASE64;
use proof::Identity;

use crate::operator::{Place, arg};
use crate::support::*;

/// Takes a bundle in, as one that is encrypted to this keyspace.
fn import(place: &Place, bundle: &str) -> (i32, String, String) {
    let file = place.scratch.write("bundle.age", BASE64.decode(bundle.as_bytes()).unwrap());
    place.ask(&format!("keyspace import {} --to-us", arg(&file)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_exports_to_those_whom_the_policy_names_and_to_nobody_else() {
    let (nats, backup, stranger) = (Nats::plain(), Place::new(), Place::new());
    let (keeper, signer) = (Identity::generate(), Identity::generate());
    let to = backup.does("key recipient").trim().to_owned();
    let policy = [
        client_entry("keeper", &keeper, "keeper"),
        client_entry("signer", &signer, "signer"),
        format!(
            "[[role]]\nname = \"keeper\"\n\
             allow = [{{ calls = [\"*\"], keys = [\"*/*\"], export_to = [\"{to}\"], uses = 100 }}]\n\
             deny = [{{ calls = [\"export_key_space\"], keys = [\"vault/root-*\"] }}]\n\
             [[role]]\nname = \"signer\"\nallow = [{{ calls = [\"*\"], keys = [\"*/*\"] }}]\n"
        ),
    ]
    .concat();
    let service = Service::start(&nats, &policy);
    let client = nats.client().await;
    service.await_proofs();
    let ask = |who, script| ask_signed(&client, &service, who, script);
    let make =
        "create_key_space(\"vault\"); create_key_space(\"s\"); create_keypair(\"k\"); public_key()";
    let public = ask(&signer, make).await.text;
    for (who, script, error) in [
        (&signer, "export_key_space(\"s\")", "policy-denied"),
        (&signer, "try { export_key_space(\"s\") } catch { 1 }", "policy-denied"),
        (&signer, "Fn(\"export_\" + \"key_space\").call(\"s\")", "policy-denied"),
        (&keeper, "export_key_space(\"vault\")", "policy-denied"),
        (&keeper, "export_key_space(\"none\")", "script-error"),
        (&keeper, "export_key_space(\"../s\")", "script-error"),
        (&keeper, "export_key_space(\"s\", \"age1\")", "script-error"),
    ] {
        let reply = ask(who, script).await;
        assert_eq!(reply.error.as_deref(), Some(error), "{script}: {}", reply.text);
    }
    let reply = ask(&keeper, "create_keypair(\"s/new\"); export_key_space(\"s\")").await;
    assert_eq!(reply.error, None, "{}", reply.text);
    let (exit, _, err) = import(&stranger, &reply.text);
    assert_eq!(exit, 3, "{err}");
    let (exit, _, err) = import(&backup, &reply.text);
    assert_eq!(exit, 0, "{err}");
    assert_eq!(backup.does("key public s/k").trim(), public);
    backup.does("key public s/new");
    let audit = service.audit();
    let exported: Vec<_> = audit.iter().filter(|line| line["kind"] == "export").collect();
    // Those of no key space were allowed as well, and nothing has left.
    assert_eq!(exported.len(), 1);
    let line = &exported[0];
    assert_eq!((&line["on"], &line["to"][0], &line["keys"]), (&"s".into(), &to.into(), &2.into()));
    let bundle = BASE64.decode(reply.text.as_bytes()).unwrap();
    assert_eq!(line["result"], proof::digest(&bundle));
    let receipt = reply.proof.unwrap();
    let claims = receipt.split('.').nth(1).unwrap();
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["keys"], serde_json::json!(["s/k", "s/new"]), "the answer says what left");
}
