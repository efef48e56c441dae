//! Consuming a queue for as long as somebody wants it.
//!
//! Owns one channel for each consumer, made again with its topology whenever anything breaks. Must not decide what
//! becomes of a message. Invariants: the broker hands out at most `prefetch` unsettled messages, set before consuming
//! begins; a delivery that is dropped unsettled goes back to its queue; when the receiver is gone the channel is
//! closed at once, which returns everything unsettled. So who drains settles what is in hand before dropping it.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Acker, Channel, Consumer,
    message::Delivery as Message,
    options::{BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Backoff, CLOSE_TIMEOUT, Link, describe, request},
    topology::{Topology, short},
};
use crate::bus::BusError;

/// A run that held this long was a good one: the next failure begins with a short wait again.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What to consume, and with what.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) link: Arc<Link>,
    pub(super) topology: Arc<Topology>,
    pub(super) queue: String,
    pub(super) prefetch: u16,
    pub(super) closed: CancellationToken,
}

impl Supervisor {
    /// Consumes until the receiver is dropped or the bus is closed. `wrap` makes a delivery of a message; it is given
    /// the way back for a message that is dropped unsettled.
    pub(super) async fn supervise<T>(
        self,
        deliveries: mpsc::Sender<T>,
        wrap: impl Fn(Message, mpsc::UnboundedSender<Acker>) -> T,
    ) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let error = tokio::select! {
                // What ends the loop also ends an attempt to connect.
                () = self.closed.cancelled() => break,
                () = deliveries.closed() => break,
                error = self.run(&deliveries, &wrap) => error,
            };
            match &error {
                BusError::Topology(_) => tracing::error!(queue = self.queue, %error, "cannot consume"),
                BusError::Unavailable(_) => {
                    tracing::warn!(queue = self.queue, %error, "consuming is interrupted");
                }
            }
            if started.elapsed() > STABLE_AFTER {
                backoff = Backoff::default();
            }
            tokio::select! {
                () = self.closed.cancelled() => break,
                () = deliveries.closed() => break,
                () = sleep(backoff.next()) => {}
            }
        }
        tracing::debug!(queue = self.queue, "consuming has ended");
    }

    /// Consumes until something breaks.
    async fn run<T>(
        &self,
        deliveries: &mpsc::Sender<T>,
        wrap: &impl Fn(Message, mpsc::UnboundedSender<Acker>) -> T,
    ) -> BusError {
        let (channel, consumer) = match self.open().await {
            Ok(open) => open,
            Err(error) => return error,
        };
        let channel = Closing(channel);
        tracing::info!(queue = self.queue, prefetch = self.prefetch, "consuming");
        let error = pump(consumer, deliveries, wrap).await;
        drop(channel);
        error
    }

    async fn open(&self) -> Result<(Channel, Consumer), BusError> {
        let connected = self.link.get().await?;
        let channel = connected.open_channel().await?;
        self.topology.declare_for(&channel, &self.queue).await?;
        // Without a limit the broker sends the whole queue into an unbounded buffer.
        let prefetch = self.prefetch.max(1);
        request("limit the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let answer = channel.basic_consume(
            short(&self.queue)?,
            // The broker makes up a tag.
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = request(&format!("consume queue {}", self.queue), answer).await?;
        Ok((channel, consumer))
    }
}

/// Hands messages on, one at a time, and returns the dropped ones to the queue. Ends when the channel does.
async fn pump<T>(
    consumer: Consumer,
    deliveries: &mpsc::Sender<T>,
    wrap: &impl Fn(Message, mpsc::UnboundedSender<Acker>) -> T,
) -> BusError {
    let mut consumer = pin!(consumer);
    let (abandon, mut abandoned) = mpsc::unbounded_channel::<Acker>();
    let mut waiting: Option<Message> = None;
    loop {
        tokio::select! {
            Some(acker) = abandoned.recv() => requeue(&acker).await,
            Ok(permit) = deliveries.reserve(), if waiting.is_some() => {
                // One that waited while its channel died would be delivered again anyhow.
                if let Some(message) = waiting.take().filter(|message| message.acker.usable()) {
                    permit.send(wrap(message, abandon.clone()));
                }
            }
            message = consumer.next(), if waiting.is_none() => match message {
                Some(Ok(message)) => waiting = Some(message),
                Some(Err(error)) => return BusError::Unavailable(describe(&error)),
                None => return BusError::Unavailable("the broker canceled the consumer".into()),
            },
        }
    }
}

async fn requeue(acker: &Acker) {
    let options = BasicNackOptions { requeue: true, ..Default::default() };
    // A failure means that the channel is gone, and then the broker has the message back already.
    if let Err(error) = request("give a message back", acker.nack(options)).await {
        tracing::debug!(%error, "an unsettled delivery was not given back");
    }
}

/// Closes the channel in the background when it goes out of scope, however the scope is left.
struct Closing(Channel);

impl Drop for Closing {
    fn drop(&mut self) {
        let channel = self.0.clone();
        // Without a runtime the process is ending, and the broker sees that.
        if let (true, Ok(runtime)) = (channel.status().connected(), Handle::try_current()) {
            runtime.spawn(async move {
                // A failure means that it is closed already.
                let _ = timeout(CLOSE_TIMEOUT, channel.close(200, "no longer consuming".into())).await;
            });
        }
    }
}
