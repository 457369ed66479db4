//! Commands that end before their time, and what they leave behind.

use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::LocalSocket;
use wire::admin::{ADMIN_SOCKET, FromAdmin, ToAdmin};
use wire::operator::Act;
use wire::{Channel, Hidden};

use crate::mistakes::typed;
use crate::operator::{Place, arg};
use crate::support::*;

/// Asks for an import as the command does, sends the file, and is gone before it is done.
fn begin_import(home: &Path, bundle: &Path, passphrase: &str) {
    let socket = LocalSocket::connect(home, ADMIN_SOCKET).unwrap();
    let mut channel = Channel::<FromAdmin, ToAdmin>::new(socket);
    let passphrase = Some(Hidden::new(passphrase.as_bytes().to_vec()));
    let act = Act::Import { rename: None, skip_existing: false, passphrase };
    channel.send(&ToAdmin::Act(act), None).unwrap();
    assert_eq!(channel.receive(None).unwrap(), FromAdmin::Send);
    for part in [std::fs::read(bundle).unwrap(), Vec::new()] {
        assert_eq!(channel.receive(None).unwrap(), FromAdmin::More);
        channel.send(&ToAdmin::Part(part), None).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_operator_has_gone_is_not_carried_out() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let there = Place::new();
    there.does("keyspace new team");
    there.does("key new team/release");
    let (bundle, secret) = (there.scratch.path("team.ccb"), "for the bundle");
    let file = there.scratch.write("bundle-passphrase", secret);
    let with = format!("--bundle-passphrase-file {}", arg(&file));
    there.does(&format!("keyspace export team --output {} {with}", arg(&bundle)));
    begin_import(&service.home, &bundle, secret);
    let of_import = |entry: &serde_json::Value| entry["call"] == "keyspace import";
    let status = wait_until("its end is recorded", || {
        let audit = service.audit();
        let last = audit.iter().rfind(|entry| of_import(entry) && entry["status"].is_string())?;
        Some(last["status"].clone())
    });
    assert_eq!(status, "refused");
    let mut list = cli();
    list.args(["keyspace", "list", "--home"]).arg(&service.home);
    assert_eq!(outcome(&list.output().unwrap()).1, "");
}

#[test]
fn whoever_gets_no_answer_is_told_that_it_may_have_been_done() {
    let place = Place::new();
    let socket = LocalSocket::bind(&place.home, ADMIN_SOCKET).unwrap();
    let service = std::thread::spawn(move || drop(socket.accept().unwrap()));
    place.refuses("keyspace new team", 5, "have done what was asked all the same: check with");
    service.join().unwrap();
}

/// A file that its reader waits at, as a command waits at a prompt.
pub(crate) fn fifo(scratch: &Scratch, name: &str) -> std::path::PathBuf {
    let path = scratch.path(name);
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
    assert!(made.unwrap().success());
    path
}

/// Opens such a file once somebody waits at it.
pub(crate) fn open_fifo(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn an_export_that_is_interrupted_leaves_no_file_behind() {
    let place = Place::new();
    place.does("keyspace new team");
    let (folder, prompt) = (place.scratch.path("out"), fifo(&place.scratch, "prompt"));
    std::fs::create_dir(&folder).unwrap();
    let bundle_passphrase = place.scratch.write("bundle-passphrase", "for the bundle");
    for signal in ["INT", "KILL"] {
        let mut export = cli();
        export.args(["keyspace", "export", "team", "--output"]).arg(folder.join("team.ccb"));
        export.arg("--bundle-passphrase-file").arg(&bundle_passphrase);
        export.arg("--passphrase-file").arg(&prompt).arg("--home").arg(&place.home);
        let mut export = Running::start(&mut export);
        let waiting = open_fifo(&prompt);
        export.signal(signal);
        assert!(!export.ended().success());
        drop(waiting);
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        assert!(left.is_empty(), "{signal}: {left:?}");
    }
}

#[test]
fn a_folder_that_takes_no_file_is_told_by_the_name_that_was_asked_for() {
    let place = Place::new();
    let bundle_passphrase = place.scratch.write("bundle-passphrase", "for the bundle");
    let output = place.scratch.path("none/team.ccb");
    let words = format!(
        "keyspace export --all --output {} --bundle-passphrase-file {}",
        arg(&output),
        arg(&bundle_passphrase)
    );
    place.refuses(&words, 2, &format!("cannot write `{}`: ", arg(&output)));
}

#[test]
fn a_command_that_waits_for_a_passphrase_holds_nobody_up() {
    let place = Place::new();
    let prompt = fifo(&place.scratch, "prompt");
    let mut idle = cli();
    idle.args(["keyspace", "list", "--passphrase-file"]).arg(&prompt);
    let mut idle = Running::start(idle.arg("--home").arg(&place.home));
    let mut waiting = open_fifo(&prompt);
    place.does("keyspace new team");
    std::io::Write::write_all(&mut waiting, PASSPHRASE.as_bytes()).unwrap();
    drop(waiting);
    assert!(idle.ended().success());
}

#[test]
fn a_home_that_is_in_use_for_a_moment_is_waited_for() {
    let place = Place::new();
    let held = std::fs::File::open(place.home.join("keyspace.redb")).unwrap();
    held.lock().unwrap();
    let begun = Instant::now();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        drop(held);
    });
    place.does("keyspace new team");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    holder.join().unwrap();
}

#[test]
fn how_far_an_import_is_is_drawn_now_and_then_and_at_its_end() {
    let place = Place::new();
    let make = "create_key_space(\"many\"); for i in 0..200 { create_keypair(\"k\" + i); }";
    let limits = "[limits]\nnew_keys = 1_000\nhost_calls = 1_000\nwall_clock = \"20 s\"\n";
    let policy = place.scratch.policy(&format!("{limits}{OPEN_TO_ANYBODY}"));
    let script = place.scratch.write("make.rhai", make);
    place.does(&format!("run {} --policy {}", arg(&script), arg(&policy)));
    let (bundle, to) = (place.scratch.path("many.age"), place.does("key recipient"));
    place.does(&format!("keyspace export many --to {} --output {}", to.trim(), arg(&bundle)));
    let import = format!("keyspace import {} --to-us --rename copy", arg(&bundle));
    let (exit, told) = typed(&place.command(&import), "");
    let drawn = told.matches(" keys").count();
    assert!(exit == 0 && drawn < 100, "{drawn} times");
    assert!(told.contains("\r200 keys\r\n"), "{told:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let place = Place::new();
    place.does("keyspace new team");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command("keyspace list").stdout(writer).output().unwrap();
    assert_eq!(outcome(&output), (0, String::new(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_stopped_leaves_no_socket() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    assert!(service.home.join(ADMIN_SOCKET).exists());
    service.stop();
    assert!(!service.home.join(ADMIN_SOCKET).exists());
}

#[test]
fn an_init_that_fails_leaves_folders_as_they_were() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let (new, old) = (scratch.path("new"), scratch.path("old"));
    std::fs::create_dir(&old).unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let passphrase = scratch.passphrase_file();
    for home in [&new, &old] {
        // A disk on which nothing has room.
        let mut shell = std::process::Command::new("sh");
        let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" init --yes --home \"$1\" \
                       --passphrase-file \"$2\"";
        shell.args(["-c", limited]).arg(own()).arg(home).arg(&passphrase);
        let (exit, out, err) = outcome(&shell.output().unwrap());
        assert!(exit == 5 && out.is_empty(), "{exit} {err}");
    }
    assert!(!new.exists());
    assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_seed_that_has_no_room_on_the_disk_leaves_no_file_in_the_way_of_the_next() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let seed = scratch.path("caller.nk");
    let mut shell = std::process::Command::new("sh");
    let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" identity new --output \"$1\"";
    shell.args(["-c", limited]).arg(own()).arg(&seed);
    let (exit, out, err) = outcome(&shell.output().unwrap());
    assert!(exit == 5 && out.is_empty(), "{exit} {err}");
    assert!(!seed.exists());
    let new = || outcome(&cli().args(["identity", "new", "--output"]).arg(&seed).output().unwrap());
    let (exit, nkey, err) = new();
    assert!(exit == 0 && nkey.starts_with('U'), "{err}");
    let written = std::fs::read(&seed).unwrap();
    assert_eq!(std::fs::metadata(&seed).unwrap().permissions().mode() & 0o777, 0o600);
    let (exit, _, err) = new();
    assert!(exit == 2 && err.contains("is there already: it is left as it was"), "{err}");
    assert_eq!(std::fs::read(&seed).unwrap(), written);
}

#[test]
fn a_policy_is_formatted_through_pipes() {
    let scratch = Scratch::new();
    let fmt = |text: &str, more: &[&str]| {
        let mut command = cli();
        command.args(["policy", "fmt"]).args(more).arg("-").current_dir(scratch.path(""));
        command.stdin(std::fs::File::open(scratch.write("in", text)).unwrap());
        outcome(&command.output().unwrap())
    };
    let (wild, tidy) = ("version=1", "version = 1\n");
    assert_eq!(fmt(wild, &[]), (0, tidy.to_owned(), String::new()));
    assert_eq!(fmt(tidy, &[]), (0, tidy.to_owned(), String::new()));
    assert_eq!(fmt(wild, &["--check"]), (1, "-\n".to_owned(), String::new()));
    assert_eq!(fmt(wild, &["--format", "json"]).0, 2);
    assert!(!scratch.path("-").exists());
}

#[test]
fn bundles_and_wrapped_keys_go_through_pipes() {
    let place = Place::new();
    place.does("keyspace new team");
    place.does("key new team/release");
    let to = place.does("key recipient");
    let mut export = place.command(&format!("keyspace export team --to {} --output -", to.trim()));
    let bundle = export.current_dir(place.scratch.path("")).output().unwrap();
    assert!(bundle.status.success() && bundle.stdout.starts_with(b"age-encryption.org/v1\n"));
    assert!(!place.scratch.path("-").exists());
    let piped = |words: &str, bytes: &[u8]| {
        let mut command = place.command(words);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let bytes = bytes.to_vec();
        let write = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        let told = outcome(&command.stdin(reader).output().unwrap());
        let _unread = write.join().unwrap();
        told
    };
    let told = piped("keyspace import - --to-us --rename copy", &bundle.stdout);
    assert_eq!(told.0, 0, "{}", told.2);
    assert_eq!(place.does("key public copy/release"), place.does("key public team/release"));
    let mut wrap = cli();
    let seed = place.scratch.write("seed", nkeys::KeyPair::new_user().seed().unwrap());
    wrap.args(["key", "wrap", arg(&seed), "--to", to.trim(), "--output", "-"]);
    let wrapped = wrap.output().unwrap().stdout;
    let told = piped("key import team/user -", &wrapped);
    assert_eq!(told.0, 0, "{}", told.2);
}
