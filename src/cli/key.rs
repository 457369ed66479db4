//! `crypto-cli key`: keys.

use std::path::Path;

use sandbox::Untraced;
use serde_json::json;
use wire::Algorithm;
use wire::operator::{Act, MAX_WRAPPED_BYTES};
use wire::script::PublicForm;

use crate::args::{Format, ImportKeyArgs, KeyArgs, KeyCommand, PublicArgs, WrapArgs};
use crate::exit::{Exit, Fault};
use crate::operate::{Files, key_path, name, operate};
use crate::output::{Output, STANDARD};
use crate::{ask, files, say};

/// What every age file begins with.
const WRAPPED: &[u8] = b"age-encryption.org/";

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

pub(crate) fn key(command: &KeyCommand) -> Result<Exit, Fault> {
    let _untraced = Untraced::begin()?;
    let on = |args: &KeyArgs, act: fn(wire::KeyPath) -> Act| {
        operate(&args.operate, act(key_path(&args.key)?), Files::default())
    };
    match command {
        KeyCommand::New(args) => {
            let act = Act::NewKey(key_path(&args.key.key)?, algorithm(&args.algorithm)?);
            operate(&args.key.operate, act, Files::default())
        }
        KeyCommand::List(args) => {
            let space = args.space.as_deref().map(name).transpose()?;
            operate(&args.operate, Act::ListKeys(space), Files::default())
        }
        KeyCommand::Show(args) => on(args, Act::ShowKey),
        KeyCommand::Rotate(args) => on(args, Act::RotateKey),
        KeyCommand::Disable(args) => on(args, Act::DisableKey),
        KeyCommand::Enable(args) => on(args, Act::EnableKey),
        KeyCommand::Delete(args) => {
            let key = key_path(&args.key.key)?;
            ask::before(&format!("delete the key `{key}`"), args.yes)?;
            let act = Act::DeleteKey(key, u64::from(args.wait_days) * DAY);
            operate(&args.key.operate, act, Files::default())
        }
        KeyCommand::Restore(args) => on(args, Act::RestoreKey),
        KeyCommand::Destroy(args) => {
            ask::before(&format!("destroy the key `{}` for good", args.key.key), args.yes)?;
            on(&args.key, Act::DestroyKey)
        }
        KeyCommand::Import(args) => import(args),
        KeyCommand::Wrap(args) => wrap(args),
        KeyCommand::Recipient(args) => operate(args, Act::Recipient, Files::default()),
        KeyCommand::Public(args) => public(args),
    }
}

fn import(args: &ImportKeyArgs) -> Result<Exit, Fault> {
    let key = key_path(&args.key.key)?;
    let algorithm = args.algorithm.as_deref().map(algorithm).transpose()?;
    let wrapped = files::read_bounded(&args.file, MAX_WRAPPED_BYTES)?;
    if !wrapped.starts_with(WRAPPED) {
        let file = args.file.display();
        return Err(Fault::usage(format!(
            "`{file}` is not wrapped, or not as a binary age file: `crypto-cli key wrap {file} --to $(crypto-cli key \
             recipient) --output {file}.age`"
        )));
    }
    operate(&args.key.operate, Act::ImportKey(key, algorithm, wrapped), Files::default())
}

fn wrap(args: &WrapArgs) -> Result<Exit, Fault> {
    let plain = files::read_private(&args.file)?;
    let wrapped = keyspace::wrap_for(&args.to, &plain)?;
    if args.format == Format::Json && args.output == Path::new(STANDARD) {
        return Err(Fault::usage("standard output takes the key or the JSON: name a file"));
    }
    let mut output = Output::create(&args.output)?;
    let written = output.write(&wrapped);
    written.map_err(|error| Fault::system("cannot write the wrapped key", &error))?;
    output.finish()?;
    let output = args.output.display();
    match args.format {
        Format::Text => say::talk(&format!("wrapped: `crypto-cli key import SPACE/KEY {output}`")),
        Format::Json => {
            say::line(&json!({ "schema": 1, "output": output.to_string() }).to_string())?;
        }
    }
    Ok(Exit::Done)
}

fn public(args: &PublicArgs) -> Result<Exit, Fault> {
    let form = PublicForm::from_word(&args.form).ok_or_else(|| {
        let words: Vec<&str> = PublicForm::ALL.iter().map(|form| form.word()).collect();
        let (form, words) = (args.form.escape_debug(), words.join(", "));
        Fault::usage(format!("`{form}` is no form of a public key: use {words}"))
    })?;
    let act = Act::PublicKey(key_path(&args.key.key)?, form);
    operate(&args.key.operate, act, Files::default())
}

pub(crate) fn algorithm(word: &str) -> Result<Algorithm, Fault> {
    Algorithm::from_word(word).ok_or_else(|| {
        let words: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.word()).collect();
        let (word, words) = (word.escape_debug(), words.join(", "));
        Fault::usage(format!("`{word}` is no algorithm: use {words}"))
    })
}
