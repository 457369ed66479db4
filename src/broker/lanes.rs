//! Lanes: zygotes that wait for scripts. One is taken for each script and comes back if nothing is
//! wrong with it. Nothing here believes a script's process: what it says of its end is a label.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::{Isolation, Limits, Policy};
use sandbox::{Ended, Lane, LaneError, Launcher, NotEnough, Report, Strictness};
use wire::script::{FromWorker, ToWorker};
use wire::{Channel, Code};

use crate::outcome::Failure;

/// Scripts and time after which a zygote is replaced: its children share one layout of addresses.
const MOST_SCRIPTS: u32 = 1_000;
const LONGEST_LIFE: Duration = Duration::from_secs(600);
/// Scripts after which a process that is kept for one client is replaced.
const MOST_SCRIPTS_OF_ONE_PROCESS: u32 = 200;
/// How long a client may send nothing before the process that is kept for it is ended.
const LONGEST_IDLENESS: Duration = Duration::from_secs(60);
/// How long a script's process may take to be gone that was told to go.
const LAST_WORDS: Duration = Duration::from_millis(30);
/// How long the news may take of one that is going by itself: its memory is given back before its
/// socket closes, so this is the time of a loaded machine alone.
const NEWS: Duration = Duration::from_millis(500);

/// Signals that end a process whose native stack overflows.
const SEGMENTATION_FAULT: i32 = 11;
const BUS_ERROR: i32 = 7;
/// The signal of its timer.
const ALARM: i32 = 14;
/// The signal of the system call filter.
const BAD_SYSTEM_CALL: i32 = 31;

type Conversation = Channel<FromWorker, ToWorker>;

/// The lanes of a broker, made as they are needed.
pub struct Lanes {
    launcher: Arc<Launcher>,
    strictness: Strictness,
    isolation: Isolation,
    memory: u64,
    idle: Mutex<Vec<Slot>>,
}

/// Why scripts cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum LanesError {
    /// No lane can be started.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The kernel does not grant enough.
    #[error(transparent)]
    NotEnough(#[from] NotEnough),
    /// A first script did not end as it must.
    #[error("the worker does not work here: {0}")]
    SelfTest(String),
}

/// A zygote that waits.
struct Slot {
    lane: Lane,
    scripts: u32,
    since: Instant,
    resident: Option<Resident>,
}

/// A process that is kept for one client.
struct Resident {
    client: String,
    conversation: Conversation,
    scripts: u32,
    last: Instant,
}

/// A script's process that has been given nothing yet.
pub(crate) struct Stage<'l> {
    lanes: &'l Lanes,
    slot: Slot,
    pub(crate) conversation: Conversation,
    client: Option<(String, u32)>,
}

impl Lanes {
    /// Starts the first lane, before any key is near, and sees that a script can be run in it.
    ///
    /// # Errors
    /// See [`LanesError`].
    pub fn open(
        launcher: Arc<Launcher>,
        policy: &Policy,
        strictness: Strictness,
    ) -> Result<Self, LanesError> {
        let isolation = policy.isolation();
        let memory = policy.limits().memory.max(crate::lane::SELF_TEST_BYTES);
        let lanes = Self { launcher, strictness, isolation, memory, idle: Mutex::default() };
        let slot = lanes.start()?;
        lanes.give_back(slot);
        crate::lane::self_test(&lanes, policy.limits()).map_err(LanesError::SelfTest)?;
        Ok(lanes)
    }

    /// What the kernel grants to the processes that run scripts.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.first().map(|slot| slot.lane.report().clone())
    }

    /// What starts our other processes.
    pub(crate) fn launcher(&self) -> &Arc<Launcher> {
        &self.launcher
    }

    /// A process for one script of this client; `None` is nobody in particular.
    pub(crate) fn stage(
        &self,
        client: Option<&str>,
        limits: &Limits,
    ) -> Result<Stage<'_>, Failure> {
        let client = client.filter(|_| self.keeps());
        let mut last = None;
        // A lane that was killed while it waited is found out by using it.
        for _ in 0..2 {
            let slot = match self.take(client) {
                Some(slot) => slot,
                None => self.start().map_err(|error| unavailable(&error))?,
            };
            match self.enter(slot, client, limits) {
                Ok(stage) => return Ok(stage),
                Err(error) => last = Some(error),
            }
        }
        let reason = last.map_or_else(String::new, |error| error.to_string());
        Err(unavailable(&format!("a worker could not be used: {reason}")))
    }

    fn enter(
        &self,
        mut slot: Slot,
        client: Option<&str>,
        limits: &Limits,
    ) -> std::io::Result<Stage<'_>> {
        slot.scripts += 1;
        if let Some(resident) = slot.resident.take() {
            let client = Some((resident.client, resident.scripts + 1));
            return Ok(Stage { lanes: self, slot, conversation: resident.conversation, client });
        }
        let time = client.is_none().then(|| Duration::from_millis(limits.wall_clock));
        let conversation = Channel::new(slot.lane.fork(client.is_some(), time)?);
        let client = client.map(|client| (client.to_owned(), 1));
        Ok(Stage { lanes: self, slot, conversation, client })
    }

    fn keeps(&self) -> bool {
        self.isolation == Isolation::Client
    }

    fn start(&self) -> Result<Slot, LanesError> {
        let lane = Lane::start(&self.launcher, self.memory, self.keeps(), wire::BUILD)?;
        lane.report().judge(self.strictness)?;
        Ok(Slot { lane, scripts: 0, since: Instant::now(), resident: None })
    }

    /// The lane where this client's process waits, or else one without a process. Lanes whose time
    /// is over, and processes that have been idle, end here.
    fn take(&self, client: Option<&str>) -> Option<Slot> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(Slot::is_fresh);
        let is_home =
            |slot: &Slot| slot.resident.as_ref().map(|resident| resident.client.as_str()) == client;
        let at = idle.iter().rposition(is_home);
        let at = at.or_else(|| idle.iter().rposition(|slot| slot.resident.is_none()));
        // Somebody else's process makes room: its lane is ended, for it cannot be told to go.
        if at.is_none() && idle.len() >= RESIDENTS {
            drop(idle.remove(0));
        }
        at.map(|at| idle.remove(at))
    }

    fn give_back(&self, slot: Slot) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }
}

/// Most processes that are kept for clients and wait.
const RESIDENTS: usize = 16;

impl Slot {
    /// Whether it can take another script.
    fn is_fresh(&mut self) -> bool {
        let is_young = self.scripts < MOST_SCRIPTS && self.since.elapsed() < LONGEST_LIFE;
        let is_ready = match &self.resident {
            // It has something to say, or is gone: neither is in order.
            Some(resident) => {
                resident.last.elapsed() < LONGEST_IDLENESS && resident.conversation.is_silent()
            }
            None => self.has_no_process(LAST_WORDS),
        };
        is_young && is_ready
    }

    /// Whether the last script's process is gone, and ended in a way that leaves no doubt.
    fn has_no_process(&mut self, patience: Duration) -> bool {
        if !self.lane.is_forked() {
            return true;
        }
        matches!(self.lane.ended(patience), Ok(Some(ended)) if is_harmless(ended.status))
    }
}

impl Stage<'_> {
    /// The script has ended with a word of its own: its lane can take another. A process that is
    /// kept puts its memory back by itself.
    pub(crate) fn leave_well(self) {
        let Self { lanes, mut slot, conversation, client } = self;
        match client {
            Some((client, scripts)) if scripts < MOST_SCRIPTS_OF_ONE_PROCESS => {
                let last = Instant::now();
                slot.resident = Some(Resident { client, conversation, scripts, last });
                lanes.give_back(slot);
            }
            // Its lane is ended with it.
            Some(_) => {}
            None => lanes.give_back(slot),
        }
    }

    /// The script was cut off, or its process is going: it is ended. How it ended, if by itself.
    pub(crate) fn leave_badly(self, is_going: bool) -> Option<Ended> {
        let Self { lanes, mut slot, conversation, client: _ } = self;
        conversation.close();
        let ended = slot.lane.ended(if is_going { NEWS } else { LAST_WORDS });
        match ended {
            Ok(Some(ended)) => {
                let status = ended.status;
                if status.signal() == Some(BAD_SYSTEM_CALL) {
                    crate::serve::log(
                        "a script's process made a forbidden system call and was killed",
                    );
                }
                if is_harmless(status) {
                    lanes.give_back(slot);
                }
                Some(ended)
            }
            // The lane is ended, and with it the process.
            Ok(None) | Err(_) => None,
        }
    }
}

/// Ends that say nothing of an attack on the process itself. After another the lane is replaced, for
/// its processes share one layout of addresses.
fn is_harmless(status: ExitStatus) -> bool {
    status.code().is_some() || status.signal() == Some(ALARM)
}

/// What the end of a process that said nothing means.
pub(crate) fn explain(status: Option<ExitStatus>, limits: &Limits) -> Failure {
    let Some(status) = status else {
        return Failure::new(Code::Internal, "the worker failed");
    };
    if status.code() == Some(sandbox::EXIT_MEMORY) {
        let text = format!("the script took more than {} bytes of memory", limits.memory);
        return Failure::new(Code::LimitMemory, text);
    }
    if status.code() == Some(sandbox::EXIT_PANIC) {
        crate::serve::log("the script engine gave up on a script by a panic");
        return Failure::new(
            Code::ScriptError,
            "the script engine could not go on with this script",
        );
    }
    match status.signal() {
        Some(ALARM) => out_of_time(limits),
        Some(SEGMENTATION_FAULT | BUS_ERROR) => {
            Failure::new(Code::LimitDepth, "the script nested deeper than the native stack")
        }
        Some(_) | None => {
            crate::serve::log(&format!("a script's process ended unexpectedly: {status}"));
            Failure::new(Code::Internal, "the worker ended unexpectedly")
        }
    }
}

pub(crate) fn out_of_time(limits: &Limits) -> Failure {
    let text = format!("the script took more than {} ms", limits.wall_clock);
    Failure::new(Code::LimitTime, text)
}

fn unavailable(error: &dyn std::fmt::Display) -> Failure {
    crate::serve::log(&format!("cannot start a worker: {error}"));
    Failure::new(Code::Internal, "no worker could be started")
}
