//! What each host function does, once the session has counted it.

use keyspace::{Exported, KeyspaceError, Staged};
use policy::{Act, Decision, Facts, Permit, Target};
use wire::script::{Call, Scheme, Value};
use wire::{Algorithm, CallName, KeyPath, KeyRef, Name};

use crate::clock;
use crate::session::{Done, Session, Stop};

/// Most random bytes of one call.
const MOST_RANDOM_BYTES: u32 = 1024;

impl<'b> Session<'b> {
    /// Does what a call asks for.
    pub(crate) fn perform(&mut self, call: Call) -> Done<Value> {
        let name = call.name();
        match call {
            Call::CreateKeySpace(space) => self.create_space(space),
            Call::SelectKeySpace(space) => self.select_space(space),
            Call::DeleteKeySpace(space) => self.delete_space(space),
            Call::ExportKeySpace(space) => self.export_space(space),
            Call::ListKeySpaces => self.list_spaces(),
            Call::CreateKeypair(key, algorithm) => self.create_key(key, algorithm),
            Call::SelectKeypair(key) => self.select_key(key),
            Call::RotateKeypair(key) => self.rotate_key(key),
            Call::DeleteKeypair(key) => self.delete_key(key),
            Call::ListKeypairs => self.list_keys(),
            Call::PublicKey(key, form) => {
                let read = |staged: &Staged<'_>, permit| staged.public_key(permit, form);
                self.with_key(name, key, Facts::default(), read).map(Value::Text)
            }
            Call::Sign(scheme, message, key) => {
                not_namespaced(&message)?;
                let sign = |staged: &Staged<'_>, permit| staged.sign(permit, scheme, &message);
                Ok(Value::Text(hex(&self.with_key(name, key, on(&message), sign)?)))
            }
            Call::SignIn(namespace, message) => {
                let sign =
                    |staged: &Staged<'_>, permit| staged.sign_in(permit, &namespace, &message);
                let facts = Facts { namespace: Some(namespace.as_str()), ..on(&message) };
                Ok(Value::Text(hex(&self.with_key(name, None, facts, sign)?)))
            }
            Call::SignAll(messages) => self.sign_all(&messages),
            Call::Verify(message, signature) => {
                let signature = unhex(&signature, "a signature")?;
                let read =
                    |staged: &Staged<'_>, permit| staged.verify(permit, &message, &signature);
                self.with_key(name, None, on(&message), read).map(Value::Bool)
            }
            Call::VerifyWith(public, message, signature, algorithm) => {
                let _permit = self.permit(name, Target::Nothing, on(&message))?;
                verify_with(&public, &message, &signature, algorithm)
            }
            Call::Hash(algorithm, data) => {
                let _permit = self.permit(name, Target::Nothing, on(&data))?;
                hash(&algorithm, &data)
            }
            Call::RandomBytes(count) => {
                let _permit = self.permit(name, Target::Nothing, Facts::default())?;
                random_bytes(count)
            }
            Call::Hmac(message, key) => {
                let make = |staged: &Staged<'_>, permit| staged.hmac(permit, &message);
                Ok(Value::Text(hex(&self.with_key(name, key, on(&message), make)?)))
            }
            Call::Encrypt(key, text) => self.encrypt(key, &text),
            Call::Decrypt(key, text) => self.decrypt(key, &text),
            Call::EncryptTo(public, text) => {
                let _permit = self.permit(name, Target::Nothing, Facts::default())?;
                let public = unhex(&public, "a public key")?;
                Ok(Value::Text(keyspace::encrypt_to(&public, &text)?))
            }
            Call::DecryptFrom(text) => {
                let open = |staged: &Staged<'_>, permit| staged.decrypt_from(permit, &text);
                self.with_key(name, None, Facts::default(), open).map(|text| opened(&text))
            }
            Call::GenerateKey => {
                let _permit = self.permit(name, Target::Nothing, Facts::default())?;
                Ok(Value::Text(keyspace::new_data_key()?))
            }
        }
    }

    /// Under the selected key, or under one that the script has itself.
    fn encrypt(&self, own: Option<String>, text: &[u8]) -> Done<Value> {
        let Some(own) = own else {
            let seal = |staged: &Staged<'_>, permit| staged.encrypt(permit, text);
            let sealed = self.with_key(CallName::Encrypt, None, Facts::default(), seal);
            return sealed.map(Value::Text);
        };
        let _permit = self.permit(CallName::Encrypt, Target::Nothing, Facts::default())?;
        Ok(Value::Text(keyspace::encrypt_with(&own, text)?))
    }

    fn decrypt(&self, own: Option<String>, text: &str) -> Done<Value> {
        let Some(own) = own else {
            let open = |staged: &Staged<'_>, permit| staged.decrypt(permit, text);
            let text = self.with_key(CallName::Decrypt, None, Facts::default(), open)?;
            return Ok(opened(&text));
        };
        let _permit = self.permit(CallName::Decrypt, Target::Nothing, Facts::default())?;
        Ok(opened(&keyspace::decrypt_with(&own, text)?))
    }

    /// As many times `sign` as there are messages: each is counted, decided and recorded.
    fn sign_all(&mut self, messages: &[Vec<u8>]) -> Done<Value> {
        let mut signatures = Vec::new();
        for (number, message) in messages.iter().enumerate() {
            if number > 0 {
                self.count_call()?;
                self.in_time()?;
            }
            not_namespaced(message)?;
            let sign = |staged: &Staged<'_>, permit| staged.sign(permit, Scheme::Plain, message);
            signatures.push(hex(&self.with_key(CallName::Sign, None, on(message), sign)?));
        }
        Ok(Value::Texts(signatures))
    }

    /// Uses the named or the selected key: no use without a permit for exactly this key.
    fn with_key<T>(
        &self,
        call: CallName,
        key: Option<KeyRef>,
        facts: Facts<'_>,
        act: impl FnOnce(&Staged<'b>, Permit) -> Result<Option<T>, KeyspaceError>,
    ) -> Done<T> {
        let path = self.key_or_selected(key)?;
        let permit = self.permit(call, Target::Key(path.clone()), facts)?;
        let done = act(&self.staged, permit)?.ok_or_else(|| no_key(&path))?;
        if !matches!(call, CallName::PublicKey | CallName::Verify) {
            self.note_use(&path);
        }
        Ok(done)
    }

    fn create_space(&mut self, space: Name) -> Done<Value> {
        let permit =
            self.permit(CallName::CreateKeySpace, Target::Space(space.clone()), Facts::default())?;
        self.room_for_new_key()?;
        let made = self.staged.create_space(permit)?;
        if made {
            self.new_keys += 1;
            (self.space, self.key) = (Some(space), None);
        }
        Ok(Value::Bool(made))
    }

    fn select_space(&mut self, space: Name) -> Done<Value> {
        let permit =
            self.permit(CallName::SelectKeySpace, Target::Space(space.clone()), Facts::default())?;
        let there = self.staged.select_space(permit)?;
        if there {
            (self.space, self.key) = (Some(space), None);
        }
        Ok(Value::Bool(there))
    }

    fn delete_space(&mut self, space: Name) -> Done<Value> {
        let permit =
            self.permit(CallName::DeleteKeySpace, Target::Space(space.clone()), Facts::default())?;
        let gone = self.staged.delete_space(permit)?;
        if gone && self.space.as_ref() == Some(&space) {
            (self.space, self.key) = (None, None);
        }
        Ok(Value::Bool(gone))
    }

    /// Keys leave here, for those whom the policy names. What leaves is on disk in the log before it does.
    fn export_space(&self, space: Name) -> Done<Value> {
        let call = CallName::ExportKeySpace;
        let permit = self.permit(call, Target::Space(space.clone()), Facts::default())?;
        let to: Vec<String> = permit.recipients().iter().map(ToString::to_string).collect();
        let exported = self.staged.export_space(permit, clock::seconds())?;
        let Exported { bundle, keys } = exported.ok_or_else(|| no_space(&space))?;
        self.record_export(&space, &to, keys.len(), &bundle)?;
        for key in keys {
            self.note_use(&KeyPath { space: space.clone(), key });
        }
        Ok(Value::Text(data_encoding::BASE64.encode(&bundle)))
    }

    fn list_spaces(&mut self) -> Done<Value> {
        let call = CallName::ListKeySpaces;
        self.may_list(call)?;
        let act = |name: &Name| Act { call, target: Target::Space(name.clone()) };
        let names = self.staged.spaces(|name| self.is_granted(act(name)))?;
        self.shown(&names, act)
    }

    fn create_key(&mut self, key: KeyRef, algorithm: Algorithm) -> Done<Value> {
        let path = self.path(key)?;
        let facts = Facts { algorithm: Some(algorithm), ..Facts::default() };
        let permit = self.permit(CallName::CreateKeypair, Target::Key(path.clone()), facts)?;
        self.room_for_new_key()?;
        let made = self.staged.create_key(permit, algorithm, clock::seconds())?;
        let made = made.ok_or_else(|| no_space(&path.space))?;
        if made {
            self.new_keys += 1;
            (self.space, self.key) = (Some(path.space.clone()), Some(path));
        }
        Ok(Value::Bool(made))
    }

    fn select_key(&mut self, key: KeyRef) -> Done<Value> {
        let path = self.path(key)?;
        let permit =
            self.permit(CallName::SelectKeypair, Target::Key(path.clone()), Facts::default())?;
        let there = self.staged.select_key(permit)?;
        if there {
            (self.space, self.key) = (Some(path.space.clone()), Some(path));
        }
        Ok(Value::Bool(there))
    }

    fn rotate_key(&mut self, key: Option<KeyRef>) -> Done<Value> {
        let path = self.key_or_selected(key)?;
        let target = Target::Key(path.clone());
        let permit = self.permit(CallName::RotateKeypair, target, Facts::default())?;
        self.room_for_new_key()?;
        let rotated = self.staged.rotate_key(permit, clock::seconds())?;
        rotated.ok_or_else(|| no_key(&path))?;
        self.new_keys += 1;
        Ok(Value::Bool(true))
    }

    fn delete_key(&mut self, key: KeyRef) -> Done<Value> {
        let path = self.path(key)?;
        let permit =
            self.permit(CallName::DeleteKeypair, Target::Key(path.clone()), Facts::default())?;
        let gone = self.staged.delete_key(permit)?;
        if gone && self.key.as_ref() == Some(&path) {
            self.key = None;
        }
        Ok(Value::Bool(gone))
    }

    fn list_keys(&mut self) -> Done<Value> {
        let call = CallName::ListKeypairs;
        self.may_list(call)?;
        let space = self.space.clone().ok_or_else(no_space_selected)?;
        let act = |name: &Name| {
            let path = KeyPath { space: space.clone(), key: name.clone() };
            Act { call, target: Target::Key(path) }
        };
        let names = self.staged.keys(&space, |name| self.is_granted(act(name)))?;
        self.shown(&names, act)
    }

    fn is_granted(&self, act: Act) -> Result<bool, KeyspaceError> {
        Ok(matches!(self.decide(act, Facts::default())?, Decision::Allow(_)))
    }

    /// The names on which the policy grants the listing. The listing of the first is permitted, and
    /// so counted and recorded, as any call is.
    fn shown(&self, names: &[Name], act: impl Fn(&Name) -> Act) -> Done<Value> {
        if let Some(first) = names.first() {
            let act = act(first);
            let _permit = self.permit(act.call, act.target, Facts::default())?;
        }
        Ok(Value::Texts(names.iter().map(ToString::to_string).collect()))
    }

    fn path(&self, key: KeyRef) -> Done<KeyPath> {
        let space = key.space.or_else(|| self.space.clone()).ok_or_else(no_space_selected)?;
        Ok(KeyPath { space, key: key.key })
    }

    fn key_or_selected(&self, key: Option<KeyRef>) -> Done<KeyPath> {
        match key {
            Some(key) => self.path(key),
            None => self.key.clone().ok_or_else(|| {
                let text = "no key is selected: call `select_keypair` or `create_keypair` first";
                Stop::Fault(text.to_owned())
            }),
        }
    }
}

/// What is known of an act on this message.
fn on(message: &[u8]) -> Facts<'_> {
    Facts { message: Some(message), ..Facts::default() }
}

/// What `sign_in` signs cannot be had from `sign`.
fn not_namespaced(message: &[u8]) -> Done<()> {
    if Staged::is_namespaced(message) {
        return Err(Stop::Fault("messages that begin so are kept for `sign_in`".to_owned()));
    }
    Ok(())
}

fn no_space_selected() -> Stop {
    let text = "no key space is selected: call `select_key_space` or `create_key_space` first";
    Stop::Fault(text.to_owned())
}

fn no_space(space: &Name) -> Stop {
    Stop::Fault(format!("there is no key space `{space}`"))
}

fn no_key(path: &KeyPath) -> Stop {
    Stop::Fault(format!("there is no key `{path}`"))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn unhex(text: &str, what: &str) -> Done<Vec<u8>> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    bytes.map_err(|_| fault(&format!("{what} is written in hexadecimal digits")))
}

fn fault(text: &str) -> Stop {
    Stop::Fault(text.to_owned())
}

/// Text as text, anything else as a blob.
fn opened(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes(bytes.to_vec()),
    }
}

/// A public key of 32 bytes is one of Ed25519; those of 33 do not tell their curve.
fn verify_with(
    public: &str,
    message: &[u8],
    signature: &str,
    algorithm: Option<Algorithm>,
) -> Done<Value> {
    let public = unhex(public, "a public key")?;
    let signature = unhex(signature, "a signature")?;
    let algorithm = match (algorithm, public.len()) {
        (Some(algorithm), _) => algorithm,
        (None, 32) => Algorithm::Ed25519,
        (None, _) => {
            return Err(fault("say the algorithm of the public key: ed25519, secp256k1 or p256"));
        }
    };
    let good = keyspace::verify_with(algorithm, &public, message, &signature);
    good.map(Value::Bool).ok_or_else(|| fault(&format!("keys for {algorithm} do not sign")))
}

fn hash(algorithm: &str, data: &[u8]) -> Done<Value> {
    use sha2::{Digest, Sha256, Sha512};
    match algorithm {
        "sha256" => Ok(Value::Text(hex(&Sha256::digest(data)))),
        "sha512" => Ok(Value::Text(hex(&Sha512::digest(data)))),
        other => {
            let text = format!("no hash `{}`: use sha256 or sha512", other.escape_debug());
            Err(Stop::Fault(text))
        }
    }
}

fn random_bytes(count: u32) -> Done<Value> {
    if !(1..=MOST_RANDOM_BYTES).contains(&count) {
        return Err(Stop::Fault(format!("the count is not between 1 and {MOST_RANDOM_BYTES}")));
    }
    let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(Value::Bytes(bytes)),
        Err(_) => Err(Stop::Fault("the kernel gives no random numbers".to_owned())),
    }
}
