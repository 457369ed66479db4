//! Serving the listener: it is started, watched and started again; its requests go to the lanes.

use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandbox::{Confined, Program};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wire::Channel;
use wire::request::{FromListener, Request, ToListener};

use crate::Broker;

/// Requests that wait, for each script that may run. The listener holds no more than these in all
/// and answers `busy` beyond, so the queue between us never blocks.
const QUEUED_PER_SCRIPT: usize = 16;
/// How long the listener may take to read a reply.
const REPLY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a listener that closed its socket may take to be gone.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// First and longest pause before a listener that ended is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A listener that lived this long is not failing at its start.
const SETTLED: Duration = Duration::from_secs(30);

/// How a listener is started.
pub struct ListenerProgram {
    /// Its executable.
    pub program: Program,
    /// Its arguments, to which the number of requests that it may hold is added.
    pub arguments: Vec<String>,
}

/// Why serving ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The first listener ended before it was ready; it has said why.
    #[error("the listener could not start")]
    Listener {
        /// Its exit code.
        code: Option<i32>,
    },
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
}

type Writer = Arc<Mutex<Channel<FromListener, ToListener>>>;

/// Serves until SIGTERM or SIGINT. Then the listener hands in what it has taken, every request is
/// answered, and this returns. `ready` is told each time a listener is subscribed.
///
/// # Errors
/// When the first listener cannot start.
pub fn serve(
    _confined: &Confined,
    broker: &Arc<Broker>,
    listener: &ListenerProgram,
    ready: impl Fn(),
) -> Result<(), ServeError> {
    let running = usize::try_from(broker.policy().limits().concurrent).unwrap_or(1);
    let waiting = running * QUEUED_PER_SCRIPT;
    let (jobs, queue) = sync_channel(waiting);
    let lanes = start_lanes(broker, running, queue)?;
    let state = Arc::new(State::default());
    watch_signals(&state)?;
    let result = supervise(listener, running + waiting, &state, &jobs, ready);
    drop(jobs);
    for lane in lanes {
        // A lane that panicked has said so; the others end by themselves.
        let _panicked = lane.join();
    }
    result
}

/// What the signal thread and the supervisor share.
#[derive(Default)]
struct State {
    draining: AtomicBool,
    listener: Mutex<Option<Writer>>,
}

impl State {
    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = listener.as_ref() {
            send(writer, &ToListener::Drain);
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

fn start_lanes(
    broker: &Arc<Broker>,
    count: usize,
    queue: Receiver<(Request, Writer)>,
) -> io::Result<Vec<std::thread::JoinHandle<()>>> {
    let queue = Arc::new(Mutex::new(queue));
    let lane = |number| {
        let (broker, queue) = (Arc::clone(broker), Arc::clone(&queue));
        std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((request, writer)) = next else { return };
                let reply = broker.answer(&request);
                send(&writer, &ToListener::Reply(reply));
            }
        })
    };
    (0..count).map(lane).collect()
}

/// The first signal drains, the second ends at once; the kernel then ends our children.
fn watch_signals(state: &Arc<State>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let state = Arc::clone(state);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if state.is_draining() {
                sandbox::exit_now(1);
            }
            log("stopping: no new requests, those taken are answered");
            state.drain();
        }
    })?;
    Ok(())
}

fn supervise(
    listener: &ListenerProgram,
    capacity: usize,
    state: &State,
    jobs: &SyncSender<(Request, Writer)>,
    ready: impl Fn(),
) -> Result<(), ServeError> {
    let mut arguments = listener.arguments.clone();
    arguments.extend(["--capacity".to_owned(), capacity.to_string()]);
    let (mut was_ready, mut pause) = (false, FIRST_PAUSE);
    loop {
        let started = Instant::now();
        let (mut child, socket) = listener.program.start(&arguments, true)?;
        let mut reader = Channel::new(socket);
        let writer = Arc::new(Mutex::new(reader.try_clone()?));
        *state.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&writer));
        if state.is_draining() {
            send(&writer, &ToListener::Drain);
        }
        while let Ok(frame) = reader.receive(None) {
            match frame {
                FromListener::Ready { build } if build == wire::BUILD => {
                    was_ready = true;
                    ready();
                }
                FromListener::Ready { .. } => break,
                FromListener::Request(request) => {
                    if jobs.send((request, Arc::clone(&writer))).is_err() {
                        break;
                    }
                }
            }
        }
        reader.close();
        // It has closed its socket, and has perhaps something to say, or broken the protocol.
        let status = sandbox::last_words(&mut child, LAST_WORDS)?;
        if state.is_draining() {
            return Ok(());
        }
        if !was_ready {
            return Err(ServeError::Listener { code: status.code() });
        }
        pause = if started.elapsed() > SETTLED { FIRST_PAUSE } else { pause };
        report(status, pause);
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn report(status: ExitStatus, pause: Duration) {
    log(&format!("the listener ended ({status}): starting another in {} ms", pause.as_millis()));
}

/// A listener that is gone or does not read loses the reply; its requests were answered as far as
/// we can.
fn send(writer: &Writer, frame: &ToListener) {
    let mut channel = writer.lock().unwrap_or_else(PoisonError::into_inner);
    if channel.send(frame, Some(Instant::now() + REPLY_PATIENCE)).is_err() {
        channel.close();
    }
}

/// One line to the operator.
#[expect(clippy::print_stderr, reason = "the one place where the broker speaks")]
pub(crate) fn log(text: &str) {
    eprintln!("crypto-cli: {text}");
}
