//! `policy explain`, `check` and the service decide the same, of generated policies and requests.

use futures_util::StreamExt;
use policy::{Act, Decision, Facts, Policy, Says};
use wire::{Algorithm, CallName};

use crate::support::*;

const POLICIES: usize = 50;
const REQUESTS: usize = 200;

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
const TERMS: [&str; 5] = [
    "",
    "",
    ", expires = 2020-01-01T00:00:00Z",
    ", expires = 2120-01-01T00:00:00Z",
    ", between = \"00:00-24:00\"",
];
const ON_MESSAGES: [&str; 4] = [
    "",
    ", message_max = \"3 B\"",
    ", message_prefix = [\"xy\", \"q\"]",
    ", message_like = [\"*z\"]",
];

fn rules(numbers: &mut Numbers, most: usize) -> String {
    let mut rules = String::new();
    for _ in 0..numbers.below(most + 1) {
        let calls = numbers.one_of(&[
            "\"sign\"",
            "\"hash\"",
            "\"sign\", \"hash\"",
            "\"public_key\", \"select_keypair\"",
            "\"select_key_space\", \"select_keypair\"",
            "\"random_bytes\"",
            "\"*\"",
        ]);
        let on_messages = ["\"sign\"", "\"hash\"", "\"sign\", \"hash\""].contains(&calls);
        let term = if on_messages { numbers.one_of(&ON_MESSAGES) } else { "" };
        let (one, other) = (numbers.one_of(&PATTERNS), numbers.one_of(&PATTERNS));
        let more = numbers.one_of(&TERMS);
        rules.push_str(&format!(
            "{{ calls = [{calls}], keys = [\"{one}\", \"{other}\"]{term}{more} }},\n"
        ));
    }
    rules
}

/// A script of one call, and what `explain` is asked about it.
struct Request {
    script: String,
    act: Act,
    message: Option<&'static str>,
}

fn request(numbers: &mut Numbers) -> Request {
    let key = numbers.one_of(&["a/k1", "a/k2", "b/k1", "b/k2", "ab/k1", "ab/k2"]);
    let space = key.split('/').next().unwrap();
    let message = numbers.one_of(&["", "xyz", "xy", "quuz", "other"]);
    let calls = [
        (CallName::Sign, format!("sign(\"{message}\", \"{key}\")"), Some(key), Some(message)),
        (CallName::Hash, format!("hash(\"sha256\", \"{message}\")"), None, Some(message)),
        (CallName::PublicKey, format!("public_key(\"{key}\")"), Some(key), None),
        (CallName::SelectKeypair, format!("select_keypair(\"{key}\")"), Some(key), None),
        (CallName::SelectKeySpace, format!("select_key_space(\"{space}\")"), Some(space), None),
        (CallName::RandomBytes, "random_bytes(1).len()".to_owned(), None, None),
    ];
    let (call, script, on, message) = calls[numbers.below(calls.len())].clone();
    let target = policy::target(call, on).unwrap();
    Request { script, act: Act { call, target }, message }
}

/// What `policy explain` says: by its decision, and by what each rule says.
fn explained(policy: &Policy, request: &Request) -> bool {
    let facts = Facts {
        message: request.message.map(str::as_bytes),
        namespace: None,
        algorithm: Some(Algorithm::Ed25519),
        now: now() * 1000,
    };
    let who = policy.anonymous().unwrap().running(request.script.as_bytes());
    let opinions = policy.opinions(&who, &request.act, &facts);
    let says = |what| opinions.iter().any(|opinion| opinion.says == what);
    let decided = matches!(policy.decide(&who, request.act.clone(), &facts), Decision::Allow(_));
    assert_eq!(decided, says(Says::Allow) && !says(Says::Deny), "{}", request.script);
    decided
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_check_and_service_decide_the_same() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let make = "for space in [\"a\", \"b\", \"ab\"] { create_key_space(space); \
        for key in [\"k1\", \"k2\"] { create_keypair(key); } }";
    assert_eq!(ask_plainly(&client, make).await.error, None);
    let mut numbers = Numbers(0x5eed_0001);
    let (mut allowed, mut undecided) = (0, 0);
    for _ in 0..POLICIES {
        let (allow, deny) = (rules(&mut numbers, 4), rules(&mut numbers, 2));
        let path = service.scratch.policy(&format!(
            "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [\n{allow}]\ndeny = [\n{deny}]\n"
        ));
        let text = std::fs::read_to_string(&path).unwrap();
        let policy = Policy::parse("p", &text).unwrap();
        let output =
            cli().args(["policy", "reload", "--home"]).arg(&service.home).output().unwrap();
        assert!(output.status.success(), "{output:?}\n{text}");
        let requests: Vec<Request> = (0..REQUESTS).map(|_| request(&mut numbers)).collect();
        let verdicts = checked(&service.scratch, &path, &requests);
        let asked = requests.iter().map(|request| ask_plainly(&client, &request.script));
        let replies: Vec<Reply> = futures_util::stream::iter(asked).buffered(8).collect().await;
        for ((request, reply), verdict) in requests.iter().zip(&replies).zip(&verdicts) {
            let served = match reply.error.as_deref() {
                None => true,
                Some("policy-denied") => false,
                Some(other) => panic!("{other}: {}: {}", request.script, reply.text),
            };
            let told = format!("{}: {}\n{text}", request.script, reply.text);
            assert_eq!(explained(&policy, request), served, "explain: {told}");
            match verdict.as_str() {
                "allowed" => assert!(served, "check allows: {told}"),
                "refused" => assert!(!served, "check refuses: {told}"),
                other => {
                    assert_eq!(other, "undecidable");
                    undecided += 1;
                }
            }
            allowed += usize::from(served);
        }
    }
    // The comparison says something only where there is some of everything.
    let all = POLICIES * REQUESTS;
    assert_eq!(all, 10_000);
    assert!(allowed > all / 10 && allowed < all * 9 / 10, "{allowed} of {all} are allowed");
    assert!(undecided < all / 2, "{undecided} of {all} are left to the service");
}

/// The verdict of `crypto-cli check` on each.
fn checked(scratch: &Scratch, policy: &std::path::Path, requests: &[Request]) -> Vec<String> {
    let mut command = cli();
    command.args(["check", "--format", "json", "--policy"]).arg(policy);
    for (number, request) in requests.iter().enumerate() {
        command.arg(scratch.write(&format!("{number:03}.rhai"), &request.script));
    }
    let (_, out, err) = outcome(&command.output().unwrap());
    let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    let verdicts = told["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), requests.len());
    verdicts.iter().map(|verdict| verdict["verdict"].as_str().unwrap().to_owned()).collect()
}
