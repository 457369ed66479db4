//! One call of a host function does not take the service for longer than its script's time.

use std::path::Path;

use crate::support::*;

const KEYS: u64 = 9_000;
const BOUNDS: &str = "host_calls = 20_000\nnew_keys = 10_000\noperations = 10_000_000\n";

/// What came of a script in this home when it has so many milliseconds.
fn run(
    scratch: &Scratch,
    home: &Path,
    milliseconds: u64,
    more: &str,
    script: &str,
) -> serde_json::Value {
    let limits = format!("[limits]\n{BOUNDS}wall_clock = \"{milliseconds} ms\"\n");
    let policy = scratch.policy(&format!("{more}{limits}{OPEN_TO_ANYBODY}"));
    let mut command = cli();
    command.arg("run").arg(scratch.write("s.rhai", script));
    command.args(["--format", "json", "--policy"]).arg(policy).arg("--home").arg(home);
    let output = command.arg("--passphrase-file").arg(scratch.passphrase_file()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn wall_ms(outcome: &serde_json::Value) -> u64 {
    outcome["usage"]["wall_us"].as_u64().unwrap() / 1_000
}

/// The shortest time of a few tries, each of which must have been cut off: a busy machine adds to some.
fn cut_off(run: impl Fn() -> serde_json::Value) -> u64 {
    let tries = (0..5).map(|_| {
        let cut = run();
        assert_eq!(cut["error"]["code"], "limit-time", "{cut}");
        wall_ms(&cut)
    });
    tries.min().unwrap()
}

#[test]
fn a_list_or_a_deletion_of_many_keys_ends_at_the_scripts_time() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let make = format!(
        "create_key_space(\"full\"); for i in 0..{KEYS} {{ create_keypair(\"k\" + i, \"symmetric\"); }} 1"
    );
    let made = run(&scratch, &home, 60_000, "", &make);
    assert_eq!(made["result"], 1, "{made}");
    let list = "select_key_space(\"full\"); list_keypairs().len()";
    let whole = run(&scratch, &home, 60_000, "", list);
    assert_eq!(whole["result"], KEYS, "{whole}");
    let whole = wall_ms(&whole);
    for script in [list, "delete_key_space(\"full\")"] {
        let took = cut_off(|| run(&scratch, &home, whole / 10, "", script));
        assert!(took < whole / 2, "{script} took {took} ms, the whole {whole} ms");
    }
    assert_eq!(run(&scratch, &home, 60_000, "", list)["result"], KEYS, "nothing is gone");
}

/// With `sync = "each"` every signature waits for the disk.
#[test]
fn a_sign_all_of_many_messages_ends_at_the_scripts_time() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let each = "[audit]\nsync = \"each\"\n";
    let make = "create_key_space(\"s\"); create_keypair(\"k\"); 1";
    assert_eq!(run(&scratch, &home, 60_000, each, make)["result"], 1);
    let sign = "let a = []; a.pad(256, \"m\"); select_keypair(\"s/k\"); sign_all(a).len()";
    let whole = run(&scratch, &home, 60_000, each, sign);
    assert_eq!(whole["result"], 256, "{whole}");
    let whole = wall_ms(&whole);
    let signatures = || {
        let log = std::fs::read_to_string(home.join("audit.log")).unwrap();
        log.matches("\"call\":\"sign\"").count()
    };
    let before = signatures();
    assert!(before >= 256, "{before}");
    cut_off(|| run(&scratch, &home, whole / 8, each, sign));
    // Those that were made after its time would be recorded as well, all 256 of each try.
    let of_five = signatures() - before;
    assert!(of_five < 5 * 256, "{of_five} signatures in an eighth of the time that 256 take");
}
