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
const LONGEST_IDLENESS: Duration = Duration::from_secs(10);
/// A process whose script has held more than this, in bytes, costs less to replace than to put back.
const WORTH_KEEPING: u64 = 2 * 1024 * 1024;
/// How long a process may take to be gone that has said its last word: to give memory back takes time.
const LONGEST_LEAVE: Duration = Duration::from_secs(1);
/// How long a script waits for a lane whose last process is going, in the place of starting another:
/// about what that takes.
const WORTH_WAITING: Duration = Duration::from_millis(4);
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
    /// Most lanes that wait: as many as may run at once.
    most: usize,
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
    /// When the last script left it, or its process was told to go.
    left: Instant,
    resident: Option<Resident>,
}

/// A process that is kept for one client.
struct Resident {
    client: String,
    conversation: Conversation,
    scripts: u32,
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
        let most = usize::try_from(policy.limits().concurrent).unwrap_or(1);
        let lanes = Self { launcher, strictness, isolation, memory, most, idle: Mutex::default() };
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

    /// Most bytes that a script may hold in the lanes, which were started for that.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
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
        // A lane that was killed while it waited is found out by using it.
        while let Some(slot) = self.take(client) {
            if let Ok(stage) = self.enter(slot, client, limits) {
                return Ok(stage);
            }
        }
        let slot = self.start().map_err(|error| unavailable(&error))?;
        self.enter(slot, client, limits).map_err(|error| unavailable(&error))
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
        let now = Instant::now();
        Ok(Slot { lane, scripts: 0, since: now, left: now, resident: None })
    }

    /// A lane that can take a script of this client: the one where its process waits, or one without
    /// a process. What turns out not to be in order ends here, outside of the lock; where the last
    /// script's process is still on its way out, the lane waits on.
    fn take(&self, client: Option<&str>) -> Option<Slot> {
        let mut leaving = Vec::new();
        let mut found = None;
        while let Some(mut slot) = self.choose(client) {
            match slot.look(client) {
                Look::Ready => {
                    found = Some(slot);
                    break;
                }
                Look::Leaving if leaving.len() < self.most => leaving.push(slot),
                Look::Leaving | Look::Over => {}
            }
        }
        if found.is_none()
            && let Some(mut first) = leaving.pop()
        {
            // The lock is not held here, so the others are back first.
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).append(&mut leaving);
            match first.lane.ended(WORTH_WAITING) {
                Ok(Some(ended)) if is_harmless(ended.status) => found = Some(first),
                Ok(Some(ended)) => note(ended.status),
                Ok(None) => self.give_back(first),
                Err(_) => {}
            }
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).append(&mut leaving);
        found
    }

    fn choose(&self, client: Option<&str>) -> Option<Slot> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |slot: &Slot| slot.resident.as_ref().map(|resident| resident.client.clone());
        let own = idle.iter().rposition(|slot| of(slot).as_deref() == client);
        let free = || idle.iter().rposition(|slot| slot.resident.is_none());
        // Beyond what may run at once, somebody else's process makes room: the one that has waited
        // longest.
        let other = || (idle.len() >= self.most).then_some(0);
        own.or_else(free).or_else(other).map(|at| idle.remove(at))
    }

    /// A lane waits again; one of more than may run at once is ended, the one that has waited longest.
    fn give_back(&self, slot: Slot) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(slot);
        let surplus = if idle.len() > self.most { Some(idle.remove(0)) } else { None };
        drop(idle);
        // It is ended by being dropped, outside of the lock.
        drop(surplus);
    }

    /// Ends the lanes whose time is over, and the processes of clients that send nothing.
    pub(crate) fn sweep(&self) {
        let mut over = Vec::new();
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut at = 0;
            while let Some(slot) = idle.get(at) {
                if slot.is_over() {
                    over.push(idle.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        // They are ended by being dropped, and nobody waits for that.
        drop(over);
    }
}

/// What a lane that waits is good for.
enum Look {
    /// Another script.
    Ready,
    /// Another script, once the last one's process is gone.
    Leaving,
    /// Nothing.
    Over,
}

impl Slot {
    /// Whether it can take a script of this client.
    fn look(&mut self, client: Option<&str>) -> Look {
        if self.is_over() {
            return Look::Over;
        }
        // A process that waits for its client says nothing.
        let is_fit = |resident: &Resident| {
            Some(resident.client.as_str()) == client && resident.conversation.is_silent()
        };
        if self.resident.as_ref().is_some_and(is_fit) {
            return Look::Ready;
        }
        self.evict();
        if !self.lane.is_forked() {
            return if self.lane.is_waiting() { Look::Ready } else { Look::Over };
        }
        match self.lane.ended(Duration::ZERO) {
            Ok(Some(ended)) if is_harmless(ended.status) => Look::Ready,
            Ok(Some(ended)) => {
                note(ended.status);
                Look::Over
            }
            Ok(None) if self.left.elapsed() < LONGEST_LEAVE => Look::Leaving,
            Ok(None) | Err(_) => Look::Over,
        }
    }

    fn is_over(&self) -> bool {
        self.scripts >= MOST_SCRIPTS
            || self.since.elapsed() >= LONGEST_LIFE
            || (self.resident.is_some() && self.left.elapsed() >= LONGEST_IDLENESS)
    }

    /// Closes the socket of the process that waits: it ends, or its lane does.
    fn evict(&mut self) {
        if let Some(resident) = self.resident.take() {
            resident.conversation.close();
            self.left = Instant::now();
        }
    }
}

impl Stage<'_> {
    /// The script has ended with a word of its own: its lane can take another. A process that is
    /// kept puts its memory back by itself, unless its script says that it held much.
    pub(crate) fn leave_well(self, memory_bytes: u64) {
        let Self { lanes, mut slot, conversation, client } = self;
        slot.left = Instant::now();
        match client {
            Some((client, scripts))
                if scripts < MOST_SCRIPTS_OF_ONE_PROCESS && memory_bytes < WORTH_KEEPING =>
            {
                slot.resident = Some(Resident { client, conversation, scripts });
            }
            // It ends when it finds its socket closed.
            Some(_) | None => conversation.close(),
        }
        lanes.give_back(slot);
    }

    /// The script was cut off, or its process is going: it is ended. How it ended, if by itself.
    pub(crate) fn leave_badly(self, is_going: bool) -> Option<Ended> {
        let Self { lanes, mut slot, conversation, client: _ } = self;
        conversation.close();
        slot.left = Instant::now();
        match slot.lane.ended(if is_going { NEWS } else { LAST_WORDS }) {
            Ok(Some(ended)) => {
                note(ended.status);
                if is_harmless(ended.status) {
                    lanes.give_back(slot);
                }
                Some(ended)
            }
            // The lane is ended, and with it the process.
            Ok(None) | Err(_) => None,
        }
    }
}

/// Tells the operator of an end that could be an attack on the process itself.
fn note(status: ExitStatus) {
    match status.signal() {
        None | Some(ALARM) => {}
        Some(BAD_SYSTEM_CALL) => {
            crate::serve::log("a script's process made a forbidden system call and was killed");
        }
        Some(signal) => crate::serve::log(&format!("a script's process ended by signal {signal}")),
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
        Some(_) | None => Failure::new(Code::Internal, "the worker ended unexpectedly"),
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
