//! Every bound has its own code, and the script cannot talk it away.

use crate::support::*;

fn run(scratch: &Scratch, script: &str, limits: &str) -> serde_json::Value {
    let policy = scratch.policy(&format!("[limits]\n{limits}\n{OPEN_TO_ANYBODY}"));
    let script = scratch.write("s.rhai", script);
    let output = cli()
        .arg("run")
        .arg(script)
        .arg("--policy")
        .arg(policy)
        .args(["--ephemeral", "--format", "json"])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn each_bound_ends_a_script_with_its_own_code() {
    let scratch = Scratch::new();
    let deep = "let a = []; for i in 0..3000 { a = [a]; } a == a";
    let many_calls = "for i in 0..100 { hash(\"sha256\", \"x\"); }";
    for (script, limits, code) in [
        ("1234567890", "script = \"5 B\"", "limit-script-size"),
        ("loop {}", "operations = 1000", "limit-operations"),
        ("try { loop {} } catch { 1 }", "operations = 1000", "limit-operations"),
        ("[3,1,2].sort(|a, b| { loop {} }); 1", "operations = 1000", "limit-operations"),
        ("[1].map(|x| { loop {} }); 1", "operations = 1000", "limit-operations"),
        (
            "let a = []; loop { a.push(\"0123456789\"); }",
            "operations = 100_000_000\nwall_clock = \"10 s\"",
            "limit-memory",
        ),
        ("let s = \"x\"; loop { s += s; }", "memory = \"1 MiB\"", "limit-memory"),
        ("loop {}", "operations = 1_000_000_000_000\nwall_clock = \"100 ms\"", "limit-time"),
        ("fn f(n) { f(n + 1) } f(0)", "call_depth = 8", "limit-depth"),
        (many_calls, "host_calls = 50", "limit-host-calls"),
        (
            "create_key_space(\"s\"); create_keypair(\"a\"); sign_all([\"1\", \"2\", \"3\"])",
            "host_calls = 4",
            "limit-host-calls",
        ),
        ("create_key_space(\"s\"); create_keypair(\"a\")", "new_keys = 1", "limit-new-keys"),
        ("loop { print(\"0123456789\"); }", "output = \"100 B\"", "limit-output"),
        ("\"0123456789\"", "result = \"5 B\"", "limit-result"),
        ("let a = []; for i in 0..50 { a = [a]; } a", "", "limit-depth"),
        // Deeper than the native stack: the worker dies of it.
        (deep, "memory = \"256 MiB\"\nwall_clock = \"10 s\"", "limit-depth"),
    ] {
        let outcome = run(&scratch, script, limits);
        assert_eq!(outcome["error"]["code"], code, "{script}: {outcome}");
        assert_eq!(outcome["status"], "error");
        if code == "limit-time" {
            let wall = outcome["usage"]["wall_us"].as_u64().unwrap();
            assert!((100_000..2_000_000).contains(&wall), "{wall} us");
        }
    }
}

#[test]
fn a_role_may_lower_a_bound_and_not_raise_it() {
    let scratch = Scratch::new();
    let role = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nlimits.operations = 100\nlimits.output = \"1 MiB\"\n";
    let policy = scratch.policy(&format!("[limits]\noutput = \"10 B\"\n{role}"));
    for (script, code) in
        [("for i in 0..1000 {}", "limit-operations"), ("print(\"01234567890\")", "limit-output")]
    {
        let script = scratch.write("s.rhai", script);
        let output = cli()
            .arg("run")
            .arg(script)
            .arg("--policy")
            .arg(&policy)
            .args(["--ephemeral", "--format", "json"])
            .output()
            .unwrap();
        let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(outcome["error"]["code"], code);
        assert_eq!(output.status.code(), Some(6));
    }
}

#[test]
fn what_could_do_harm_is_not_there() {
    let scratch = Scratch::new();
    for script in [
        "eval(\"1\")",
        "sleep(1)",
        "import \"x\" as x;",
        "timestamp()",
        "parse_json(\"sign(\\\"m\\\", \\\"a/b\\\")\")",
        "open_file(\"/etc/passwd\")",
    ] {
        let outcome = run(&scratch, script, "");
        assert_eq!(outcome["status"], "error", "{script}: {outcome}");
    }
    let outcome = run(&scratch, "parse_json(`{\"a\":[1,null]}`)", "");
    assert_eq!(outcome["result"], serde_json::json!({ "a": [1, null] }));
}

#[test]
fn arguments_of_any_length_are_errors_that_a_script_can_catch() {
    let scratch = Scratch::new();
    let long =
        "let s = \"x\"; s.pad(2000000, \"x\"); create_key_space(\"a\"); create_keypair(\"b\");";
    for call in [
        "hash(s, \"m\")",
        "hash(\"sha256\", s)",
        "verify_with(s, \"m\", \"0\")",
        "verify(\"m\", s)",
        "sign(s)",
        "sign_all([s])",
        "create_key_space(s)",
        "let a = []; a.pad(257, \"m\"); sign_all(a)",
    ] {
        let outcome =
            run(&scratch, &format!("{long} try {{ {call}; }} catch {{ return 1; }} 2"), "");
        assert_eq!(outcome["result"], 1, "{call}: {outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_nest_as_deep_as_the_policy_says_and_no_deeper() {
    for depth in [1, 8, 64] {
        let nats = Nats::plain();
        let limits = format!("[limits]\ncall_depth = {depth}\n");
        let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
        let client = nats.client().await;
        let nested = |calls: u32| {
            format!("fn f(n) {{ if n == 1 {{ 1 }} else {{ 1 + f(n - 1) }} }} f({calls})")
        };
        assert_eq!(ask_plainly(&client, &nested(depth)).await.text, depth.to_string());
        let reply = ask_plainly(&client, &nested(depth + 1)).await;
        assert_eq!(reply.error.as_deref(), Some("limit-depth"), "{depth}: {}", reply.text);
        drop(service);
    }
}

#[test]
fn a_sign_all_counts_as_many_calls_as_it_signs() {
    let scratch = Scratch::new();
    let policy = format!("[limits]\nhost_calls = 5\n{OPEN_TO_ANYBODY}");
    let policy = scratch.policy(&policy);
    let run = |messages: &str| {
        let script =
            format!("create_key_space(\"s\"); create_keypair(\"k\"); sign_all([{messages}]).len()");
        let script = scratch.write("s.rhai", script);
        let mut command = cli();
        command
            .args(["run", "--ephemeral", "--format", "json", "--policy"])
            .arg(&policy)
            .arg(script);
        let (_, out, err) = outcome(&command.output().unwrap());
        serde_json::from_str::<serde_json::Value>(&out).unwrap_or_else(|_| panic!("{err}"))
    };
    let three = run("\"a\", \"b\", \"c\"");
    assert_eq!((&three["result"], &three["usage"]["host_calls"]), (&3.into(), &5.into()));
    let four = run("\"a\", \"b\", \"c\", \"d\"");
    assert_eq!(four["error"]["code"], "limit-host-calls");
    let none = run("");
    assert_eq!((&none["result"], &none["usage"]["host_calls"]), (&0.into(), &3.into()));
}
