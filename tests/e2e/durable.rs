//! A process that changes a keyspace is killed at any moment, again and again: what it said was done is there, what
//! it had begun is done or not, and the file opens. `KEYSPACE_KILLS` says how often; `scripts/crash` says it 10,000
//! times.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::*;

/// So many kills meet one keyspace.
const KILLS_OF_A_HOME: u64 = 250;

/// Keys and the version of each that is in use.
type Keys = BTreeMap<String, u32>;

/// What a change does to the keys.
fn change(keys: &mut Keys, what: &str) {
    let (act, on) = what.split_once(' ').unwrap_or((what, ""));
    match act {
        "create" => drop(keys.insert(on.to_owned(), 1)),
        "rotate" => *keys.get_mut(on).unwrap() += 1,
        "import" => {
            let of_bundle: Vec<_> = keys.iter().filter(|(key, _)| key.starts_with("b/")).collect();
            let new: Vec<_> = of_bundle
                .into_iter()
                .map(|(key, version)| (key.replacen("b/", &format!("{on}/"), 1), *version))
                .collect();
            keys.extend(new);
        }
        "empty" => keys.retain(|key, _| !key.starts_with(&format!("{on}/"))),
        "space" | "passwd" => {}
        other => panic!("{other}"),
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a run of thousands says what it met")]
fn acknowledged_changes_survive_kills_at_any_moment() {
    let kills: u64 = std::env::var("KEYSPACE_KILLS").map_or(40, |kills| kills.parse().unwrap());
    let scratch = Scratch::new();
    let (mut expected, mut begun): (Option<Keys>, Option<String>) = (None, None);
    let (mut done, mut cut) = (0_u64, 0_u64);
    for round in 0..kills {
        // Now and then a new one: they grow, and are slower to open.
        let home = scratch.path(&format!("home-{}", round / KILLS_OF_A_HOME));
        if round % KILLS_OF_A_HOME == 0 {
            (expected, begun) = (None, None);
        }
        let mut command = Command::new(hostile("keyspace_writer"));
        command.arg(&home).arg(round.to_string()).stdout(Stdio::piped());
        let mut writer = command.spawn().unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut found = Keys::new();
        loop {
            let line = lines.next().expect("the writer could not open the keyspace").unwrap();
            if line == "ready" {
                break;
            }
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[0], "has", "{line}");
            found.insert(words[1].to_owned(), words[2].parse().unwrap());
        }
        if let Some(mut known) = expected.take()
            && found != known
        {
            let what = begun.as_deref().expect("nothing was begun, and something has changed");
            change(&mut known, what);
            assert_eq!(found, known, "round {round}: neither before nor after `{what}`");
        }
        // Times of every length: most kills meet a change under way.
        let wait = round.wrapping_mul(2_654_435_761) % 30_000;
        std::thread::sleep(Duration::from_micros(wait));
        writer.kill().unwrap();
        let ended = std::os::unix::process::ExitStatusExt::signal(&writer.wait().unwrap());
        assert_eq!(ended, Some(9), "it went by itself");
        begun = None;
        for line in lines {
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("will", what)) => begun = Some(what.to_owned()),
                Some(("did", what)) => {
                    assert_eq!(begun.take().as_deref(), Some(what));
                    change(&mut found, what);
                    done += 1;
                }
                _ => panic!("{line}"),
            }
        }
        cut += u64::from(begun.is_some());
        expected = Some(found);
    }
    println!("{kills} kills, {cut} of them in a change, {done} changes acknowledged, none lost");
    assert!(done > kills && cut > kills / 4, "{done} {cut}: the kills met nothing");
}
