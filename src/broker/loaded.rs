//! The policy that holds, for as long as it does.

use policy::Policy;

/// A policy and the digest of its text.
pub struct Loaded {
    pub(crate) policy: Policy,
    pub(crate) digest: String,
}

impl Loaded {
    pub(crate) fn new(policy: Policy, text: &str) -> Self {
        Self { policy, digest: proof::digest(text.as_bytes()) }
    }
}

impl std::ops::Deref for Loaded {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}
