//! One request for programs without an async runtime.

use std::time::Duration;

use crate::{Answer, Asking, Caller, Connect, ConnectFault, Lasting, RequestFault};

/// How long an answer may take: the longest script of any policy, and some.
pub const PATIENCE: Duration = Duration::from_secs(65);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectFault),
    /// No answer that can be believed.
    #[error(transparent)]
    Request(#[from] RequestFault),
    /// No runtime.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Connects, asks once, and disconnects.
///
/// # Errors
/// See [`Fault`].
pub fn request(
    connect: &Connect,
    subject: &str,
    script: &[u8],
    caller: Option<&Caller>,
    asking: Asking,
) -> Result<Answer, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = crate::connect(connect, Lasting::Once, |_| {}).await?;
        Ok(crate::request(&client, subject, script, caller, asking).await?)
    })
}
