//! What a script may call. Each call is one frame to the broker and one frame back; a call that the
//! broker refuses is never answered, for the script has ended.

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use rhai::{Blob, Dynamic, Engine, EvalAltResult, ImmutableString, NativeCallContext};
use wire::script::{
    Answer, Call, FromWorker, MAX_MESSAGES, MAX_VALUE_BYTES, MAX_WORD_BYTES, ToWorker, Value,
};
use wire::{Channel, KeyRef, Name};

use crate::engine::position;

type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

/// The worker's end of the script socket.
#[derive(Clone)]
pub(crate) struct Host(Rc<RefCell<Channel<ToWorker, FromWorker>>>);

impl Host {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self(Rc::new(RefCell::new(Channel::new(socket))))
    }

    /// Sends a frame. A broker that is gone wants nothing more of us.
    pub(crate) fn send(&self, frame: &FromWorker) {
        if self.0.borrow_mut().send(frame, None).is_err() {
            sandbox::exit_now(0);
        }
    }

    /// Waits for a frame. The broker closes the socket when the script is refused or out of time.
    pub(crate) fn receive(&self) -> ToWorker {
        match self.0.borrow_mut().receive(None) {
            Ok(frame) => frame,
            Err(_) => sandbox::exit_now(0),
        }
    }

    fn call(&self, context: &NativeCallContext<'_>, call: Call) -> Result<Dynamic> {
        if call.message_bytes() > MAX_VALUE_BYTES {
            return Err("the message is longer than 1 MiB".into());
        }
        self.send(&FromWorker::Call(call, position(context.call_position())));
        match self.receive() {
            ToWorker::Answer(Answer::Value(value)) => Ok(dynamic(value)),
            ToWorker::Answer(Answer::Fault(message)) => Err(message.into()),
            ToWorker::Job(_) => sandbox::exit_now(sandbox::EXIT_PANIC),
        }
    }
}

fn dynamic(value: Value) -> Dynamic {
    match value {
        Value::Bool(value) => value.into(),
        Value::Text(text) => text.into(),
        Value::Bytes(bytes) => Dynamic::from_blob(bytes),
        Value::Texts(texts) => texts.into_iter().map(Dynamic::from).collect::<Vec<_>>().into(),
    }
}

/// Gives an engine the host functions.
pub(crate) fn register(engine: &mut Engine, host: &Host) {
    spaces(engine, host);
    keys(engine, host);
    signing(engine, host);
    checking(engine, host);
    encodings(engine);
    let print = host.clone();
    engine.on_print(move |text| print.send(&FromWorker::Print(bounded(text))));
    let debug = host.clone();
    engine.on_debug(move |text, _, _| debug.send(&FromWorker::Print(bounded(text))));
}

/// Printed text over the largest output of any policy needs no more of it to be refused.
fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_VALUE_BYTES + 1);
    text.get(..end).unwrap_or_default().to_owned()
}

fn spaces(engine: &mut Engine, host: &Host) {
    for (word, make) in [
        ("create_key_space", Call::CreateKeySpace as fn(Name) -> Call),
        ("select_key_space", Call::SelectKeySpace),
        ("load_key_space", Call::SelectKeySpace),
        ("delete_key_space", Call::DeleteKeySpace),
    ] {
        let host = host.clone();
        engine.register_fn(word, move |context: NativeCallContext<'_>, name: &str| {
            host.call(&context, make(space(name)?))
        });
    }
    let listing = host.clone();
    engine.register_fn("list_key_spaces", move |context: NativeCallContext<'_>| {
        listing.call(&context, Call::ListKeySpaces)
    });
}

fn keys(engine: &mut Engine, host: &Host) {
    for (word, make) in [
        ("create_keypair", Call::CreateKeypair as fn(KeyRef) -> Call),
        ("select_keypair", Call::SelectKeypair),
        ("delete_keypair", Call::DeleteKeypair),
        ("public_key", |key| Call::PublicKey(Some(key))),
        ("keypair_pub_key", |key| Call::PublicKey(Some(key))),
    ] {
        let host = host.clone();
        engine.register_fn(word, move |context: NativeCallContext<'_>, name: &str| {
            host.call(&context, make(key(name)?))
        });
    }
    let algorithm = host.clone();
    engine.register_fn(
        "create_keypair",
        move |context: NativeCallContext<'_>, name: &str, word: &str| {
            if word != "ed25519" {
                return Err(format!("no algorithm `{}`: use ed25519", word.escape_debug()).into());
            }
            algorithm.call(&context, Call::CreateKeypair(key(name)?))
        },
    );
    for word in ["public_key", "keypair_pub_key"] {
        let host = host.clone();
        engine.register_fn(word, move |context: NativeCallContext<'_>| {
            host.call(&context, Call::PublicKey(None))
        });
    }
    let listing = host.clone();
    engine.register_fn("list_keypairs", move |context: NativeCallContext<'_>| {
        listing.call(&context, Call::ListKeypairs)
    });
}

fn signing(engine: &mut Engine, host: &Host) {
    let h = host.clone();
    engine.register_fn("sign", move |context: NativeCallContext<'_>, message: Dynamic| {
        h.call(&context, Call::Sign(bytes(message)?, None))
    });
    let h = host.clone();
    engine.register_fn(
        "sign",
        move |context: NativeCallContext<'_>, message: Dynamic, name: &str| {
            h.call(&context, Call::Sign(bytes(message)?, Some(key(name)?)))
        },
    );
    let h = host.clone();
    engine.register_fn(
        "sign_in",
        move |context: NativeCallContext<'_>, ns: &str, message: Dynamic| {
            let namespace = Name::parse(ns).map_err(|error| error.to_string())?;
            h.call(&context, Call::SignIn(namespace, bytes(message)?))
        },
    );
    let h = host.clone();
    engine.register_fn("sign_all", move |context: NativeCallContext<'_>, messages: rhai::Array| {
        if messages.len() > MAX_MESSAGES {
            return Err(format!("at most {MAX_MESSAGES} messages may be signed at once").into());
        }
        let messages = messages.into_iter().map(bytes).collect::<Result<Vec<_>>>()?;
        if messages.iter().map(|message| message.len() + 4).sum::<usize>() > MAX_VALUE_BYTES {
            return Err("the messages have more than 1 MiB in all".into());
        }
        h.call(&context, Call::SignAll(messages))
    });
}

/// What needs no private key.
fn checking(engine: &mut Engine, host: &Host) {
    let h = host.clone();
    engine.register_fn(
        "verify",
        move |context: NativeCallContext<'_>, message: Dynamic, signature: &str| {
            h.call(&context, Call::Verify(bytes(message)?, word(signature)?))
        },
    );
    let h = host.clone();
    engine.register_fn(
        "verify_with",
        move |context: NativeCallContext<'_>, public: &str, message: Dynamic, signature: &str| {
            let (public, signature) = (word(public)?, word(signature)?);
            h.call(&context, Call::VerifyWith(public, bytes(message)?, signature))
        },
    );
    let h = host.clone();
    engine.register_fn(
        "hash",
        move |context: NativeCallContext<'_>, algorithm: &str, data: Dynamic| {
            h.call(&context, Call::Hash(word(algorithm)?, bytes(data)?))
        },
    );
    let h = host.clone();
    engine.register_fn("random_bytes", move |context: NativeCallContext<'_>, count: i64| {
        let count = u32::try_from(count).map_err(|_| "the count is not between 1 and 1024")?;
        h.call(&context, Call::RandomBytes(count))
    });
}

/// Hex and base64 both ways: pure, so they never leave the worker.
fn encodings(engine: &mut Engine) {
    engine.register_fn("hex_encode", |data: Dynamic| {
        Ok::<_, Box<EvalAltResult>>(data_encoding::HEXLOWER.encode(&bytes(data)?))
    });
    engine.register_fn("base64_encode", |data: Dynamic| {
        Ok::<_, Box<EvalAltResult>>(BASE64.encode(&bytes(data)?))
    });
    engine.register_fn("hex_decode", |text: &str| -> Result<Blob> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        bytes.map_err(|error| format!("not hex: {error}").into())
    });
    engine.register_fn("base64_decode", |text: &str| -> Result<Blob> {
        let bytes = BASE64.decode(text.as_bytes());
        bytes.map_err(|error| format!("not base64: {error}").into())
    });
}

/// A short text: a signature, a public key, the name of an algorithm.
fn word(text: &str) -> Result<String> {
    if text.len() > MAX_WORD_BYTES {
        return Err(format!("an argument is longer than {MAX_WORD_BYTES} bytes").into());
    }
    Ok(text.to_owned())
}

fn space(text: &str) -> Result<Name> {
    Name::parse(text).map_err(|error| error.to_string().into())
}

fn key(text: &str) -> Result<KeyRef> {
    KeyRef::parse(text).map_err(|error| error.to_string().into())
}

/// A message: the bytes of a string, or a blob.
fn bytes(value: Dynamic) -> Result<Vec<u8>> {
    if value.is_blob() {
        return Ok(value.into_blob().unwrap_or_default());
    }
    let type_name = value.type_name();
    match value.try_cast::<ImmutableString>() {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Err(format!("a message is a string or a blob, not `{type_name}`").into()),
    }
}
