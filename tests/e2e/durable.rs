//! A process that founds, opens and changes a keyspace is killed at any moment, again and again: what it said was
//! done is there, what it had begun is done or not, and the file opens. `KEYSPACE_KILLS` says how often;
//! `scripts/crash` says it 10,000 times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;

/// So many kills meet one keyspace, and the first of them meets its founding.
const KILLS_OF_A_HOME: u64 = 10;
/// Kinds of changes that must be met both done and cut.
const KINDS: [&str; 6] = ["found", "create", "rotate", "import", "passwd", "renew"];
/// Most kills, in those that were asked for, until all has been met.
const MOST_TIMES: u64 = 3;

/// What is in a keyspace: the number of its passphrase, key spaces, keys with the version in use.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    /// The number of its file, of which each root key has its own.
    file: u64,
    passphrase: Option<u64>,
    spaces: BTreeSet<String>,
    keys: BTreeMap<String, u32>,
}

impl State {
    /// What was said before `ready`.
    fn told(lines: &[String]) -> Self {
        let mut found = Self::default();
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["space", space] => assert!(found.spaces.insert(space.to_owned())),
                ["has", key, version] => {
                    assert!(found.keys.insert(key.to_owned(), version.parse().unwrap()).is_none());
                }
                ["file", number] => found.file = number.parse().unwrap(),
                ["opened", number] => found.passphrase = Some(number.parse().unwrap()),
                _ => panic!("{line}"),
            }
        }
        found
    }

    fn change(&mut self, what: &str) {
        let (act, on) = what.split_once(' ').unwrap();
        match act {
            "found" | "passwd" => self.passphrase = Some(on.parse().unwrap()),
            "space" => assert!(self.spaces.insert(on.to_owned()), "{on}"),
            "create" => assert_eq!(self.keys.insert(on.to_owned(), 1), None, "{on}"),
            "renew" => {}
            "rotate" => *self.keys.get_mut(on).unwrap() += 1,
            "import" => {
                assert!(self.spaces.insert(on.to_owned()), "{on}");
                let of_bundle = self.keys.iter().filter(|(key, _)| key.starts_with("b/"));
                let new: Vec<_> = of_bundle
                    .map(|(key, version)| (key.replacen("b/", &format!("{on}/"), 1), *version))
                    .collect();
                self.keys.extend(new);
            }
            "empty" => {
                assert!(self.spaces.remove(on), "{on}");
                self.keys.retain(|key, _| !key.starts_with(&format!("{on}/")));
            }
            other => panic!("{other}"),
        }
    }
}

/// What became of the changes of one kind.
#[derive(Default)]
struct Met {
    acknowledged: u64,
    cut_and_done: u64,
    cut_and_not_done: u64,
}

/// When the process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Before it says that it is ready: it opens the keyspace, and repairs it.
    Opening,
    /// In one and a half times what such a change takes, from its beginning on.
    In(&'static str),
    /// The same after so many key derivations, which take nearly all of the time.
    AfterDerivations(&'static str, u32),
    /// Once it is ready.
    Ready,
}

/// A keyspace that processes are killed over.
struct Place {
    home: PathBuf,
    known: State,
    begun: Option<String>,
}

#[derive(Default)]
struct Run {
    met: BTreeMap<String, Met>,
    killed_in_opening: u64,
    /// How long a change of a kind takes, about.
    lengths: BTreeMap<String, Duration>,
    /// How often a time was chosen for this.
    chosen: BTreeMap<String, u32>,
}

/// A writer, what it said, and what it is about to do.
struct Writer {
    process: Running,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
    since: Instant,
}

impl Writer {
    fn start(place: &Place, round: u64, slow: &str) -> Self {
        let begun = place.begun.as_deref().and_then(|what| what.strip_prefix("passwd "));
        let mut command = Command::new(hostile("keyspace_writer"));
        command.arg(&place.home).arg(round.to_string()).arg(slow);
        command.arg(place.known.passphrase.unwrap_or(1).to_string()).args(begun);
        let mut process = Running::start(command.stdout(Stdio::piped()));
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        Self { process, lines, said: Vec::new(), since: Instant::now() }
    }

    /// Reads on until it says this.
    fn until(&mut self, run: &mut Run, wanted: &str) {
        loop {
            let line = self.lines.next();
            let line = line.unwrap_or_else(|| panic!("it went by itself: {:?}", self.said));
            let line = line.unwrap();
            let what = if line == "ready" { Some("opening") } else { line.strip_prefix("did ") };
            if let Some(what) = what {
                let (kind, took) = (what.split(' ').next().unwrap(), self.since.elapsed());
                let length = run.lengths.entry(kind.to_owned()).or_insert(took);
                *length = (*length * 3 + took) / 4;
            }
            self.since = Instant::now();
            let is_wanted = line.starts_with(wanted);
            self.said.push(line);
            if is_wanted {
                return;
            }
        }
    }

    /// Waits until it has given the memory of so many key derivations back.
    fn until_derived(&self, times: u32) {
        let resident = || {
            let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.process.pid()));
            pages.unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap() / 256
        };
        let (mut least, patience) = (resident(), Instant::now() + PATIENCE);
        let (mut left, mut is_high) = (times, false);
        while left > 0 {
            assert!(Instant::now() < patience, "it derives no key");
            let now = resident();
            // The first look may come when the first derivation is under way: the next one is seen then.
            least = least.min(now);
            let more = now - least;
            if is_high && more < 16 {
                left -= 1;
            }
            is_high = more > 48 || is_high && more >= 16;
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Run {
    /// A time of this length or less; those that are chosen for one purpose are far from one another.
    fn share(&mut self, purpose: &str, of: Duration) -> Duration {
        let chosen = self.chosen.entry(purpose.to_owned()).or_default();
        *chosen += 1;
        of.mul_f64((f64::from(*chosen) * 0.618_034).fract())
    }

    fn kill(&mut self, place: &mut Place, round: u64, moment: Moment) {
        let kind = match moment {
            Moment::In(kind) | Moment::AfterDerivations(kind, _) => kind,
            Moment::Opening | Moment::Ready => "",
        };
        let slow = if ["passwd", "renew"].contains(&kind) { kind } else { "fast" };
        let mut writer = Writer::start(place, round, slow);
        match moment {
            Moment::Opening => {
                let length = self.lengths.get("opening").copied().unwrap_or_default();
                // Most of them early: first the file is repaired, and then a key derived.
                let early = self.share("opening", length).as_secs_f64() / length.as_secs_f64();
                std::thread::sleep(length.mul_f64(early * early));
            }
            Moment::Ready => writer.until(self, "ready"),
            Moment::In(_) | Moment::AfterDerivations(..) => {
                writer.until(self, &format!("will {kind} "));
                let (mut purpose, mut since) = (kind.to_owned(), writer.since);
                if let Moment::AfterDerivations(_, times) = moment {
                    writer.until_derived(times);
                    (purpose, since) = (format!("{kind} after derivations"), Instant::now());
                }
                if let Some(length) = self.lengths.get(&purpose).copied() {
                    std::thread::sleep(self.share(&purpose, length.mul_f64(1.5)));
                } else {
                    // How long that takes is not known yet.
                    writer.until(self, &format!("did {kind} "));
                    self.lengths.insert(purpose, since.elapsed());
                }
            }
        }
        writer.process.0.kill().unwrap();
        let status = writer.process.0.wait().unwrap();
        let ended = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(ended, Some(9), "it went by itself");
        let Writer { mut said, lines, .. } = writer;
        said.extend(lines.map(|line| line.unwrap()));
        self.judge(place, &said, &format!("kill {round}, {moment:?}"));
    }

    /// Whether what was found is what was known, and what became of what was begun.
    fn judge(&mut self, place: &mut Place, said: &[String], shown: &str) {
        let Some(ready) = said.iter().position(|line| line == "ready") else {
            State::told(said);
            self.killed_in_opening += 1;
            return;
        };
        let found = State::told(&said[..ready]);
        let begun = place.begun.take();
        if let Some(what) = &begun {
            let met = self.met.entry(what.split(' ').next().unwrap().to_owned()).or_default();
            if found == place.known {
                met.cut_and_not_done += 1;
            } else {
                met.cut_and_done += 1;
                place.known.change(what);
                if what.starts_with("found ") || what.starts_with("renew ") {
                    place.known.file = found.file;
                }
            }
        }
        assert_eq!(found, place.known, "{shown}: neither before nor after {begun:?}");
        for line in &said[ready + 1..] {
            match line.split_once(' ') {
                Some(("will", what)) => place.begun = Some(what.to_owned()),
                Some(("did", what)) => {
                    assert_eq!(place.begun.take().as_deref(), Some(what));
                    place.known.change(what);
                    let kind = what.split(' ').next().unwrap();
                    self.met.entry(kind.to_owned()).or_default().acknowledged += 1;
                }
                Some(("file", number)) => place.known.file = number.parse().unwrap(),
                _ => panic!("{line}"),
            }
        }
    }

    /// Whether each kind was met both done and cut, and the opening cut.
    fn has_met_all(&self) -> bool {
        self.killed_in_opening > 0
            && KINDS.iter().all(|kind| {
                self.met.get(*kind).is_some_and(|met| {
                    met.acknowledged > 0 && met.cut_and_done + met.cut_and_not_done > 0
                })
            })
    }

    fn shown(&self, kills: u64) -> String {
        let mut text = format!("{kills} kills, {} of them while opening", self.killed_in_opening);
        for (kind, Met { acknowledged, cut_and_done, cut_and_not_done }) in &self.met {
            write!(
                text,
                "\n{kind}: {acknowledged} acknowledged, {cut_and_done} cut and done, {cut_and_not_done} cut and not done"
            )
            .unwrap();
        }
        text
    }
}

fn moment(round: u64) -> Moment {
    match round % KILLS_OF_A_HOME {
        0 if round.is_multiple_of(2 * KILLS_OF_A_HOME) => Moment::AfterDerivations("found", 1),
        0 => Moment::In("found"),
        1 => Moment::AfterDerivations("passwd", 2),
        2 | 8 => Moment::In("create"),
        3 | 7 => Moment::Opening,
        5 => Moment::In("passwd"),
        6 => Moment::In("import"),
        9 if round % (2 * KILLS_OF_A_HOME) == 9 => Moment::AfterDerivations("renew", 2),
        9 => Moment::In("renew"),
        _ => Moment::In("rotate"),
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a run of thousands says what it met")]
fn acknowledged_changes_survive_kills_at_any_moment() {
    let kills: u64 = std::env::var("KEYSPACE_KILLS").map_or(40, |kills| kills.parse().unwrap());
    let scratch = Scratch::new();
    let mut run = Run::default();
    let mut killed = 0;
    while killed < kills || !run.has_met_all() && killed < MOST_TIMES * kills {
        let home = scratch.path(&format!("home-{killed}"));
        let mut place = Place { home, known: State::default(), begun: None };
        for _ in 0..KILLS_OF_A_HOME {
            run.kill(&mut place, killed, moment(killed));
            killed += 1;
        }
        run.kill(&mut place, killed, Moment::Ready);
        std::fs::remove_dir_all(&place.home).unwrap();
    }
    println!("{}", run.shown(killed));
    assert!(run.has_met_all(), "not everything was met: {}", run.shown(killed));
}

/// The generation in the header of this file, if it opens.
fn generation(file: &Path) -> Option<u64> {
    let database = redb::Database::open(file).ok()?;
    let reading = redb::ReadableDatabase::begin_read(&database).ok()?;
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let header = reading.open_table(meta).ok()?.get("header").ok()??.value().to_vec();
    Some(u64::from_be_bytes(header.get(24..32)?.try_into().ok()?))
}

/// The database is repaired when it is opened after a kill, before any passphrase.
#[test]
fn a_bit_that_flips_after_a_kill_never_brings_the_commit_before_the_last_back() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    let mut command = Command::new(hostile("keyspace_writer"));
    command.arg(&home).args(["1", "fast", "1"]).stdout(Stdio::piped());
    let mut writer = command.spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map(Result::unwrap).any(|line| line.starts_with("did create")));
    writer.kill().unwrap();
    writer.wait().unwrap();
    let whole = std::fs::read(home.join("keyspace.redb")).unwrap();
    let file = scratch.path("flipped.redb");
    std::fs::write(&file, &whole).unwrap();
    let latest = generation(&file).unwrap();
    let (mut tried, mut refused) = (0, 0);
    for page in (4096..whole.len()).step_by(4096) {
        // The first bytes of a page, and some of what is in it.
        for at in [0, 5, 100].map(|at| page + at).into_iter().filter(|at| *at < whole.len()) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&file, &flipped).unwrap();
            // Damage may end the process that meets it.
            match std::panic::catch_unwind(|| generation(&file)).unwrap_or_default() {
                Some(found) => assert_eq!(found, latest, "byte {at}"),
                None => refused += 1,
            }
            tried += 1;
        }
    }
    assert!(refused > 3, "{refused} of {tried}: the flips met nothing");
}
