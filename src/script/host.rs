//! What a script may call. Each call is one frame to the broker and one frame back; a call that the
//! broker refuses is never answered, for the script has ended.

use std::io::{self, Read, Write};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use rhai::{
    Blob, Dynamic, Engine, EvalAltResult, ImmutableString, NativeCallContext, RhaiNativeFunc,
    Variant,
};
use sandbox::ScriptSocket;
use wire::script::{
    Answer, Call, FromWorker, MAX_MESSAGES, MAX_VALUE_BYTES, MAX_WORD_BYTES, PublicForm, Scheme,
    ToWorker, Value,
};
use wire::{Algorithm, CallName, Frame, KeyRef, Name};

use crate::engine::position;

type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

/// The end of the script socket on this side.
#[derive(Clone, Copy)]
pub(crate) struct Host(ScriptSocket);

impl Host {
    pub(crate) fn new(socket: ScriptSocket) -> Self {
        Self(socket)
    }

    /// Sends a frame. A broker that is gone wants nothing more of us.
    pub(crate) fn send(mut self, frame: &FromWorker) {
        let sent = wire::channel::pack(frame).and_then(|bytes| self.0.write_all(&bytes));
        if sent.is_err() {
            sandbox::exit_now(0);
        }
    }

    /// Waits for a frame. The broker closes the socket when the script is refused or out of time.
    pub(crate) fn receive(self) -> ToWorker {
        self.receive_into(|_| {})
    }

    /// The same; `make_room` is told how long the frame is before there is memory for it.
    pub(crate) fn receive_into(self, make_room: impl FnOnce(usize)) -> ToWorker {
        self.try_receive(make_room).unwrap_or_else(|_| sandbox::exit_now(0))
    }

    fn try_receive(mut self, make_room: impl FnOnce(usize)) -> io::Result<ToWorker> {
        let socket = &mut self.0;
        let mut head = [0; 4];
        socket.read_exact(&mut head)?;
        let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
        let length = wire::channel::body_length::<ToWorker>(head).map_err(malformed)?;
        make_room(length);
        let mut body = vec![0; length];
        socket.read_exact(&mut body)?;
        ToWorker::decode(&body).map_err(malformed)
    }

    fn call(self, context: &NativeCallContext<'_>, call: Call) -> Result<Dynamic> {
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

/// Gives an engine the host functions that are granted. The names of the others are tripwires: they
/// take any arguments, tell the broker, and the script has ended.
pub(crate) fn register(engine: &mut Engine, host: Host, granted: &[CallName]) {
    encodings(engine);
    no_sign_of_numbers(engine);
    engine.on_print(move |text| host.send(&FromWorker::Print(bounded(text))));
    engine.on_debug(move |text, _, _| host.send(&FromWorker::Print(bounded(text))));
    for call in CallName::ALL.iter().filter(|call| !granted.contains(call)) {
        for word in call.words() {
            tripwire(engine, host, *call, word);
        }
    }
    let mut granted = Granted { engine, granted };
    spaces(&mut granted, host);
    keys(&mut granted, host);
    signing(&mut granted, host);
    encrypting(&mut granted, host);
    checking(&mut granted, host);
}

/// An engine that takes the functions that are granted and no others.
struct Granted<'g> {
    engine: &'g mut Engine,
    granted: &'g [CallName],
}

impl Granted<'_> {
    fn offer<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool>(
        &mut self,
        word: &str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + 'static,
    ) {
        if CallName::from_word(word).is_some_and(|call| self.granted.contains(&call)) {
            self.engine.register_fn(word, function);
        }
    }
}

/// A number is no message. The engine has a `sign` of its own for numbers, which would pass for a
/// signature.
fn no_sign_of_numbers(engine: &mut Engine) {
    let refuse = |what: &str| -> Result<()> {
        Err(format!("a message is a string or a blob, not {what}: turn it into a string").into())
    };
    engine.register_fn("sign", move |_: i64| refuse("a whole number"));
    engine.register_fn("sign", move |_: f64| refuse("a number"));
}

/// With as many arguments as any host function takes, and as few.
fn tripwire(engine: &mut Engine, host: Host, call: CallName, word: &str) {
    let end = move |context: &NativeCallContext<'_>| -> Result<()> {
        host.send(&FromWorker::NotGranted(call, position(context.call_position())));
        // There is no answer, only the end.
        host.receive();
        sandbox::exit_now(0)
    };
    engine.register_fn(word, move |context: NativeCallContext<'_>| end(&context));
    engine.register_fn(word, move |context: NativeCallContext<'_>, _: Dynamic| end(&context));
    // More exact than the engine's own functions of the same name, which are for numbers.
    engine.register_fn(word, move |context: NativeCallContext<'_>, _: i64| end(&context));
    engine.register_fn(word, move |context: NativeCallContext<'_>, _: f64| end(&context));
    engine.register_fn(word, move |context: NativeCallContext<'_>, _: Dynamic, _: Dynamic| {
        end(&context)
    });
    engine.register_fn(
        word,
        move |context: NativeCallContext<'_>, _: Dynamic, _: Dynamic, _: Dynamic| end(&context),
    );
    engine.register_fn(
        word,
        move |context: NativeCallContext<'_>, _: Dynamic, _: Dynamic, _: Dynamic, _: Dynamic| {
            end(&context)
        },
    );
}

/// Printed text over the largest output of any policy needs no more of it to be refused.
fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_VALUE_BYTES + 1);
    text.get(..end).unwrap_or_default().to_owned()
}

fn spaces(granted: &mut Granted<'_>, host: Host) {
    for (word, make) in [
        ("create_key_space", Call::CreateKeySpace as fn(Name) -> Call),
        ("select_key_space", Call::SelectKeySpace),
        ("load_key_space", Call::SelectKeySpace),
        ("delete_key_space", Call::DeleteKeySpace),
        ("export_key_space", Call::ExportKeySpace),
    ] {
        granted.offer(word, move |context: NativeCallContext<'_>, name: &str| {
            host.call(&context, make(space(name)?))
        });
    }
    granted.offer("list_key_spaces", move |context: NativeCallContext<'_>| {
        host.call(&context, Call::ListKeySpaces)
    });
}

fn keys(granted: &mut Granted<'_>, host: Host) {
    for (word, make) in [
        (
            "create_keypair",
            (|key| Call::CreateKeypair(key, Algorithm::Ed25519)) as fn(KeyRef) -> Call,
        ),
        ("select_keypair", Call::SelectKeypair),
        ("delete_keypair", Call::DeleteKeypair),
        ("rotate_keypair", |key| Call::RotateKeypair(Some(key))),
    ] {
        granted.offer(word, move |context: NativeCallContext<'_>, name: &str| {
            host.call(&context, make(key(name)?))
        });
    }
    granted.offer(
        "create_keypair",
        move |context: NativeCallContext<'_>, name: &str, word: &str| {
            host.call(&context, Call::CreateKeypair(key(name)?, algorithm(word)?))
        },
    );
    granted.offer("rotate_keypair", move |context: NativeCallContext<'_>| {
        host.call(&context, Call::RotateKeypair(None))
    });
    granted.offer("list_keypairs", move |context: NativeCallContext<'_>| {
        host.call(&context, Call::ListKeypairs)
    });
    public_keys(granted, host);
}

fn public_keys(granted: &mut Granted<'_>, host: Host) {
    for (word, form) in [
        ("public_key", PublicForm::Hex),
        ("keypair_pub_key", PublicForm::Hex),
        ("ethereum_address", PublicForm::Ethereum),
    ] {
        granted.offer(word, move |context: NativeCallContext<'_>| {
            host.call(&context, Call::PublicKey(None, form))
        });
        granted.offer(word, move |context: NativeCallContext<'_>, name: &str| {
            host.call(&context, Call::PublicKey(Some(key(name)?), form))
        });
    }
    granted.offer("public_key", move |context: NativeCallContext<'_>, name: &str, form: &str| {
        let words = PublicForm::ALL.map(PublicForm::word).join(", ");
        let form = PublicForm::from_word(form).ok_or_else(|| {
            format!("no form `{}` of a public key: use one of {words}", form.escape_debug())
        })?;
        host.call(&context, Call::PublicKey(Some(key(name)?), form))
    });
}

fn signing(granted: &mut Granted<'_>, host: Host) {
    for (word, scheme) in [
        ("sign", Scheme::Plain),
        ("sign_digest", Scheme::Digest),
        ("sign_schnorr", Scheme::Schnorr),
        ("personal_sign", Scheme::Ethereum),
    ] {
        with_key(granted, host, word, move |message, key| Call::Sign(scheme, message, key));
    }
    with_key(granted, host, "hmac", Call::Hmac);
    granted.offer("sign_in", move |context: NativeCallContext<'_>, ns: &str, message: Dynamic| {
        let namespace = Name::parse(ns).map_err(|error| error.to_string())?;
        host.call(&context, Call::SignIn(namespace, bytes(message)?))
    });
    granted.offer("sign_all", move |context: NativeCallContext<'_>, messages: rhai::Array| {
        if messages.len() > MAX_MESSAGES {
            return Err(format!("at most {MAX_MESSAGES} messages may be signed at once").into());
        }
        let messages = messages.into_iter().map(bytes).collect::<Result<Vec<_>>>()?;
        if messages.iter().map(|message| message.len() + 4).sum::<usize>() > MAX_VALUE_BYTES {
            return Err("the messages have more than 1 MiB in all".into());
        }
        host.call(&context, Call::SignAll(messages))
    });
}

/// A function of a message and, where it is not the selected one, a key.
fn with_key(
    granted: &mut Granted<'_>,
    host: Host,
    word: &str,
    make: impl Fn(Vec<u8>, Option<KeyRef>) -> Call + Copy + 'static,
) {
    granted.offer(word, move |context: NativeCallContext<'_>, message: Dynamic| {
        host.call(&context, make(bytes(message)?, None))
    });
    granted.offer(word, move |context: NativeCallContext<'_>, message: Dynamic, name: &str| {
        host.call(&context, make(bytes(message)?, Some(key(name)?)))
    });
}

fn encrypting(granted: &mut Granted<'_>, host: Host) {
    granted.offer("generate_key", move |context: NativeCallContext<'_>| {
        host.call(&context, Call::GenerateKey)
    });
    granted.offer("encrypt", move |context: NativeCallContext<'_>, data: Dynamic| {
        host.call(&context, Call::Encrypt(None, bytes(data)?))
    });
    granted.offer("encrypt", move |context: NativeCallContext<'_>, key: &str, data: Dynamic| {
        host.call(&context, Call::Encrypt(Some(word(key)?), bytes(data)?))
    });
    granted.offer("decrypt", move |context: NativeCallContext<'_>, text: &str| {
        host.call(&context, Call::Decrypt(None, sealed(text)?))
    });
    granted.offer("decrypt", move |context: NativeCallContext<'_>, key: &str, text: &str| {
        host.call(&context, Call::Decrypt(Some(word(key)?), sealed(text)?))
    });
    granted.offer("encrypt_to", move |context: NativeCallContext<'_>, to: &str, data: Dynamic| {
        host.call(&context, Call::EncryptTo(word(to)?, bytes(data)?))
    });
    granted.offer("decrypt_from", move |context: NativeCallContext<'_>, text: &str| {
        host.call(&context, Call::DecryptFrom(sealed(text)?))
    });
}

/// What needs no private key.
fn checking(granted: &mut Granted<'_>, host: Host) {
    granted.offer(
        "verify",
        move |context: NativeCallContext<'_>, message: Dynamic, signature: &str| {
            host.call(&context, Call::Verify(bytes(message)?, word(signature)?))
        },
    );
    granted.offer(
        "verify_with",
        move |context: NativeCallContext<'_>, public: &str, message: Dynamic, signature: &str| {
            let (public, signature) = (word(public)?, word(signature)?);
            host.call(&context, Call::VerifyWith(public, bytes(message)?, signature, None))
        },
    );
    granted.offer(
        "verify_with",
        move |context: NativeCallContext<'_>,
              public: &str,
              message: Dynamic,
              signature: &str,
              of: &str| {
            let (public, signature) = (word(public)?, word(signature)?);
            let call = Call::VerifyWith(public, bytes(message)?, signature, Some(algorithm(of)?));
            host.call(&context, call)
        },
    );
    granted.offer("hash", move |context: NativeCallContext<'_>, algorithm: &str, data: Dynamic| {
        host.call(&context, Call::Hash(word(algorithm)?, bytes(data)?))
    });
    granted.offer("random_bytes", move |context: NativeCallContext<'_>, count: i64| {
        let count = u32::try_from(count).map_err(|_| "the count is not between 1 and 1024")?;
        host.call(&context, Call::RandomBytes(count))
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

/// What was encrypted, in base64. Longer ones than fit a frame are none of ours.
fn sealed(text: &str) -> Result<String> {
    if text.len() > MAX_VALUE_BYTES {
        return Err("the text is longer than 1 MiB".into());
    }
    Ok(text.to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm> {
    Algorithm::from_word(text).ok_or_else(|| {
        format!("no algorithm `{}`: {}", text.escape_debug(), Algorithm::HELP).into()
    })
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
