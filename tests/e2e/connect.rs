//! Connections that must not come about, and what their errors say.

use proof::Identity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::*;

/// An authority and a server certificate that it signed.
struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

fn certificates(expired: bool, name: &str) -> Certificates {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let mut server = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        server.not_before = rcgen::date_time_ymd(2020, 1, 1);
        server.not_after = rcgen::date_time_ymd(2020, 2, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    Certificates {
        authority: authority_pem,
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// A nats-server with TLS that lets one nkey in.
fn tls_server(made: &Certificates, user: &Identity) -> Nats {
    let folder = Scratch::new();
    let certificate = folder.write("server.pem", &made.certificate);
    let key = folder.write("server.key", &made.key);
    let configuration = format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?} }}\n\
         authorization {{ users = [ {{ nkey: {} }} ] }}\n",
        user.nkey()
    );
    Nats::start(folder, &configuration)
}

/// Runs `listen` and `request` with these connection arguments: both must refuse with this exit
/// code, and say this.
fn both_refuse(server: &str, arguments: &[&std::ffi::OsStr], code: i32, says: &[&str]) {
    let scratch = Scratch::new();
    let (home, nkey) = scratch.home();
    let mut listen = cli();
    listen.args(["listen", "--server", server, "--policy"]).arg(scratch.policy(OPEN_TO_ANYBODY));
    listen.arg("--home").arg(&home).arg("--passphrase-file").arg(scratch.passphrase_file());
    let mut request = cli();
    request.arg("request").arg(scratch.write("s.rhai", "1")).args(["--server", server]);
    let me = scratch.seed_file("me.nk", &Identity::generate());
    request.args(["--service", SERVICE, "--service-nkey", &nkey]).arg("--identity").arg(me);
    for mut command in [listen, request] {
        let output = command.args(arguments).output().unwrap();
        let (exit, out, err) = outcome(&output);
        assert_eq!(exit, code, "{err}");
        assert_eq!(out, "");
        for part in says {
            assert!(err.contains(part), "{part:?} is not in {err:?}");
        }
    }
    let log = std::fs::read_to_string(home.join("audit.log")).unwrap_or_default();
    assert!(
        log.lines().all(
            |line| line.contains("\"kind\":\"opened\"") || line.contains("\"kind\":\"policy\"")
        ),
        "{log}"
    );
}

#[test]
fn a_foreign_authority_is_refused_and_the_error_names_the_flag() {
    let (ours, foreign) = (certificates(false, "localhost"), certificates(false, "localhost"));
    let user = Identity::generate();
    let nats = tls_server(&ours, &user);
    let scratch = Scratch::new();
    let seed = scratch.seed_file("user.nk", &user);
    let ca = scratch.write("ca.pem", foreign.authority);
    let url = format!("tls://localhost:{}", nats.port);
    let arguments =
        ["--nkey-seed-file".as_ref(), seed.as_os_str(), "--ca".as_ref(), ca.as_os_str()];
    both_refuse(&url, &arguments, 5, &["not from the authority of --ca"]);
}

#[test]
fn an_unknown_authority_is_refused_and_the_error_says_to_name_it() {
    let user = Identity::generate();
    let nats = tls_server(&certificates(false, "localhost"), &user);
    let scratch = Scratch::new();
    let seed = scratch.seed_file("user.nk", &user);
    let url = format!("tls://localhost:{}", nats.port);
    let arguments = ["--nkey-seed-file".as_ref(), seed.as_os_str()];
    both_refuse(&url, &arguments, 5, &["not trusted", "--ca"]);
}

#[test]
fn an_expired_certificate_and_another_name_are_refused() {
    for (made, says) in [
        (certificates(true, "localhost"), "has expired: renew it"),
        (certificates(false, "other.example"), "is for another name"),
    ] {
        let user = Identity::generate();
        let nats = tls_server(&made, &user);
        let scratch = Scratch::new();
        let seed = scratch.seed_file("user.nk", &user);
        let ca = scratch.write("ca.pem", &made.authority);
        let url = format!("tls://localhost:{}", nats.port);
        let arguments =
            ["--nkey-seed-file".as_ref(), seed.as_os_str(), "--ca".as_ref(), ca.as_os_str()];
        both_refuse(&url, &arguments, 5, &[says]);
    }
}

#[test]
fn a_wrong_nkey_is_refused_and_the_error_says_where_to_look() {
    let made = certificates(false, "localhost");
    let nats = tls_server(&made, &Identity::generate());
    let scratch = Scratch::new();
    let seed = scratch.seed_file("user.nk", &Identity::generate());
    let ca = scratch.write("ca.pem", &made.authority);
    let url = format!("tls://localhost:{}", nats.port);
    let arguments =
        ["--nkey-seed-file".as_ref(), seed.as_os_str(), "--ca".as_ref(), ca.as_os_str()];
    both_refuse(&url, &arguments, 3, &["refused this identity", "lists its public nkey"]);
}

#[test]
fn plain_text_to_another_machine_is_refused_before_anything_is_sent() {
    // 192.0.2.0/24 is for documentation (RFC 5737): no packet of this could arrive anywhere.
    let says = ["would not be encrypted", "tls://192.0.2.1:4222"];
    both_refuse("nats://192.0.2.1:4222", &[], 2, &says);
}

#[test]
fn a_server_that_takes_tls_away_is_refused() {
    let nats = Nats::plain();
    let url = format!("tls://localhost:{}", nats.port);
    both_refuse(&url, &[], 5, &["no secure connection", "offers TLS"]);
}

#[test]
fn nobody_there_and_bad_files_are_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("nats://localhost:{free}");
    both_refuse(&url, &[], 5, &["cannot reach", "is a nats-server running there?"]);
    let scratch = Scratch::new();
    let empty = scratch.write("empty", "");
    let arguments = ["--nkey-seed-file".as_ref(), empty.as_os_str()];
    both_refuse(&url, &arguments, 2, &["not the seed of a user nkey", "empty"]);
    let arguments = ["--ca".as_ref(), empty.as_os_str()];
    both_refuse("tls://localhost:1", &arguments, 2, &["holds no certificate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_over_tls_with_nkeys_is_answered() {
    let made = certificates(false, "localhost");
    let user = Identity::generate();
    let nats = tls_server(&made, &user);
    let scratch = Scratch::new();
    let (home, nkey) = scratch.home();
    let seed = scratch.seed_file("user.nk", &user);
    let ca = scratch.write("ca.pem", &made.authority);
    let roles = "[[role]]\nname = \"r\"\nallow = [{ calls = [\"hash\"] }]\n";
    scratch.policy(&format!("{}{roles}", client_entry("me", &user, "r")));
    let url = format!("tls://localhost:{}", nats.port);
    let log = std::fs::File::create(scratch.path("listen.log")).unwrap();
    let mut listen = cli();
    listen.args(["listen", "--server", &url, "--policy"]).arg(scratch.path("policy.toml"));
    listen.arg("--home").arg(&home).arg("--passphrase-file").arg(scratch.passphrase_file());
    listen.arg("--ca").arg(&ca).arg("--nkey-seed-file").arg(&seed).stderr(log);
    let process = Running::start(&mut listen);
    let service = Service { process, home, nkey: nkey.clone(), scratch };
    service.await_ready();
    service.await_proofs();
    let script = service.scratch.write("s.rhai", "print(\"p\"); hash(\"sha256\", \"abc\")");
    let request = |service_nkey: &str| {
        let mut request = cli();
        request.arg("request").arg(&script).args(["--server", &url]).arg("--ca").arg(&ca);
        request.arg("--nkey-seed-file").arg(&seed);
        request.args(["--service", SERVICE, "--service-nkey", service_nkey]).output().unwrap()
    };
    let (exit, out, err) = outcome(&request(&nkey));
    let sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((exit, out.trim()), (0, sha256_of_abc), "{err}");
    // The same answer under another pin is not believed.
    let other = nkeys::KeyPair::new_server().public_key();
    let (exit, out, err) = outcome(&request(&other));
    assert_eq!((exit, out.as_str()), (4, ""), "{err}");
    assert!(err.contains("another service key"), "{err}");
}

#[test]
fn the_certificates_of_the_generator_are_trusted_with_its_authority_alone() {
    let scratch = Scratch::new();
    let folder = scratch.path("certs");
    let generator = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/make-dev");
    let made = std::process::Command::new(generator).arg(&folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let made = Certificates {
        authority: read("ca.pem"),
        certificate: read("server.pem"),
        key: read("server.key"),
    };
    let user = Identity::generate();
    let nats = tls_server(&made, &user);
    let url = format!("tls://localhost:{}", nats.port);
    let ask = |ca: &str| {
        let mut request = cli();
        request.arg("request").arg(scratch.write("s.rhai", "1")).args(["--server", &url]);
        request.arg("--nkey-seed-file").arg(scratch.seed_file("user.nk", &user)).arg("--unsigned");
        outcome(&request.arg("--ca").arg(scratch.write("ca.pem", ca)).output().unwrap())
    };
    let (exit, _, err) = ask(&made.authority);
    assert!(exit == 5 && err.contains("nobody listens on `crypto.scripts`"), "{err}");
    let (exit, _, err) = ask(&certificates(false, "localhost").authority);
    assert!(exit == 5 && err.contains("no secure connection"), "{err}");
}

/// A clock that runs wrong looks like a wrong login, unless somebody says so. The service is a fake: ours
/// reads the clock of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_apart_are_mentioned_to_the_caller() {
    use futures_util::StreamExt;

    let (nats, scratch) = (Nats::plain(), Scratch::new());
    let fake = nkeys::KeyPair::new_server();
    let client = nats.client().await;
    let mut requests = client.subscribe(SUBJECT).await.unwrap();
    let (nkey, offsets) = (fake.public_key(), [100_i64, 0, -100]);
    tokio::spawn(async move {
        for offset in offsets {
            let asked = requests.next().await.unwrap();
            let proof = asked.headers.unwrap().get("Crypto-Proof").unwrap().to_string();
            let answered = proof::Answered {
                req: proof::digest(proof.as_bytes()),
                bh: proof::digest(b"no"),
                form: proof::Form::Value,
                st: "unauthenticated".into(),
                iat: now().checked_add_signed(offset).unwrap(),
                script: proof::digest(&asked.payload),
                policy: String::new(),
                caller: String::new(),
                keys: Vec::new(),
                key_count: 0,
                audit: None,
            };
            let sign = |bytes: &[u8]| fake.sign(bytes).unwrap().try_into().unwrap();
            let reply = proof::write_reply(&fake.public_key(), &answered, sign);
            let headers = proof_header(&reply);
            let to = asked.reply.unwrap();
            client.publish_with_headers(to, headers, "no".into()).await.unwrap();
            client.flush().await.unwrap();
        }
    });
    let me = scratch.seed_file("me.nk", &Identity::generate());
    let (script, url) = (scratch.write("s.rhai", "1"), nats.url());
    let asked = tokio::task::spawn_blocking(move || {
        offsets.map(|_| {
            let mut request = cli();
            request.arg("request").arg(&script).args(["--server", &url, "--service", SERVICE]);
            request.args(["--service-nkey", &nkey]).arg("--identity").arg(&me);
            outcome(&request.output().unwrap())
        })
    });
    let [ahead, right, behind] = asked.await.unwrap();
    assert_eq!([ahead.0, right.0, behind.0], [3; 3], "{ahead:?} {right:?} {behind:?}");
    assert!(
        ahead.2.contains("the service's clock is 100 seconds ahead of this one")
            || ahead.2.contains(" 99 seconds ahead"),
        "{}",
        ahead.2
    );
    assert!(!right.2.contains("clock"), "{}", right.2);
    assert!(
        behind.2.contains("the service's clock is 10") && behind.2.contains("behind this one"),
        "{}",
        behind.2
    );
}

/// A nats-server whose users may publish requests, answer them, and subscribe to this.
fn server_that_allows(subscriptions: &str) -> Nats {
    let user = format!(
        "{{ user: u, password: p, permissions: {{ publish: [\"{SUBJECT}\"], allow_responses: true, \
         subscribe: [{subscriptions}] }} }}"
    );
    let configuration = format!("authorization {{ users: [{user}] }}\nno_auth_user: u\n");
    Nats::start(Scratch::new(), &configuration)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_needs_no_more_permissions_than_the_readme_says() {
    let nats = server_that_allows(&format!("\"{SUBJECT}\", \"$SRV.>\", \"_INBOX.>\""));
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    assert_eq!(ask_plainly(&nats.client().await, "1 + 1").await.text, "2");
    let log = service.log();
    assert!(!log.contains("ermission"), "{log}");
}

#[test]
fn a_service_that_may_not_subscribe_to_its_subject_says_so_and_ends() {
    let nats = server_that_allows("\"$SRV.>\", \"_INBOX.>\"");
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    scratch.policy(OPEN_TO_ANYBODY);
    let mut process = Service::launch(&scratch, &home, &nats.url(), own());
    assert_eq!(process.ended().code(), Some(5));
    let log = std::fs::read_to_string(scratch.path("listen.log")).unwrap();
    assert!(log.contains(&format!("cannot serve `{SUBJECT}`: ")), "{log}");
    assert!(
        log.contains("Permissions Violation for Subscription") && !log.contains("serves `"),
        "{log}"
    );
}
