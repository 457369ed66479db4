//! How the frames of [`crate::script`] are written and read.

use crate::algorithm::Algorithm;
use crate::call::CallName;
use crate::codec::{Frame, Malformed, Reader, Writer};
use crate::script::{
    Answer, Call, Ending, Failure, FromWorker, Job, MAX_MESSAGES, MAX_SCRIPT_BYTES,
    MAX_VALUE_BYTES, OVERHEAD_BYTES, Position, PublicForm, Scheme, Sighting, Task, ToWorker, Usage,
    Value,
};
use crate::tree::Tree;

impl Frame for ToWorker {
    const MAX_BYTES: usize = MAX_SCRIPT_BYTES + OVERHEAD_BYTES;

    fn put(&self, w: &mut Writer) {
        match self {
            ToWorker::Job(job) => {
                w.u8(0);
                w.u8(match job.task {
                    Task::Run => 0,
                    Task::Check => 1,
                });
                w.text(&job.source);
                w.u64(job.operations);
                w.u64(job.memory_bytes);
                w.u32(job.call_depth);
                w.u64(job.result_bytes);
                w.list(&job.granted, |w, call| w.u8(call.number()));
            }
            ToWorker::Answer(Answer::Fault(message)) => {
                w.u8(1);
                w.text(message);
            }
            ToWorker::Answer(Answer::Value(Value::Bool(value))) => {
                w.u8(2);
                w.u8(u8::from(*value));
            }
            ToWorker::Answer(Answer::Value(Value::Text(value))) => {
                w.u8(3);
                w.text(value);
            }
            ToWorker::Answer(Answer::Value(Value::Bytes(value))) => {
                w.u8(4);
                w.bytes(value);
            }
            ToWorker::Answer(Answer::Value(Value::Texts(values))) => {
                w.u8(5);
                w.list(values, |w, value| w.text(value));
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            0 => ToWorker::Job(Job {
                task: if r.flag()? { Task::Check } else { Task::Run },
                source: r.text()?.to_owned(),
                operations: r.u64()?,
                memory_bytes: r.u64()?,
                call_depth: r.u32()?,
                result_bytes: r.u64()?,
                granted: r.list(take_call_name)?,
            }),
            1 => ToWorker::Answer(Answer::Fault(r.text()?.to_owned())),
            2 => ToWorker::Answer(Answer::Value(Value::Bool(r.flag()?))),
            3 => ToWorker::Answer(Answer::Value(Value::Text(r.text()?.to_owned()))),
            4 => ToWorker::Answer(Answer::Value(Value::Bytes(r.bytes()?.to_vec()))),
            5 => ToWorker::Answer(Answer::Value(Value::Texts(
                r.list(|r| r.text().map(str::to_owned))?,
            ))),
            _ => return Err(Malformed),
        })
    }
}

impl Frame for FromWorker {
    const MAX_BYTES: usize = 2 * MAX_VALUE_BYTES + OVERHEAD_BYTES;

    fn put(&self, w: &mut Writer) {
        match self {
            FromWorker::Call(call, at) => {
                w.u8(0);
                put_position(w, *at);
                put_call(w, call);
            }
            FromWorker::NotGranted(call, at) => {
                w.u8(4);
                w.u8(call.number());
                put_position(w, *at);
            }
            FromWorker::Print(line) => {
                w.u8(1);
                w.text(line);
            }
            FromWorker::Done(ending, usage) => {
                w.u8(2);
                w.u64(usage.operations);
                w.u64(usage.memory_bytes);
                match ending {
                    Ending::Value(tree) => {
                        w.u8(0);
                        tree.put(w);
                    }
                    Ending::Failed(failure, message, at) => {
                        w.u8(1);
                        w.u8(*failure as u8);
                        w.text(message);
                        put_position(w, *at);
                    }
                }
            }
            FromWorker::Sightings(sightings) => {
                w.u8(3);
                w.list(sightings, |w, sighting| {
                    w.option(sighting.call.as_ref(), |w, call| w.u8(call.number()));
                    put_position(w, sighting.at);
                    w.option(sighting.literal.as_ref(), Writer::key_ref);
                    w.option(sighting.message.as_ref(), |w, message| w.bytes(message));
                    w.option(sighting.namespace.as_ref(), |w, namespace| w.text(namespace));
                    w.u8(u8::from(sighting.on_selected));
                    w.u8(u8::from(sighting.own_key));
                    w.option(sighting.algorithm.as_ref(), |w, algorithm| w.u8(algorithm.number()));
                    w.option(sighting.shadows.as_ref(), |w, name| w.text(name));
                    w.u8(u8::from(sighting.perhaps_own));
                });
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            0 => {
                let at = take_position(r)?;
                FromWorker::Call(take_call(r)?, at)
            }
            1 => FromWorker::Print(r.text()?.to_owned()),
            2 => {
                let usage = Usage { operations: r.u64()?, memory_bytes: r.u64()? };
                FromWorker::Done(take_ending(r)?, usage)
            }
            3 => FromWorker::Sightings(r.list(|r| {
                Ok(Sighting {
                    call: r.option(take_call_name)?,
                    at: take_position(r)?,
                    literal: r.option(Reader::key_ref)?,
                    message: r.option(|r| Ok(r.bytes()?.to_vec()))?,
                    namespace: r.option(|r| Ok(r.text()?.to_owned()))?,
                    on_selected: r.flag()?,
                    own_key: r.flag()?,
                    algorithm: r.option(take_algorithm)?,
                    shadows: r.option(take_text)?,
                    perhaps_own: r.flag()?,
                })
            })?),
            4 => FromWorker::NotGranted(take_call_name(r)?, take_position(r)?),
            _ => return Err(Malformed),
        })
    }
}

fn take_ending(r: &mut Reader<'_>) -> Result<Ending, Malformed> {
    Ok(if r.flag()? {
        let failure = Failure::ALL.get(usize::from(r.u8()?)).ok_or(Malformed)?;
        Ending::Failed(*failure, r.text()?.to_owned(), take_position(r)?)
    } else {
        Ending::Value(Tree::take(r)?)
    })
}

fn put_position(w: &mut Writer, at: Position) {
    w.u32(at.line);
    w.u32(at.column);
}

fn take_position(r: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position { line: r.u32()?, column: r.u32()? })
}

fn take_call_name(r: &mut Reader<'_>) -> Result<CallName, Malformed> {
    CallName::from_number(r.u8()?).ok_or(Malformed)
}

fn put_call(w: &mut Writer, call: &Call) {
    w.u8(call.name().number());
    match call {
        Call::CreateKeySpace(name)
        | Call::SelectKeySpace(name)
        | Call::DeleteKeySpace(name)
        | Call::ExportKeySpace(name) => w.name(name),
        Call::CreateKeypair(key, algorithm) => {
            w.key_ref(key);
            w.u8(algorithm.number());
        }
        Call::SelectKeypair(key) | Call::DeleteKeypair(key) => w.key_ref(key),
        Call::ListKeySpaces | Call::ListKeypairs | Call::GenerateKey => {}
        Call::PublicKey(key, form) => {
            w.option(key.as_ref(), Writer::key_ref);
            w.u8(*form as u8);
        }
        Call::RotateKeypair(key) => w.option(key.as_ref(), Writer::key_ref),
        Call::Sign(scheme, message, key) => {
            // `sign` is the one name of two calls.
            if *scheme == Scheme::Plain {
                w.u8(0);
            }
            w.bytes(message);
            w.option(key.as_ref(), Writer::key_ref);
        }
        Call::SignIn(namespace, message) => {
            w.name(namespace);
            w.bytes(message);
        }
        Call::SignAll(messages) => {
            w.u8(1);
            w.list(messages, |w, message| w.bytes(message));
        }
        Call::Hmac(message, key) => {
            w.bytes(message);
            w.option(key.as_ref(), Writer::key_ref);
        }
        Call::Encrypt(key, text) => {
            w.option(key.as_ref(), |w, key| w.text(key));
            w.bytes(text);
        }
        Call::Decrypt(key, text) => {
            w.option(key.as_ref(), |w, key| w.text(key));
            w.text(text);
        }
        Call::EncryptTo(public_key, text) => {
            w.text(public_key);
            w.bytes(text);
        }
        Call::DecryptFrom(text) => w.text(text),
        Call::Verify(message, signature) => {
            w.bytes(message);
            w.text(signature);
        }
        Call::VerifyWith(public_key, message, signature, algorithm) => {
            w.text(public_key);
            w.bytes(message);
            w.text(signature);
            w.option(algorithm.as_ref(), |w, algorithm| w.u8(algorithm.number()));
        }
        Call::Hash(algorithm, data) => {
            w.text(algorithm);
            w.bytes(data);
        }
        Call::RandomBytes(count) => w.u32(*count),
    }
}

fn take_call(r: &mut Reader<'_>) -> Result<Call, Malformed> {
    let name = take_call_name(r)?;
    Ok(match name {
        CallName::CreateKeySpace => Call::CreateKeySpace(r.name()?),
        CallName::SelectKeySpace => Call::SelectKeySpace(r.name()?),
        CallName::ListKeySpaces => Call::ListKeySpaces,
        CallName::DeleteKeySpace => Call::DeleteKeySpace(r.name()?),
        CallName::ExportKeySpace => Call::ExportKeySpace(r.name()?),
        CallName::CreateKeypair => Call::CreateKeypair(r.key_ref()?, take_algorithm(r)?),
        CallName::SelectKeypair => Call::SelectKeypair(r.key_ref()?),
        CallName::ListKeypairs => Call::ListKeypairs,
        CallName::PublicKey => {
            let key = r.option(Reader::key_ref)?;
            let form = PublicForm::ALL.get(usize::from(r.u8()?)).ok_or(Malformed)?;
            Call::PublicKey(key, *form)
        }
        CallName::RotateKeypair => Call::RotateKeypair(r.option(Reader::key_ref)?),
        CallName::DeleteKeypair => Call::DeleteKeypair(r.key_ref()?),
        CallName::Sign if r.flag()? => {
            let messages = r.list(|r| r.bytes().map(<[u8]>::to_vec))?;
            if messages.len() > MAX_MESSAGES {
                return Err(Malformed);
            }
            Call::SignAll(messages)
        }
        CallName::Sign => take_sign(r, Scheme::Plain)?,
        CallName::SignDigest => take_sign(r, Scheme::Digest)?,
        CallName::SignSchnorr => take_sign(r, Scheme::Schnorr)?,
        CallName::PersonalSign => take_sign(r, Scheme::Ethereum)?,
        CallName::SignIn => Call::SignIn(r.name()?, r.bytes()?.to_vec()),
        CallName::Hmac => Call::Hmac(r.bytes()?.to_vec(), r.option(Reader::key_ref)?),
        CallName::Encrypt => Call::Encrypt(r.option(take_text)?, r.bytes()?.to_vec()),
        CallName::Decrypt => Call::Decrypt(r.option(take_text)?, take_text(r)?),
        CallName::EncryptTo => Call::EncryptTo(take_text(r)?, r.bytes()?.to_vec()),
        CallName::DecryptFrom => Call::DecryptFrom(take_text(r)?),
        CallName::GenerateKey => Call::GenerateKey,
        CallName::Verify => Call::Verify(r.bytes()?.to_vec(), take_text(r)?),
        CallName::VerifyWith => Call::VerifyWith(
            take_text(r)?,
            r.bytes()?.to_vec(),
            take_text(r)?,
            r.option(take_algorithm)?,
        ),
        CallName::Hash => Call::Hash(take_text(r)?, r.bytes()?.to_vec()),
        CallName::RandomBytes => Call::RandomBytes(r.u32()?),
    })
}

fn take_sign(r: &mut Reader<'_>, scheme: Scheme) -> Result<Call, Malformed> {
    Ok(Call::Sign(scheme, r.bytes()?.to_vec(), r.option(Reader::key_ref)?))
}

fn take_algorithm(r: &mut Reader<'_>) -> Result<Algorithm, Malformed> {
    Algorithm::from_number(r.u8()?).ok_or(Malformed)
}

fn take_text(r: &mut Reader<'_>) -> Result<String, Malformed> {
    Ok(r.text()?.to_owned())
}
