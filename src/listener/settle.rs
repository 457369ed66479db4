//! Whether the server has taken the subscriptions: a flush says only that they were sent. A message to nobody comes
//! back after everything before it, if the account may publish one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::{Client, Event};
use futures_util::StreamExt;
use tokio::sync::Notify;

/// An inbox that nobody has.
const NOBODY: &str = "_INBOX.crypto-cli.nobody";
/// How long to wait for a server that says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the server says against it. It hears the events of the connection.
#[derive(Clone)]
pub(crate) struct Settling(Arc<Said>);

struct Said {
    subject: String,
    /// That the subject may not be subscribed to.
    refused: OnceLock<String>,
    anything: Notify,
}

impl Settling {
    pub(crate) fn new(subject: &str) -> Self {
        let (subject, refused) = (subject.to_owned(), OnceLock::new());
        Self(Arc::new(Said { subject, refused, anything: Notify::new() }))
    }

    /// Whether an event is an answer to what [`Settling::wait`] asks, and nothing that an operator is to hear.
    pub(crate) fn hear(&self, event: &Event) -> bool {
        let Event::ServerError(error) = event else { return false };
        let text = error.to_string();
        let of = |what: &str, subject: &str| {
            text.contains(&format!("Permissions Violation for {what} to \"{subject}\""))
        };
        let is_refused = of("Subscription", &self.0.subject);
        let is_ours = is_refused || of("Publish", NOBODY);
        if is_refused {
            let _first = self.0.refused.set(text);
        }
        if is_ours {
            self.0.anything.notify_one();
        }
        is_ours
    }

    /// Waits for it; why the subject may not be subscribed to, if it may not.
    pub(crate) async fn wait(&self, client: &Client) -> Result<(), String> {
        let back = format!("$SRV.SETTLED.{}", client.new_inbox());
        if let Ok(mut returned) = client.subscribe(back.clone()).await
            && client.publish_with_reply(NOBODY, back, Vec::new().into()).await.is_ok()
        {
            tokio::select! {
                _ = returned.next() => {}
                () = self.0.anything.notified() => {}
                () = tokio::time::sleep(PATIENCE) => {}
            }
            // What the server said before that is heard by another task.
            tokio::task::yield_now().await;
        }
        self.0.refused.get().map_or(Ok(()), |why| Err(why.clone()))
    }
}
