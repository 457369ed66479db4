//! What came of an act, as a sentence for people and as members of a document for programs.

use serde_json::{Value, json};
use wire::KeyPath;
use wire::done::Done;

use crate::operate::when;

/// In words; empty where what was asked for was told.
pub(crate) fn sentence(done: &Done) -> String {
    match done {
        Done::Told => String::new(),
        Done::NewSpace(space) => format!("made the key space `{space}`"),
        Done::RenamedSpace(from, to, keys) => {
            format!("`{from}` is `{to}` from now on; keys in it: {keys}")
        }
        Done::DeletedSpace(space, keys) => {
            format!("destroyed the key space `{space}`; keys in it: {keys}")
        }
        Done::NewKey(key, algorithm) => format!("made `{key}` for {algorithm}"),
        Done::RotatedKey(key, version) => format!("version {version} of `{key}` is in use"),
        Done::DisabledKey(key) => format!("`{key}` cannot be used until it is enabled"),
        Done::EnabledKey(key) => format!("`{key}` can be used"),
        Done::DeletedKey(key, until) => format!(
            "`{key}` cannot be used; it can be restored, and destroyed from {} on",
            when(*until)
        ),
        Done::RestoredKey(key) => {
            format!("`{key}` is there again, and disabled: `crypto-cli key enable` lets it be used")
        }
        Done::DestroyedKey(key) => format!("destroyed `{key}`"),
        Done::ImportedKey(key, algorithm) => {
            format!("`{key}` holds the private key, which is for {algorithm}")
        }
        Done::Exported(keys) => format!("keys in the bundle: {keys}"),
        Done::Imported { spaces, keys, skipped } => format!(
            "new key spaces: {spaces}, new keys: {keys}; skipped because they already exist: {skipped}"
        ),
        Done::SetPassphrase(slot) => format!("the {} passphrase opens the keyspace", slot.word()),
        Done::RemovedPassphrase(slot) => {
            format!("there is no {} passphrase any more", slot.word())
        }
        Done::RotatedRoot(keys) => format!(
            "there is a new root key; keys written anew: {keys}; the only passphrase is the operator's, which is the \
             one that was given"
        ),
        Done::Verified { spaces, keys, slots } => {
            let slots: Vec<String> = slots.iter().map(ToString::to_string).collect();
            let slots = slots.join(", ");
            format!("every record opens; key spaces: {spaces}, keys: {keys}; passphrases: {slots}")
        }
        Done::Unsealed(false) => "the keyspace is unsealed".to_owned(),
        Done::Unsealed(true) => "the keyspace is unsealed already".to_owned(),
        Done::Reloaded => "the policy was read again and holds from now on".to_owned(),
    }
}

/// As an object, whose member `act` says what was done; none where what was asked for was told.
pub(crate) fn document(done: &Done) -> Option<Value> {
    let key = |act: &str, KeyPath { space, key }: &KeyPath| json!({ "act": act, "key_space": space.as_str(), "key": key.as_str() });
    let with = |mut object: Value, member: &str, value: Value| {
        if let Some(object) = object.as_object_mut() {
            object.insert(member.to_owned(), value);
        }
        object
    };
    Some(match done {
        Done::Told => return None,
        Done::NewSpace(space) => json!({ "act": "keyspace new", "key_space": space.as_str() }),
        Done::RenamedSpace(from, to, keys) => json!({ "act": "keyspace rename",
            "key_space": to.as_str(), "before": from.as_str(), "key_count": keys }),
        Done::DeletedSpace(space, keys) => json!({ "act": "keyspace delete",
            "key_space": space.as_str(), "key_count": keys }),
        Done::NewKey(path, algorithm) => {
            with(key("key new", path), "algorithm", json!(algorithm.word()))
        }
        Done::RotatedKey(path, version) => with(key("key rotate", path), "version", json!(version)),
        Done::DisabledKey(path) => key("key disable", path),
        Done::EnabledKey(path) => key("key enable", path),
        Done::DeletedKey(path, until) => {
            with(key("key delete", path), "deleted_until", json!(until))
        }
        Done::RestoredKey(path) => key("key restore", path),
        Done::DestroyedKey(path) => key("key destroy", path),
        Done::ImportedKey(path, algorithm) => {
            with(key("key import", path), "algorithm", json!(algorithm.word()))
        }
        Done::Exported(keys) => json!({ "act": "keyspace export", "key_count": keys }),
        Done::Imported { spaces, keys, skipped } => json!({ "act": "keyspace import",
            "key_space_count": spaces, "key_count": keys, "skipped_count": skipped }),
        Done::SetPassphrase(slot) => {
            json!({ "act": "keyspace passwd", "passphrase": slot.word(), "removed": false })
        }
        Done::RemovedPassphrase(slot) => {
            json!({ "act": "keyspace passwd", "passphrase": slot.word(), "removed": true })
        }
        Done::RotatedRoot(keys) => json!({ "act": "keyspace rotate", "key_count": keys }),
        Done::Verified { spaces, keys, slots } => {
            let slots = slots.iter().map(|row| {
                json!({ "passphrase": row.slot.word(), "memory_kib": row.memory_kib,
                    "passes": row.passes, "lanes": row.lanes })
            });
            json!({ "act": "keyspace verify", "key_space_count": spaces, "key_count": keys,
                "passphrases": slots.collect::<Vec<_>>() })
        }
        Done::Unsealed(before) => json!({ "act": "unseal", "before": before }),
        Done::Reloaded => json!({ "act": "policy reload" }),
    })
}
