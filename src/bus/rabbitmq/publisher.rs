//! Publishing with confirms: a window goes out at once, and the fate of every message in it is known at the end.
//!
//! Owns one confirm channel. Must not know what is in a message. Invariants: a message counts as stored only if the
//! broker acknowledged it and did not return it; a channel is used again only if all of its confirms came, because a
//! return that is left over would be taken for one of the next window, and if it does not go on refusing; the caller waits
//! for the connection, for the opening and for one confirm time-out, never for ever.

use std::{collections::HashMap, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use futures_util::future::maybe_done;
use lapin::{
    Channel, Confirmation, PublisherConfirm,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::{
    connection::{Closing, Connected, Link, describe, request},
    envelope::Message,
    topology::{Topology, short},
};
use crate::bus::{BusError, PublishOutcome};

/// How old a channel must be that is opened anew because messages are refused on it. A channel of RabbitMQ 3.10 that first publishes to
/// a quorum queue while its leader is away asks that node for ever, and refuses all, whoever leads by then; a new channel asks the new
/// leader. Where a queue is full instead, three new ones a second cost little.
const REFUSING: Duration = Duration::from_millis(300);

/// Publishes windows of messages, one window at a time.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Arc<Link>,
    topology: Arc<Topology>,
    confirm_timeout: Duration,
    /// Held for the length of a window. Empty while one is under way: if the caller gives up, the channel is gone.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    connected: Arc<Connected>,
    channel: Channel,
    since: Instant,
}

impl Open {
    /// Whether what came of a window may be of this channel alone.
    fn may_refuse_for_ever(&self, outcomes: &[PublishOutcome]) -> bool {
        self.since.elapsed() >= REFUSING && outcomes.contains(&PublishOutcome::Nacked)
    }

    /// The same on a new channel, and the old one is closed in the background. Nothing is declared: it is one connection still.
    async fn renew(self) -> Option<Self> {
        tracing::debug!(
            host = self.connected.host,
            "RabbitMQ refuses events: they are tried on a new channel"
        );
        let _old = Closing(self.channel);
        let renewed = Self::on(self.connected).await;
        renewed.inspect_err(|error| tracing::debug!(%error, "it is opened with the next window")).ok()
    }

    /// A new channel, which confirms.
    async fn on(connected: Arc<Connected>) -> Result<Self, BusError> {
        let channel = connected.open_channel().await?;
        request("ask for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { connected, channel, since: Instant::now() })
    }
}

/// What the broker said of one message, before the returns are sorted out.
enum Answer {
    Acked,
    Nacked,
    None(String),
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>, topology: Arc<Topology>, confirm_timeout: Duration) -> Self {
        Self { link, topology, confirm_timeout, open: Mutex::default() }
    }

    /// Publishes the messages in order and waits for all: `outcomes[i]` is of `messages[i]`.
    pub(super) async fn publish(&self, messages: Vec<Message>) -> Result<Vec<PublishOutcome>, BusError> {
        let mut slot = self.open.lock().await;
        let open =
            match slot.take().filter(|open| open.connected.is_alive() && open.channel.status().connected()) {
                Some(open) => open,
                None => self.open().await?,
            };
        if let Err(error) = open.connected.ensure_unblocked() {
            *slot = Some(open);
            return Err(error);
        }
        let outcomes = send(&open.channel, messages, Instant::now() + self.confirm_timeout).await;
        let unknown = outcomes.iter().find_map(|outcome| match outcome {
            PublishOutcome::Unknown(reason) => Some(reason),
            _ => None,
        });
        match unknown {
            None if open.may_refuse_for_ever(&outcomes) => *slot = open.renew().await,
            None => *slot = Some(open),
            Some(reason) => {
                tracing::warn!(
                    host = open.connected.host,
                    reason,
                    "the outcome of published events is unknown"
                );
                // A blocked connection is kept: a new one for every attempt would hang like it, and they would
                // pile up until the alarm ends.
                if open.connected.is_alive() && open.connected.ensure_unblocked().is_ok() {
                    self.link.discard(&open.connected).await;
                }
            }
        }
        Ok(outcomes)
    }

    /// Connects and declares without publishing.
    pub(super) async fn declare(&self) -> Result<(), BusError> {
        let connected = self.link.get().await?;
        connected.ensure_unblocked()?;
        let channel = Closing(connected.open_channel().await?);
        self.topology.declare(&channel.0).await
    }

    async fn open(&self) -> Result<Open, BusError> {
        let connected = self.link.get().await?;
        connected.ensure_unblocked()?;
        let open = Open::on(connected).await?;
        self.topology.declare(&open.channel).await?;
        Ok(open)
    }
}

/// Writes every message, then waits for every confirm, and only then decides. The library may hand a return to the
/// confirm of another message of the window, so a return is believed by its message id alone.
async fn send(channel: &Channel, messages: Vec<Message>, deadline: Instant) -> Vec<PublishOutcome> {
    let ids: Vec<Option<ShortString>> =
        messages.iter().map(|message| message.properties.message_id().clone()).collect();
    let (confirms, mut failure) = write(channel, &messages, deadline).await;
    let mut answers = Vec::with_capacity(ids.len());
    let mut returned = HashMap::new();
    for confirm in confirms {
        let (answer, message) = match timeout_at(deadline, confirm).await {
            Ok(Ok(Confirmation::Ack(message))) => (Answer::Acked, message),
            Ok(Ok(Confirmation::Nack(message))) => (Answer::Nacked, message),
            Ok(Ok(Confirmation::NotRequested)) => (Answer::None("the channel does not confirm".into()), None),
            Ok(Err(error)) => (Answer::None(describe(&error)), None),
            Err(_) => (Answer::None("no confirm in time".into()), None),
        };
        if let Some(message) = message {
            returned.insert(message.delivery.properties.message_id().clone(), reason(&message));
        }
        if let (Answer::None(reason), None) = (&answer, &failure) {
            failure = Some(reason.clone());
        }
        answers.push(answer);
    }
    let unwritten = failure.unwrap_or_default();
    let answers = answers.into_iter().chain(std::iter::repeat_with(|| Answer::None(unwritten.clone())));
    ids.iter()
        .zip(answers)
        .map(|(id, answer)| match (answer, returned.get(id)) {
            (Answer::None(reason), _) => PublishOutcome::Unknown(reason),
            (Answer::Nacked, _) => PublishOutcome::Nacked,
            (Answer::Acked, Some(reason)) => PublishOutcome::Returned(reason.clone()),
            (Answer::Acked, None) => PublishOutcome::Confirmed,
        })
        .collect()
}

/// Writes messages until one fails; says why it did. All are handed to the connection at once, in order, and only
/// then waited for: to wake its thread for one message at a time costs a fifth of the throughput.
async fn write(
    channel: &Channel,
    messages: &[Message],
    deadline: Instant,
) -> (Vec<PublisherConfirm>, Option<String>) {
    let mut writes = Vec::with_capacity(messages.len());
    for message in messages {
        let (Ok(exchange), Ok(routing_key)) = (short(&message.exchange), short(&message.routing_key)) else {
            break;
        };
        // Returned rather than dropped if no queue takes it.
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = message.properties.clone();
        let write = channel.basic_publish(exchange, routing_key, options, &message.body, properties);
        let mut write = Box::pin(maybe_done(write));
        // The first poll takes the message's place in the order.
        poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await.is_ready();
        writes.push(write);
    }
    let mut confirms = Vec::with_capacity(writes.len());
    for mut write in writes {
        match timeout_at(deadline, write.as_mut()).await.map(|()| write.as_mut().take_output()) {
            Ok(Some(Ok(confirm))) => confirms.push(confirm),
            Ok(Some(Err(error))) => return (confirms, Some(describe(&error))),
            Ok(None) | Err(_) => return (confirms, Some("the broker did not take it in time".into())),
        }
    }
    let complete = confirms.len() == messages.len();
    (confirms, (!complete).then(|| "the name of its exchange is too long".into()))
}

fn reason(message: &BasicReturnMessage) -> String {
    format!(
        "{} {} (exchange {}, routing key {})",
        message.reply_code, message.reply_text, message.delivery.exchange, message.delivery.routing_key
    )
}
