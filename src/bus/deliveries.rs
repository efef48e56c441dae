//! What a consumer gets of its queue, and how much of it at a time.
//!
//! A broker applies a prefetch to consumers that begin after it was set, so a change of it, and a stop, end one consumer and
//! begin another. What was delivered before stays with whoever has it, and is settled as if nothing had been.

use tokio::sync::{mpsc, watch};

use super::Delivery;

/// Deliveries of a queue. Dropping them gives everything back that is not settled.
#[derive(Debug)]
pub struct Deliveries<T = Delivery> {
    receiver: mpsc::Receiver<T>,
    prefetch: watch::Sender<u16>,
    in_effect: watch::Receiver<u16>,
}

/// What comes next of a queue that takes no more.
#[derive(Debug)]
pub enum Next<T> {
    /// One that was on its way.
    Delivery(T),
    /// Nothing more, until there is a prefetch again.
    Stopped,
    /// Nothing more, ever: the bus is closed.
    Closed,
}

impl<T> Deliveries<T> {
    /// Deliveries and where they come from, at most `prefetch` unsettled at a time.
    pub(super) fn new(prefetch: u16) -> (Self, Intake<T>) {
        // One: what waits here when a connection breaks is handled in vain.
        let (sender, receiver) = mpsc::channel(1);
        let (wanted, in_effect) = (watch::Sender::new(prefetch), watch::Sender::new(prefetch));
        let intake = Intake { sender, wanted: wanted.subscribe(), in_effect };
        let in_effect = intake.in_effect.subscribe();
        (Self { receiver, prefetch: wanted, in_effect }, intake)
    }

    /// The next delivery. `None`: the bus is closed.
    pub async fn recv(&mut self) -> Option<T> {
        self.receiver.recv().await
    }

    /// How many unsettled deliveries the broker may hand out at a time from now on. What it has handed out already counts for
    /// nothing. 0: it hands out nothing more, until this is set again.
    pub fn set_prefetch(&self, prefetch: u16) {
        self.prefetch.send_if_modified(|wanted| std::mem::replace(wanted, prefetch) != prefetch);
    }

    /// The next delivery, or that there will be none. For who has set the prefetch to 0.
    pub async fn next_until_stopped(&mut self) -> Next<T> {
        let (receiver, in_effect) = (&mut self.receiver, &mut self.in_effect);
        let ended = async {
            match in_effect.wait_for(|prefetch| *prefetch == 0).await {
                Ok(_) => Next::Stopped,
                Err(_) => Next::Closed,
            }
        };
        tokio::select! {
            biased;
            delivery = receiver.recv() => delivery.map_or(Next::Closed, Next::Delivery),
            // Whatever was on its way was handed over before this became so.
            ended = ended => ended,
        }
    }
}

/// The other end of [`Deliveries`].
#[derive(Debug)]
pub(super) struct Intake<T> {
    /// Where deliveries go.
    pub(super) sender: mpsc::Sender<T>,
    /// How many may be unsettled.
    pub(super) wanted: watch::Receiver<u16>,
    /// How many may be.
    pub(super) in_effect: watch::Sender<u16>,
}
