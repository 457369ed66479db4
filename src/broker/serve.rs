//! Serving the listener: it is started, watched and started again; its requests go to the lanes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use sandbox::{Confined, Role};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wire::Channel;
use wire::request::{FromListener, ToListener};

use crate::AdminSocket;
use crate::clock::seconds;
use crate::gate::{Gate, crowded_out};
use crate::house::keep_house;
use crate::identify::Arrival;
use crate::link::{Link, REPLY_PATIENCE};
use crate::queue::{Queue, Waits};

/// Requests that wait, for each script that may run.
const QUEUED_PER_SCRIPT: usize = 32;
/// Requests that the listener may hold beyond those that wait and run, for each script that may run. Only we
/// know whose a request is, so one must get here to be given the place of another.
const ARRIVING_PER_SCRIPT: usize = 16;
/// How long a listener may take to connect and subscribe.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long after a stop was asked for requests that wait are still run.
const GRACE: Duration = Duration::from_secs(10);
/// How long a listener that closed its socket may take to be gone.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// First and longest pause before a listener that ended is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often it is asked whether the keyspace can still be written.
const LOOK: Duration = Duration::from_secs(1);
/// A listener that lived this long is not failing at its start.
const SETTLED: Duration = Duration::from_secs(30);

/// Why serving ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The first listener ended before it was ready; it has said why.
    #[error("the listener could not start")]
    Listener {
        /// Its exit code.
        code: Option<i32>,
    },
    /// The keyspace's file could not be written, so that no change can be kept until it is opened again.
    #[error("no change of the keyspace can be kept: see to its disk and start the service again")]
    Keyspace,
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT, or until the keyspace can no longer be written. Then the listener hands in what
/// it has taken, every request is answered, and this returns. `ready` is told each time a listener is subscribed.
/// On SIGHUP the policy is read again; so it is when an operator asks for it at `admin`.
///
/// # Errors
/// When the first listener cannot start, or the keyspace can no longer be written.
pub fn serve(
    _confined: &Confined,
    gate: &Arc<Gate>,
    admin: AdminSocket,
    ready: impl Fn(),
) -> Result<(), ServeError> {
    let running = gate.concurrent;
    let places = Places::beside(running);
    let queue = Arc::new(Queue::of_at_most(places.waiting));
    let state = Arc::new(State::default());
    let lanes = start_lanes(gate, running, &queue, &state)?;
    watch_signals(gate, &state)?;
    watch_keyspace(gate, &state)?;
    if let Some(broker) = gate.broker() {
        keep_house(&broker)?;
    }
    admin.serve(gate)?;
    let lost = Arc::clone(&state);
    let supervisor = Supervisor { gate, capacity: places.all, state, queue: &queue };
    let result = supervisor.run(ready);
    queue.close();
    for lane in lanes {
        // A panic ends the whole process, so a lane ends only by itself.
        let _panicked = lane.join();
    }
    if let Some(Err(error)) = gate.broker().map(|broker| broker.close()) {
        log(&error.to_string());
    }
    if lost.is_lost.load(Ordering::SeqCst) { Err(ServeError::Keyspace) } else { result }
}

/// How many requests have a place.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    waiting: usize,
    /// With those that run and those that arrive: as many as a listener takes.
    all: usize,
}

impl Places {
    /// Where so many scripts run at once.
    fn beside(running: usize) -> Self {
        let waiting = running * QUEUED_PER_SCRIPT;
        Self { waiting, all: running + waiting + running * ARRIVING_PER_SCRIPT }
    }
}

/// A request, and whom its answer goes back to.
struct Job {
    arrival: Arrival,
    link: Arc<Link>,
}

impl Waits for Job {
    fn proven(&self) -> Option<(&str, &str)> {
        self.arrival.proven()
    }

    fn is_late(&self) -> bool {
        self.arrival.is_late(seconds())
    }
}

/// What the signal thread, the supervisor and the lanes share.
#[derive(Default)]
struct State {
    drain: OnceLock<Instant>,
    link: Mutex<Option<Arc<Link>>>,
    /// The keyspace can no longer be written.
    is_lost: AtomicBool,
}

impl State {
    /// Held for a moment only, so that a listener can be cut off while it is written to.
    fn link(&self) -> Option<Arc<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn drain(&self) {
        if let Some(link) = self.link() {
            link.send(&ToListener::Drain);
        }
    }

    fn cut_off(&self) {
        if let Some(link) = self.link() {
            link.cut_off();
        }
    }

    fn is_draining(&self) -> bool {
        self.drain.get().is_some()
    }

    /// Whether requests that still wait are refused instead of run.
    fn is_grace_over(&self) -> bool {
        self.drain.get().is_some_and(|since| since.elapsed() > GRACE)
    }
}

fn start_lanes(
    gate: &Arc<Gate>,
    count: usize,
    queue: &Arc<Queue<Job>>,
    state: &Arc<State>,
) -> io::Result<Vec<std::thread::JoinHandle<()>>> {
    let lane = |number| {
        let (gate, queue, state) = (Arc::clone(gate), Arc::clone(queue), Arc::clone(state));
        std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            loop {
                let Some(Job { arrival, link }) = queue.next() else { return };
                // Nobody would hear the answer, so nothing is done.
                if link.is_gone() {
                    continue;
                }
                let reply = if state.is_grace_over() {
                    gate.decline(&arrival.request)
                } else {
                    gate.answer(&arrival)
                };
                link.send(&ToListener::Reply(reply));
            }
        })
    };
    (0..count).map(lane).collect()
}

/// SIGHUP reads the policy again. The first of the others drains, the second ends at once; the kernel
/// then ends our children.
fn watch_signals(gate: &Arc<Gate>, state: &Arc<State>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (state, gate) = (Arc::clone(state), Arc::downgrade(gate));
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                let Some(gate) = gate.upgrade() else { return };
                gate.reload();
                continue;
            }
            if state.is_draining() {
                sandbox::exit_now(1);
            }
            stop(&gate, &state);
        }
    })?;
    Ok(())
}

/// Ends the service in good order once the keyspace can no longer be written: changes that cannot be kept are
/// not asked for, and what starts the service again finds out.
fn watch_keyspace(gate: &Arc<Gate>, state: &Arc<State>) -> io::Result<()> {
    let (state, gate) = (Arc::clone(state), Arc::downgrade(gate));
    std::thread::Builder::new().name("keyspace".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            let Some(open) = gate.upgrade() else { return };
            if open.broker().is_some_and(|broker| broker.keyspace.is_lost()) {
                log("the keyspace's file could not be read or written");
                state.is_lost.store(true, Ordering::SeqCst);
                return stop(&gate, &state);
            }
        }
    })?;
    Ok(())
}

/// Takes no new requests; those that were taken are answered.
fn stop(gate: &Weak<Gate>, state: &Arc<State>) {
    log("stopping: no new requests, those taken are answered");
    state.drain.get_or_init(Instant::now);
    // Those that run at the end of the grace may take their whole time.
    let wall_clock = |gate: Arc<Gate>| Some(gate.broker()?.policy().limits().wall_clock);
    let wall_clock = gate.upgrade().and_then(wall_clock).unwrap_or(0);
    let longest = GRACE + Duration::from_millis(wall_clock) + REPLY_PATIENCE;
    // A listener that does not end by then is cut off. One that is not ours any more may read so slowly that it
    // cannot even be told before: neither this thread nor the next signal waits for that.
    let (telling, ending) = (Arc::clone(state), Arc::clone(state));
    std::thread::spawn(move || {
        std::thread::sleep(longest);
        ending.cut_off();
    });
    std::thread::spawn(move || telling.drain());
}

/// Keeps a listener running.
struct Supervisor<'s> {
    gate: &'s Gate,
    capacity: usize,
    state: Arc<State>,
    queue: &'s Queue<Job>,
}

impl Supervisor<'_> {
    fn run(&self, ready: impl Fn()) -> Result<(), ServeError> {
        // All that the launcher is told; the other arguments it has from the start.
        let arguments = [self.capacity.to_string()];
        let (mut was_ready, mut pause) = (false, FIRST_PAUSE);
        loop {
            let started = Instant::now();
            let (process, socket) = match self.gate.launcher.launch(Role::Own, &arguments) {
                Ok(started) => started,
                Err(error) if was_ready => {
                    log(&format!("cannot start a listener: {error}"));
                    if !self.waits(pause) {
                        return Ok(());
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut reader = Channel::new(socket.into());
            let link = Arc::new(Link::to(&reader)?);
            *self.state.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
            if self.state.is_draining() {
                link.send(&ToListener::Drain);
            }
            was_ready |= self.read(&mut reader, &link, &ready);
            link.cut_off();
            self.queue.retain(|job| !job.link.is_gone());
            // It has closed its socket, and has perhaps something to say, or broken the protocol.
            let status = process.last_words(LAST_WORDS)?;
            if !was_ready && !self.state.is_draining() {
                return Err(ServeError::Listener { code: status.code() });
            }
            pause = if started.elapsed() > SETTLED { FIRST_PAUSE } else { pause };
            if !self.state.is_draining() {
                log(&format!("the listener ended ({status}): starting another"));
            }
            if !self.waits(pause) {
                return Ok(());
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes frames until the listener closes its socket or breaks the protocol; whether it was
    /// ready.
    fn read(
        &self,
        reader: &mut Channel<FromListener, ToListener>,
        link: &Arc<Link>,
        ready: &impl Fn(),
    ) -> bool {
        let mut is_ready = false;
        let mut deadline = Some(Instant::now() + START_PATIENCE);
        while let Ok(frame) = reader.receive(deadline) {
            deadline = None;
            match frame {
                FromListener::Ready { build, reply_bytes } if build == wire::BUILD => {
                    self.gate.bound_replies(reply_bytes);
                    // It says so again when the server takes other sizes than before.
                    if !is_ready {
                        is_ready = true;
                        ready();
                    }
                }
                FromListener::Request(request) if is_ready => {
                    let arrival = self.gate.receive(request);
                    self.let_wait(Job { arrival, link: Arc::clone(link) });
                }
                FromListener::Ready { .. } | FromListener::Request(_) => break,
            }
        }
        is_ready
    }

    /// Puts a request into its line. One that has no place was not looked at.
    fn let_wait(&self, job: Job) {
        let Some(Job { arrival, link }) = self.queue.push(job) else { return };
        if !link.is_gone() {
            link.send(&ToListener::Reply(crowded_out(&arrival.request)));
        }
    }

    /// Waits before another listener is started; `false` when none is to be.
    fn waits(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while !self.state.is_draining() {
            if Instant::now() >= until {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// One line to the operator.
pub(crate) fn log(text: &str) {
    // If nobody listens, nobody is told: that is no reason to stop signing.
    let _unheard = writeln!(io::stderr().lock(), "crypto-cli: {text}");
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use wire::request::Reply;

    use super::*;

    #[test]
    fn for_each_script_that_may_run_some_wait_and_some_arrive() {
        assert_eq!(Places::beside(3), Places { waiting: 96, all: 3 + 96 + 48 });
    }

    #[test]
    fn a_listener_that_does_not_read_holds_up_neither_a_stop_nor_its_own_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let link = Arc::new(Link::to(&Channel::new(ours)).unwrap());
        let state =
            Arc::new(State { link: Mutex::new(Some(Arc::clone(&link))), ..State::default() });
        let started = Instant::now();
        std::thread::scope(|scope| {
            let reply = Reply { ticket: 1, proof: None, error: None, body: vec![0; 4 << 20] };
            let writing = scope.spawn(move || link.send(&ToListener::Reply(reply)));
            std::thread::sleep(Duration::from_millis(100));
            stop(&Weak::new(), &state);
            std::thread::sleep(Duration::from_millis(100));
            assert!(state.is_draining() && !writing.is_finished());
            state.cut_off();
        });
        let took = started.elapsed();
        assert!(took < REPLY_PATIENCE / 2, "it took {took:?}");
        drop(theirs);
    }
}
