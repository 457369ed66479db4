//! The process's life: connect, confine, subscribe, hand over, drain.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use async_nats::service::{self, ServiceExt};
use async_nats::{Client, Event, HeaderMap, PublishErrorKind};
use client::{Connect, ConnectFault, Lasting, Prepared};
use futures_util::StreamExt;
use sandbox::{ConfineError, Confined, State, Untraced};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{Receiver, Sender};
use wire::Code;
use wire::request::{
    ERROR_CODE_HEADER, ERROR_HEADER, FromListener, PROOF_HEADER, ProofHeader, Reply, ToListener,
    error_body,
};
use wire::script::MAX_SCRIPT_BYTES;

use crate::settle::Settling;
use crate::{admit, link};

/// The name under which the service is found by `$SRV.PING`.
const SERVICE_NAME: &str = "crypto-cli";

/// What it says of itself to `$SRV.INFO`.
const DESCRIPTION: &str =
    "runs scripts that a policy checks, with keys that scripts use and cannot read";

/// What the headers of a reply take of the server's largest message, in bytes.
const HEADER_ROOM: usize = 4 * 1024;

/// What to listen to.
pub struct Listen {
    /// The server.
    pub connect: Connect,
    /// The subject.
    pub subject: String,
    /// Listeners of one queue group share the requests of the subject.
    pub queue_group: String,
    /// Most requests that are held at once; beyond, the answer is `busy`.
    pub capacity: usize,
}

/// Why the listener ended.
#[derive(Debug, thiserror::Error)]
pub enum ListenFault {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectFault),
    /// The subject or the service could not be registered.
    #[error("cannot serve `{subject}`: {cause}")]
    Subscribe {
        /// The subject.
        subject: String,
        /// Why.
        cause: String,
    },
    /// The kernel refused a confinement.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The socket to the broker failed.
    #[error("the broker is gone: {0}")]
    Broker(#[from] io::Error),
}

/// Reads its files, confines itself, and listens until the broker says to drain or is gone.
///
/// # Errors
/// See [`ListenFault`].
pub fn run(untraced: Untraced, listen: &Listen, broker: UnixStream) -> Result<(), ListenFault> {
    // What follows after this line opens no file, and reaches one port.
    let prepared = client::prepare(&listen.connect)?;
    let confined = Confined::listener(untraced, prepared.port())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&confined, prepared, listen, broker))
}

async fn serve(
    confined: &Confined,
    prepared: Prepared,
    listen: &Listen,
    broker: UnixStream,
) -> Result<(), ListenFault> {
    if confined.landlock() != State::On {
        log(&format!("landlock: {}", confined.landlock()));
    }
    let settling = Settling::new(&listen.subject);
    let heard = settling.clone();
    let on_event = move |event| {
        if !heard.hear(&event) {
            report(event);
        }
    };
    let client = prepared.connect(Lasting::ForAWhile, on_event).await?;
    let refused = |cause: async_nats::Error| ListenFault::Subscribe {
        subject: listen.subject.clone(),
        cause: cause.to_string(),
    };
    let service = client
        .service_builder()
        .description(DESCRIPTION)
        .queue_group(&listen.queue_group)
        .start(SERVICE_NAME, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(refused)?;
    let endpoint = service.endpoint_builder().name("run").add(&listen.subject).await;
    let endpoint = endpoint.map_err(refused)?;
    client.flush().await.map_err(|error| refused(error.into()))?;
    settling.wait(&client).await.map_err(|why| refused(why.into()))?;
    broker.set_nonblocking(true)?;
    let (from_broker, mut to_broker) = tokio::net::UnixStream::from_std(broker)?.into_split();
    let bound = most_of(&client);
    link::send(&mut to_broker, &ready(bound)).await?;
    let mut desk = Desk {
        capacity: listen.capacity,
        next: 0,
        open: HashMap::new(),
        unsigned: HashSet::new(),
        to_broker: writer(to_broker, 2 * listen.capacity),
        client: client.clone(),
        bound,
    };
    let served = desk.serve(endpoint, from_broker).await;
    // Replies leave before the connection does, however the serving ended; and the socket to the
    // broker stays open until then, for the broker ends a listener that closes it.
    let _stopped = service.stop().await;
    finish(&client).await;
    drop(desk);
    served
}

/// The requests that the broker has and has not answered.
struct Desk {
    capacity: usize,
    next: u64,
    open: HashMap<u64, service::Request>,
    /// Those of them that carry no proof.
    unsigned: HashSet<u64>,
    to_broker: Sender<FromListener>,
    client: Client,
    /// Largest reply body, in bytes, that the broker was told of.
    bound: usize,
}

impl Desk {
    async fn serve(
        &mut self,
        mut endpoint: service::endpoint::Endpoint,
        from_broker: OwnedReadHalf,
    ) -> Result<(), ListenFault> {
        let mut frames = frames(from_broker);
        let served = self.attend(&mut endpoint, &mut frames).await;
        // Whatever happened, nobody is left waiting. What the broker did with these is not known.
        for (_, request) in self.open.drain() {
            refuse(&request, Code::Internal, "the service failed: the outcome is not known").await;
        }
        served
    }

    async fn attend(
        &mut self,
        endpoint: &mut service::endpoint::Endpoint,
        frames: &mut Receiver<ToListener>,
    ) -> Result<(), ListenFault> {
        loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Some(ToListener::Reply(reply)) => self.answer(reply).await,
                    Some(ToListener::Drain) => break,
                    None => return Err(gone()),
                },
                request = endpoint.next() => match request {
                    Some(request) => self.take(request).await?,
                    None => break,
                },
            }
        }
        // What has come from the server is in the endpoint's buffer. What is on its way is lost: the
        // NATS library cannot tell the server to stop and go on listening.
        let _stopped = endpoint.stop().await;
        while let Some(request) = endpoint.next().await {
            self.take(request).await?;
        }
        while !self.open.is_empty() {
            match frames.recv().await {
                Some(ToListener::Reply(reply)) => self.answer(reply).await,
                Some(ToListener::Drain) => {}
                None => return Err(gone()),
            }
        }
        Ok(())
    }

    /// Hands a request to the broker, or refuses it at once.
    async fn take(&mut self, request: service::Request) -> Result<(), ListenFault> {
        // Nobody could be told, so it is not a request.
        if request.message.reply.is_none() {
            return Ok(());
        }
        if self.open.len() >= self.capacity {
            refuse(&request, Code::Busy, "the queue is full: try again later").await;
            return Ok(());
        }
        let bound = most_of(&self.client);
        if self.bound != bound {
            // The server was given another one, or is another: what is run from now on is held to it.
            self.bound = bound;
            self.to_broker.send(ready(bound)).await.map_err(|_| gone())?;
        }
        let ticket = self.next;
        self.next += 1;
        match admit::request(&request.message, ticket) {
            Ok(frame) if frame.proof == ProofHeader::Absent && !self.admits_unsigned() => {
                refuse(&request, Code::Busy, "too many unsigned requests: try again later").await;
            }
            Ok(frame) => {
                if frame.proof == ProofHeader::Absent {
                    self.unsigned.insert(ticket);
                }
                self.open.insert(ticket, request);
                // There is room for every open request and a word before each, so this never waits.
                self.to_broker.send(FromListener::Request(frame)).await.map_err(|_| gone())?;
            }
            Err(bytes) => {
                let text =
                    format!("the script has {bytes} bytes, at most {MAX_SCRIPT_BYTES} are allowed");
                refuse(&request, Code::LimitScriptSize, &text).await;
            }
        }
        Ok(())
    }

    /// Half of the room is for those who say who they are.
    fn admits_unsigned(&self) -> bool {
        self.unsigned.len() < self.capacity.div_ceil(2)
    }

    async fn answer(&mut self, reply: Reply) {
        let Some(request) = self.open.remove(&reply.ticket) else {
            return;
        };
        self.unsigned.remove(&reply.ticket);
        let mut headers = HeaderMap::new();
        if let Some(proof) = &reply.proof {
            headers.insert(PROOF_HEADER, proof.as_str());
        }
        if let Some(code) = reply.error {
            name_error(&mut headers, code);
        }
        if !respond(&request, headers, reply.body).await {
            // It was measured against what the server took when it was made.
            let text = "the server takes only smaller answers now: the outcome is not known";
            refuse(&request, Code::Internal, text).await;
        }
    }
}

/// Largest reply body that the server takes, in bytes, as it said when it was connected to last.
fn most_of(client: &Client) -> usize {
    client.max_payload().saturating_sub(HEADER_ROOM)
}

fn ready(bound: usize) -> FromListener {
    let reply_bytes = u64::try_from(bound).unwrap_or(u64::MAX);
    FromListener::Ready { build: wire::BUILD.to_owned(), reply_bytes }
}

fn gone() -> ListenFault {
    ListenFault::Broker(io::ErrorKind::UnexpectedEof.into())
}

/// Frames to the broker, written by a task of their own: while one is written, replies are read.
fn writer(mut to_broker: OwnedWriteHalf, capacity: usize) -> Sender<FromListener> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(capacity);
    tokio::spawn(async move {
        while let Some(frame) = receiver.recv().await {
            if link::send(&mut to_broker, &frame).await.is_err() {
                return;
            }
        }
    });
    sender
}

/// Frames of the broker, read by a task of their own: reading one is not a step that can be dropped
/// half-way.
fn frames(mut from_broker: OwnedReadHalf) -> Receiver<ToListener> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(frame) = link::receive(&mut from_broker).await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// An answer of the listener's own. It is not signed, and says so by the lack of a proof.
async fn refuse(request: &service::Request, code: Code, message: &str) {
    let mut headers = HeaderMap::new();
    name_error(&mut headers, code);
    let as_json = request.message.headers.as_ref().is_some_and(admit::wants_json);
    let _sent = respond(request, headers, error_body(code, message, as_json)).await;
}

fn name_error(headers: &mut HeaderMap, code: Code) {
    headers.insert(ERROR_HEADER, code.word());
    headers.insert(ERROR_CODE_HEADER, code.number().to_string());
}

/// Sends a reply; `false` when the server takes none so large.
async fn respond(request: &service::Request, headers: HeaderMap, body: Vec<u8>) -> bool {
    let sent = request.respond_with_headers(Ok(body.into()), headers).await;
    let Err(error) = sent else { return true };
    log(&format!("a reply could not be sent: {error}"));
    error.kind() != PublishErrorKind::MaxPayloadExceeded
}

/// Waits until everything that was published has left.
async fn finish(client: &Client) {
    let flushed = tokio::time::timeout(Duration::from_secs(5), client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        log("the last replies may not have left");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of the callback")]
fn report(event: Event) {
    if matches!(event, Event::SlowConsumer(_)) {
        log("nats: more came than could be taken: requests were lost");
    } else if !matches!(event, Event::Connected) {
        log(&format!("nats: {event}"));
    }
}

fn log(text: &str) {
    // If nobody listens, nobody is told: that is no reason to stop serving.
    let _unheard = writeln!(io::stderr().lock(), "crypto-cli listener: {text}");
}
