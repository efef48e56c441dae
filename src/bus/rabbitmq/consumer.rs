//! Consuming a queue for as long as somebody wants it.
//!
//! Owns one channel for each consumer, made again with its topology whenever anything breaks. Must not decide what
//! becomes of a message. Invariants: the broker hands out at most `prefetch` unsettled messages, set before consuming
//! begins; a delivery that is dropped unsettled goes back to its queue; when the receiver is gone the channel is
//! closed at once, which returns everything unsettled. So who drains settles what is in hand before dropping it.
//!
//! `basic.qos` is of no effect on a consumer that consumes already: RabbitMQ, from 3.10 to 4.x, applies it to those that begin
//! after it, and quorum queues refuse the kind that is of a whole channel. So a new prefetch cancels the consumer and begins
//! another on the same channel. What the first one has handed out stays unsettled, and can be settled.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Acker, Channel, Consumer,
    message::Delivery as Message,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Backoff, Closing, Link, describe, request},
    topology::{Topology, short},
};
use crate::bus::{BusError, deliveries::Intake};

/// A run that held this long was a good one: the next failure begins with a short wait again.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What to consume, and with what.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) link: Arc<Link>,
    pub(super) topology: Arc<Topology>,
    pub(super) queue: String,
    pub(super) closed: CancellationToken,
}

impl Supervisor {
    /// Consumes until the receiver is dropped or the bus is closed. `wrap` makes a delivery of a message; it is given
    /// the way back for a message that is dropped unsettled.
    pub(super) async fn supervise<T>(
        self,
        mut intake: Intake<T>,
        wrap: impl Fn(Message, mpsc::UnboundedSender<Acker>) -> T,
    ) {
        let mut backoff = Backoff::default();
        let deliveries = intake.sender.clone();
        loop {
            let started = Instant::now();
            let error = tokio::select! {
                // What ends the loop also ends an attempt to connect.
                () = self.closed.cancelled() => break,
                () = deliveries.closed() => break,
                error = self.run(&mut intake, &wrap) => error,
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
        intake: &mut Intake<T>,
        wrap: &impl Fn(Message, mpsc::UnboundedSender<Acker>) -> T,
    ) -> BusError {
        // Who wants nothing needs no broker.
        if *intake.wanted.borrow() == 0 {
            intake.in_effect.send_replace(0);
            if intake.wanted.wait_for(|prefetch| *prefetch > 0).await.is_err() {
                return BusError::Unavailable("nobody consumes any more".into());
            }
        }
        let channel = match self.open().await {
            Ok(channel) => Closing(channel),
            Err(error) => return error,
        };
        match self.pump(&channel.0, intake, wrap).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn open(&self) -> Result<Channel, BusError> {
        let connected = self.link.get().await?;
        let channel = connected.open_channel().await?;
        self.topology.declare_for(&channel, &self.queue).await?;
        Ok(channel)
    }

    async fn consume(&self, channel: &Channel, prefetch: u16) -> Result<Consumer, BusError> {
        // Without a limit the broker sends the whole queue into an unbounded buffer.
        request("limit the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let answer = channel.basic_consume(
            short(&self.queue)?,
            // The broker makes up a tag.
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = request(&format!("consume queue {}", self.queue), answer).await?;
        tracing::info!(queue = self.queue, prefetch, "consuming");
        Ok(consumer)
    }

    /// Hands messages on, one at a time, returns the dropped ones to the queue, and follows the prefetch. Ends when the
    /// channel does.
    async fn pump<T>(
        &self,
        channel: &Channel,
        intake: &mut Intake<T>,
        wrap: &impl Fn(Message, mpsc::UnboundedSender<Acker>) -> T,
    ) -> Result<Infallible, BusError> {
        let (abandon, mut abandoned) = mpsc::unbounded_channel::<Acker>();
        let mut current = Current::default();
        let mut waiting: Option<Message> = None;
        loop {
            if current.consumer.is_none() && waiting.is_none() {
                let prefetch = *intake.wanted.borrow_and_update();
                let consumer = if prefetch > 0 { Some(self.consume(channel, prefetch).await?) } else { None };
                current = Current { consumer, prefetch, is_canceled: false };
                intake.in_effect.send_replace(prefetch);
            }
            tokio::select! {
                Some(acker) = abandoned.recv() => requeue(&acker).await,
                Ok(permit) = intake.sender.reserve(), if waiting.is_some() => {
                    // One that waited while its channel died would be delivered again anyhow.
                    if let Some(message) = waiting.take().filter(|message| message.acker.usable()) {
                        permit.send(wrap(message, abandon.clone()));
                    }
                }
                message = current.next(), if waiting.is_none() => waiting = message?,
                changed = intake.wanted.changed(), if !current.is_canceled => {
                    changed.map_err(|_| BusError::Unavailable("nobody consumes any more".into()))?;
                    if *intake.wanted.borrow_and_update() != current.prefetch {
                        current.cancel(channel).await?;
                    }
                }
            }
        }
    }
}

/// The consumer of the channel at the moment.
#[derive(Default)]
struct Current {
    consumer: Option<Consumer>,
    prefetch: u16,
    is_canceled: bool,
}

impl Current {
    /// Its next message. `None`: it was canceled by us, and has no more. Without a consumer there is never one.
    async fn next(&mut self) -> Result<Option<Message>, BusError> {
        let Some(consumer) = &mut self.consumer else { return pending().await };
        match consumer.next().await {
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(error)) => Err(BusError::Unavailable(describe(&error))),
            None if self.is_canceled => {
                self.consumer = None;
                Ok(None)
            }
            None => Err(BusError::Unavailable("the broker canceled the consumer".into())),
        }
    }

    /// Ends it. What the broker has sent already is still to come.
    async fn cancel(&mut self, channel: &Channel) -> Result<(), BusError> {
        let Some(consumer) = &self.consumer else { return Ok(()) };
        self.is_canceled = true;
        request("stop consuming", channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await
    }
}

async fn requeue(acker: &Acker) {
    let options = BasicNackOptions { requeue: true, ..Default::default() };
    // A failure means that the channel is gone, and then the broker has the message back already.
    if let Err(error) = request("give a message back", acker.nack(options)).await {
        tracing::debug!(%error, "an unsettled delivery was not given back");
    }
}
