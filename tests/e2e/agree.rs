//! `policy explain`, `check` and the service decide the same, of generated policies and requests.

use futures_util::StreamExt;
use policy::{Act, Decision, Facts, Policy, Says};
use proof::Identity;
use wire::{Algorithm, CallName};

use crate::support::*;

const POLICIES: usize = 50;
const REQUESTS: usize = 200;
/// Requests of each policy of which the command itself is asked: it is a process each time.
const EXPLAINED: usize = 8;
/// Who asks; the first two have a role each, the last has both.
const CALLERS: [&str; 3] = ["anonymous", "one", "both"];

/// A generator whose numbers are the same each time (xorshift64*, Marsaglia 2003 and Vigna 2014).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % most
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const PATTERNS: [&str; 9] =
    ["a/*", "a/k1", "b/*", "*/k2", "*/*", "a*/k*", "ab/k2", "*b/k1", "b/k2"];
const WHOLE_SPACES: [&str; 4] = ["a/*", "b/*", "*b/*", "*/*"];
const SPACES: [&str; 4] = ["a", "b/*", "*b", "*/*"];
const ON_MESSAGES: [&str; 4] = [
    "",
    ", message_max = \"3 B\"",
    ", message_prefix = [\"xy\", \"q\"]",
    ", message_like = [\"*z\"]",
];
const ON_NAMESPACES: [&str; 3] =
    ["", ", namespaces = [\"ci-*\"]", ", namespaces = [\"ci\", \"*\"]"];
const ON_KEYS: [&str; 4] =
    ["", "", ", algorithms = [\"p256\", \"ed25519\"]", ", algorithms = [\"secp256k1\"]"];

/// Calls that a rule lists together, the patterns that fit them, and the terms.
const KINDS: [(&str, &[&str], &[&str]); 13] = [
    ("\"sign\"", &PATTERNS, &ON_MESSAGES),
    ("\"hash\"", &PATTERNS, &ON_MESSAGES),
    ("\"sign\", \"hash\", \"hmac\"", &PATTERNS, &ON_MESSAGES),
    ("\"sign_in\"", &PATTERNS, &ON_NAMESPACES),
    ("\"public_key\", \"select_keypair\"", &PATTERNS, &ON_KEYS),
    ("\"select_key_space\", \"select_keypair\"", &WHOLE_SPACES, &[""]),
    ("\"create_keypair\", \"rotate_keypair\", \"hmac\"", &PATTERNS, &ON_KEYS),
    ("\"delete_keypair\"", &PATTERNS, &ON_KEYS),
    ("\"create_key_space\", \"delete_key_space\"", &SPACES, &[""]),
    ("\"random_bytes\", \"generate_key\"", &PATTERNS, &[""]),
    ("\"encrypt\", \"decrypt\"", &PATTERNS, &ON_KEYS),
    ("\"*\"", &PATTERNS, &[""]),
    ("\"*\"", &PATTERNS, &[""]),
];

/// Terms of every kind of rule, most of them about now: so far away that the test does not reach them.
fn times() -> Vec<String> {
    let (hour, minute) = (now() / 3600 % 24, now() / 60 % 60);
    let at = |hours: u64| format!("{:02}:{minute:02}", (hour + hours) % 24);
    let days = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let day = |from_now: u64| days[usize::try_from((now() / 86_400 + from_now) % 7).unwrap()];
    vec![
        String::new(),
        String::new(),
        String::new(),
        ", expires = 2020-01-01T00:00:00Z".to_owned(),
        ", expires = 2120-01-01T00:00:00Z".to_owned(),
        format!(", between = \"{}-{}\"", at(22), at(2)),
        format!(", between = \"{}-{}\"", at(2), at(22)),
        format!(", between = \"{}-{} 00:00-24:00 Europe/Berlin\"", day(3), day(4)),
    ]
}

fn rules(numbers: &mut Numbers, most: usize) -> String {
    let times = times();
    let mut rules = String::new();
    for _ in 0..numbers.below(most + 1) {
        let (calls, patterns, terms) = KINDS[numbers.below(KINDS.len())];
        let (one, other) = (numbers.one_of(patterns), numbers.one_of(patterns));
        let (term, more) = (numbers.one_of(terms), &times[numbers.below(times.len())]);
        rules.push_str(&format!(
            "{{ calls = [{calls}], keys = [\"{one}\", \"{other}\"]{term}{more} }},\n"
        ));
    }
    rules
}

fn policy(numbers: &mut Numbers, clients: &[Identity]) -> String {
    let mut text = "[anonymous]\nroles = [\"r\"]\n".to_owned();
    for ((name, roles), who) in [("one", "\"t\""), ("both", "\"r\", \"t\"")].iter().zip(clients) {
        let nkey = who.nkey();
        text += &format!("[[client]]\nname = \"{name}\"\nnkey = \"{nkey}\"\nroles = [{roles}]\n");
    }
    for role in ["r", "t"] {
        let (allow, deny) = (rules(numbers, 5), rules(numbers, 2));
        text += &format!("[[role]]\nname = \"{role}\"\nallow = [\n{allow}]\ndeny = [\n{deny}]\n");
    }
    text
}

/// A script, who sends it, and what `explain` is asked about it.
struct Request {
    /// The place in [`CALLERS`].
    who: usize,
    script: String,
    asks: Vec<Ask>,
}

/// What is asked about a call.
#[derive(Clone, Copy)]
struct Ask {
    call: CallName,
    on: Option<&'static str>,
    message: Option<&'static str>,
    namespace: Option<&'static str>,
}

impl Ask {
    /// That of the stored key, or of the one that is to be made.
    fn algorithm(&self) -> Algorithm {
        let is_second = self.on.is_some_and(|on| on.ends_with("/k2"));
        let is_stored = self.call != CallName::CreateKeypair;
        if is_second && is_stored { Algorithm::Secp256k1 } else { Algorithm::Ed25519 }
    }
}

/// A key that a script has itself.
const OWN_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// What undoes a script that was allowed all that it asked for.
const UNDO: &str = "throw \"undone\"";

fn request(numbers: &mut Numbers, who: usize) -> Request {
    use CallName::*;
    let key = numbers.one_of(&["a/k1", "a/k2", "b/k1", "b/k2", "ab/k1", "ab/k2"]);
    let space = key.split('/').next().unwrap();
    let message = numbers.one_of(&["", "xyz", "xy", "quuz", "other"]);
    let namespace = numbers.one_of(&["ci", "ci-1", "n"]);
    let ask = |call, on| Ask { call, on, message: None, namespace: None };
    let on_key = |call| ask(call, Some(key));
    let with = |call, on| Ask { message: Some(message), ..ask(call, on) };
    let sign_in = Ask { namespace: Some(namespace), ..with(SignIn, Some(key)) };
    let calls: [(String, Vec<Ask>); 14] = [
        (format!("sign(\"{message}\", \"{key}\")"), vec![with(Sign, Some(key))]),
        (format!("hash(\"sha256\", \"{message}\")"), vec![with(Hash, None)]),
        (
            format!("select_keypair(\"{key}\"); sign_in(\"{namespace}\", \"{message}\")"),
            vec![on_key(SelectKeypair), sign_in],
        ),
        (format!("public_key(\"{key}\")"), vec![on_key(PublicKey)]),
        (format!("select_keypair(\"{key}\")"), vec![on_key(SelectKeypair)]),
        (format!("create_keypair(\"{key}\")"), vec![on_key(CreateKeypair)]),
        (format!("rotate_keypair(\"{key}\"); {UNDO}"), vec![on_key(RotateKeypair)]),
        (format!("delete_keypair(\"{key}\"); {UNDO}"), vec![on_key(DeleteKeypair)]),
        (format!("select_key_space(\"{space}\")"), vec![ask(SelectKeySpace, Some(space))]),
        (format!("create_key_space(\"{space}\")"), vec![ask(CreateKeySpace, Some(space))]),
        (format!("delete_key_space(\"{space}\"); {UNDO}"), vec![ask(DeleteKeySpace, Some(space))]),
        (format!("encrypt(\"{OWN_KEY}\", \"m\").len()"), vec![ask(Encrypt, None)]),
        ("generate_key().len()".to_owned(), vec![ask(GenerateKey, None)]),
        ("random_bytes(1).len()".to_owned(), vec![ask(RandomBytes, None)]),
    ];
    let (script, asks) = calls[numbers.below(calls.len())].clone();
    Request { who, script, asks }
}

/// What the library says: by its decision, and by what each rule says.
fn decided(policy: &Policy, request: &Request) -> bool {
    let who = match CALLERS[request.who] {
        "anonymous" => policy.anonymous(),
        name => policy.client_by_name(name, now()),
    };
    let who = who.unwrap().running(request.script.as_bytes());
    let is_allowed = |ask: &Ask| {
        let act = Act { call: ask.call, target: policy::target(ask.call, ask.on).unwrap() };
        let facts = Facts {
            message: ask.message.map(str::as_bytes),
            namespace: ask.namespace,
            algorithm: Some(ask.algorithm()),
            now: now() * 1000,
        };
        let opinions = policy.opinions(&who, &act, &facts);
        let says = |what| opinions.iter().any(|opinion| opinion.says == what);
        let decided = matches!(policy.decide(&who, act, &facts), Decision::Allow(_));
        assert_eq!(decided, says(Says::Allow) && !says(Says::Deny), "{}", request.script);
        decided
    };
    request.asks.iter().all(is_allowed)
}

/// What `crypto-cli policy explain` says.
fn explained(scratch: &Scratch, path: &std::path::Path, request: &Request) -> bool {
    let is_allowed = |ask: &Ask| {
        let mut command = cli();
        command.args(["policy", "explain", "--as", CALLERS[request.who], "--policy"]).arg(path);
        command.args(["--call", ask.call.word(), "--algorithm", ask.algorithm().word()]);
        command.args(ask.on.iter().flat_map(|on| ["--key", on]));
        command.args(ask.namespace.iter().flat_map(|name| ["--namespace", name]));
        if let Some(message) = ask.message {
            command.arg("--message").arg(scratch.write("message", message));
        }
        command.arg("--script").arg(scratch.write("explained.rhai", &request.script));
        let (exit, out, err) = outcome(&command.output().unwrap());
        assert!(exit < 2, "{}: {out}{err}", request.script);
        assert!(out.starts_with(if exit == 0 { "allowed: " } else { "refused: " }), "{out}");
        exit == 0
    };
    request.asks.iter().all(is_allowed)
}

/// The verdicts of `crypto-cli check`, which is told of one caller at a time.
fn checked(scratch: &Scratch, policy: &std::path::Path, requests: &[Request]) -> Vec<String> {
    let mut all = vec![String::new(); requests.len()];
    for (who, name) in CALLERS.iter().enumerate() {
        let mut command = cli();
        command.args(["check", "--format", "json", "--as", name, "--policy"]).arg(policy);
        let own = requests.iter().enumerate().filter(|(_, request)| request.who == who);
        let own: Vec<usize> = own.map(|(number, _)| number).collect();
        for number in &own {
            command.arg(scratch.write(&format!("{number:03}.rhai"), &requests[*number].script));
        }
        let (_, out, err) = outcome(&command.output().unwrap());
        let told: serde_json::Value =
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
        let verdicts = told["verdicts"].as_array().unwrap();
        assert_eq!(verdicts.len(), own.len());
        for (number, verdict) in own.iter().zip(verdicts) {
            all[*number] = verdict["verdict"].as_str().unwrap().to_owned();
        }
    }
    all
}

fn is_served(request: &Request, reply: &Reply) -> bool {
    match reply.error.as_deref() {
        None => {
            assert!(!request.script.ends_with(UNDO), "{}: {}", request.script, reply.text);
            true
        }
        Some("policy-denied") => false,
        Some("script-error") if request.script.ends_with(UNDO) => {
            assert!(reply.text.contains("undone"), "{}: {}", request.script, reply.text);
            true
        }
        Some(other) => panic!("{other}: {}: {}", request.script, reply.text),
    }
}

/// Whether the service did it, and the library and `check` say no other.
fn agreed(policy: &Policy, request: &Request, reply: &Reply, verdict: &str, text: &str) -> bool {
    let served = is_served(request, reply);
    let told = format!("{} of {}: {}\n{text}", request.script, CALLERS[request.who], reply.text);
    assert_eq!(decided(policy, request), served, "the decision: {told}");
    match verdict {
        "allowed" => assert!(served, "check allows: {told}"),
        "refused" => assert!(!served, "check refuses: {told}"),
        other => assert_eq!(other, "undecidable"),
    }
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_check_and_service_decide_the_same() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let make = "for space in [\"a\", \"b\", \"ab\"] { create_key_space(space); \
        create_keypair(\"k1\"); create_keypair(\"k2\", \"secp256k1\"); }";
    assert_eq!(ask_plainly(&client, make).await.error, None);
    service.await_proofs();
    let clients = [(); 2].map(|()| Identity::generate());
    let mut numbers = Numbers(0x5eed_0001);
    let (mut allowed, mut undecided) = ([0; CALLERS.len()], 0);
    for _ in 0..POLICIES {
        let path = service.scratch.policy(&policy(&mut numbers, &clients));
        let text = std::fs::read_to_string(&path).unwrap();
        let policy = Policy::parse("p", &text).unwrap();
        let output =
            cli().args(["policy", "reload", "--home"]).arg(&service.home).output().unwrap();
        assert!(output.status.success(), "{output:?}\n{text}");
        let requests: Vec<Request> =
            (0..REQUESTS).map(|number| request(&mut numbers, number % CALLERS.len())).collect();
        let verdicts = checked(&service.scratch, &path, &requests);
        let ask = async |request: &Request| match request.who.checked_sub(1) {
            None => ask_plainly(&client, &request.script).await,
            Some(who) => ask_signed(&client, &service, &clients[who], &request.script).await,
        };
        let replies = futures_util::stream::iter(requests.iter().map(ask)).buffered(8);
        let replies: Vec<Reply> = replies.collect().await;
        for (number, request) in requests.iter().enumerate() {
            let (reply, verdict) = (&replies[number], &*verdicts[number]);
            let served = agreed(&policy, request, reply, verdict, &text);
            if number % (REQUESTS / EXPLAINED) == 0 {
                let explained = explained(&service.scratch, &path, request);
                assert_eq!(explained, served, "explain: {}\n{text}", request.script);
            }
            undecided += usize::from(verdict == "undecidable");
            allowed[request.who] += usize::from(served);
        }
    }
    // The comparison says something only where there is some of everything.
    let all = POLICIES * REQUESTS;
    assert_eq!(all, 10_000);
    for (allowed, name) in allowed.iter().zip(CALLERS) {
        let asked = all / CALLERS.len();
        assert!(
            *allowed > asked / 10 && *allowed < asked * 9 / 10,
            "{allowed} of {asked} are allowed to {name}"
        );
    }
    // 2,654 of them, for their terms of times or for what a deny may see.
    assert!(undecided < 2_800, "{undecided} of {all} are left to the service");
}
