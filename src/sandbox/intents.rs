//! Payment intents in memory, the changes they allow, and honest counts of what happened to money.
//!
//! Pure: no HTTP, no waiting. Invariant: 0 <= refunded <= captured <= amount. Counts are of effects, since the start,
//! whatever the answers said and whatever was forgotten since.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use uuid::Uuid;

use super::{
    recent::Recent,
    tokens::{Behaviour, Decline},
    wire::{Metadata, Problem},
};

/// The metadata field whose value counts are kept for.
pub(super) const PAYMENT_ID: &str = "holdfast_payment_id";

/// Where an intent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    RequiresPaymentMethod,
    RequiresAction,
    Processing,
    RequiresCapture,
    Succeeded,
    Canceled,
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::RequiresCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

/// What may become of an intent without a request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// What was `processing` has worked.
    Succeed,
    /// The customer acts, or tries again on the same page.
    Confirm,
    /// The customer does not pass the issuer's check.
    Refuse,
    /// What was authorized has not been captured in time.
    Lapse,
}

/// What an intent is made from.
#[derive(Debug, Clone)]
pub(super) struct NewIntent {
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) metadata: Metadata,
    pub(super) behaviour: Behaviour,
}

/// A payment intent.
#[derive(Debug, Clone)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) amount: i64,
    pub(super) amount_captured: i64,
    pub(super) amount_refunded: i64,
    pub(super) currency: String,
    pub(super) metadata: Metadata,
    pub(super) behaviour: Behaviour,
    pub(super) decline: Option<Decline>,
    pub(super) created: u64,
    /// Times that money was set aside, taken, and sent back.
    authorizations: u64,
    captures: u64,
    pub(super) refunds: Vec<Refund>,
}

/// Money that was sent back, or is to be.
#[derive(Debug, Clone)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) status: RefundStatus,
    pub(super) metadata: Metadata,
}

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
}

impl RefundStatus {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl Intent {
    /// Money that is on its way back: it cannot be refunded again, and the customer does not have it.
    pub(super) fn amount_on_its_way(&self) -> i64 {
        let pending = self.refunds.iter().filter(|refund| refund.status == RefundStatus::Pending);
        pending.map(|refund| refund.amount).sum()
    }

    /// Money that was set aside and is neither taken nor to be taken.
    pub(super) fn amount_let_go(&self) -> i64 {
        match self.status {
            Status::Succeeded => self.amount - self.amount_captured,
            Status::Canceled if self.authorizations > 0 => self.amount,
            _ => 0,
        }
    }
}

/// What happened to money since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Counts {
    /// Intents made.
    intents: u64,
    /// Times that money was set aside.
    authorized: u64,
    /// Times that money was taken.
    captured: u64,
    /// Times that money set aside was given free.
    voided: u64,
    /// Times that money was sent back.
    refunded: u64,
    /// Payments refused.
    declined: u64,
    /// The most that any payment id saw of each. More than 1 is a customer charged twice.
    authorizations_per_payment_max: u64,
    captures_per_payment_max: u64,
}

/// What happened to the money of one payment id, over all of its intents.
#[derive(Debug, Default, Serialize)]
pub(super) struct PaymentCounts {
    intents: u64,
    authorizations: u64,
    captures: u64,
    refunds: u64,
    amount_captured: i64,
    amount_refunded: i64,
}

/// The newest intents, and the counts.
#[derive(Debug)]
pub(super) struct Intents {
    recent: Recent<Intent>,
    by_payment: HashMap<Box<str>, Vec<Box<str>>>,
    counts: Counts,
}

impl Intents {
    pub(super) fn new(max: usize) -> Self {
        Self { recent: Recent::new(max), by_payment: HashMap::new(), counts: Counts::default() }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn payment_counts(&self, payment_id: &str) -> PaymentCounts {
        let mut counts = PaymentCounts::default();
        for intent in self.find(payment_id) {
            counts.intents += 1;
            counts.authorizations += intent.authorizations;
            counts.captures += intent.captures;
            counts.refunds += intent.refunds.len() as u64;
            counts.amount_captured += intent.amount_captured;
            counts.amount_refunded += intent.amount_refunded;
        }
        counts
    }

    /// The intents of a payment id.
    pub(super) fn find(&self, payment_id: &str) -> impl Iterator<Item = &Intent> {
        self.by_payment.get(payment_id).into_iter().flatten().filter_map(|id| self.recent.get(id))
    }

    pub(super) fn get(&self, id: &str) -> Result<&Intent, Problem> {
        self.recent.get(id).ok_or_else(|| Problem::no_such_intent(id))
    }

    /// The newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Intent> {
        self.recent.newest()
    }

    /// Makes an intent and confirms it.
    pub(super) fn create(&mut self, new: NewIntent) -> Intent {
        let (status, decline) = match new.behaviour {
            Behaviour::Decline(decline) => (Status::RequiresPaymentMethod, Some(decline)),
            Behaviour::RequiresAction => (Status::RequiresAction, None),
            Behaviour::LateSuccess => (Status::Processing, None),
            _ => (Status::RequiresCapture, None),
        };
        let authorized = status == Status::RequiresCapture;
        let intent = Intent {
            id: format!("pi_{}", Uuid::now_v7().simple()),
            status,
            amount: new.amount,
            amount_captured: 0,
            amount_refunded: 0,
            currency: new.currency,
            metadata: new.metadata,
            behaviour: new.behaviour,
            decline,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            authorizations: authorized.into(),
            captures: 0,
            refunds: Vec::new(),
        };
        self.counts.intents += 1;
        self.counts.declined += u64::from(decline.is_some());
        self.keep(intent.clone());
        if authorized {
            self.count_authorization(&intent);
        }
        intent
    }

    /// Decides an intent that is open. `None` if there is nothing to decide.
    pub(super) fn decide(&mut self, id: &str, decision: Decision) -> Option<Intent> {
        let intent = self.recent.get_mut(id)?;
        match (decision, intent.status) {
            (Decision::Succeed, Status::Processing)
            | (Decision::Confirm, Status::RequiresAction | Status::RequiresPaymentMethod) => {
                (intent.status, intent.decline) = (Status::RequiresCapture, None);
                intent.authorizations += 1;
                let intent = intent.clone();
                self.count_authorization(&intent);
                Some(intent)
            }
            (Decision::Refuse, Status::Processing | Status::RequiresAction | Status::RequiresCapture) => {
                (intent.status, intent.decline) = (Status::RequiresPaymentMethod, Some(Decline::Generic));
                let intent = intent.clone();
                self.counts.declined += 1;
                Some(intent)
            }
            (Decision::Lapse, Status::RequiresCapture) => self.cancel(id).ok(),
            _ => None,
        }
    }

    fn count_authorization(&mut self, intent: &Intent) {
        self.counts.authorized += 1;
        let payment = self.counts_of(intent);
        let max = &mut self.counts.authorizations_per_payment_max;
        *max = payment.authorizations.max(*max);
    }

    /// Takes `amount` of the money set aside, or all of it.
    pub(super) fn capture(&mut self, id: &str, amount: Option<i64>) -> Result<Intent, Problem> {
        let intent = self.get_mut(id)?;
        if intent.status != Status::RequiresCapture {
            return Err(Problem::unexpected_state(intent, "captured", "requires_capture"));
        }
        let amount = amount.unwrap_or(intent.amount);
        if amount > intent.amount {
            let message = "The amount to capture is greater than the authorized amount.";
            return Err(Problem::parameter("amount_to_capture", "amount_too_large", message));
        }
        (intent.status, intent.amount_captured) = (Status::Succeeded, amount);
        intent.captures += 1;
        let intent = intent.clone();
        self.counts.captured += 1;
        let payment = self.counts_of(&intent);
        let max = &mut self.counts.captures_per_payment_max;
        *max = payment.captures.max(*max);
        Ok(intent)
    }

    /// Gives the money free, for good.
    pub(super) fn cancel(&mut self, id: &str) -> Result<Intent, Problem> {
        let intent = self.get_mut(id)?;
        if matches!(intent.status, Status::Succeeded | Status::Canceled) {
            let allowed = "requires_payment_method, requires_capture, requires_confirmation, requires_action, processing";
            return Err(Problem::unexpected_state(intent, "canceled", allowed));
        }
        let had_money = intent.status == Status::RequiresCapture;
        intent.status = Status::Canceled;
        let intent = intent.clone();
        self.counts.voided += u64::from(had_money);
        Ok(intent)
    }

    /// Sends `amount` of the captured money back, or what is left of it.
    pub(super) fn refund(
        &mut self,
        id: &str,
        amount: Option<i64>,
        metadata: Metadata,
    ) -> Result<(Intent, Refund), Problem> {
        let intent = self.get_mut(id)?;
        if intent.behaviour == Behaviour::RefuseRefund {
            return Err(Problem::invalid("refund_disputed_payment", "The payment is disputed."));
        }
        if intent.status != Status::Succeeded {
            return Err(Problem::unexpected_state(intent, "refunded", "succeeded"));
        }
        let left = intent.amount_captured - intent.amount_refunded - intent.amount_on_its_way();
        if left == 0 {
            return Err(Problem::invalid("charge_already_refunded", "Charge has already been refunded."));
        }
        let amount = amount.unwrap_or(left);
        if amount > left {
            let message =
                format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).");
            return Err(Problem::parameter("amount", "amount_too_large", &message));
        }
        let status = match intent.behaviour {
            Behaviour::PendingRefund => RefundStatus::Pending,
            _ => RefundStatus::Succeeded,
        };
        let is_sent = status == RefundStatus::Succeeded;
        if is_sent {
            intent.amount_refunded += amount;
        }
        let refund = Refund { id: format!("re_{}", Uuid::now_v7().simple()), amount, status, metadata };
        intent.refunds.push(refund.clone());
        let intent = intent.clone();
        self.counts.refunded += u64::from(is_sent);
        Ok((intent, refund))
    }

    /// Decides the refunds of an intent: those that are pending succeed, or all that have not failed yet fail, as when the
    /// customer's bank gives the money back. Gives the intent after each.
    pub(super) fn decide_refunds(&mut self, id: &str, status: RefundStatus) -> Vec<(Intent, Refund)> {
        let Ok(intent) = self.get_mut(id) else { return Vec::new() };
        let mut decided = Vec::new();
        for place in 0..intent.refunds.len() {
            let (from, amount) = (intent.refunds[place].status, intent.refunds[place].amount);
            match (from, status) {
                (RefundStatus::Pending, RefundStatus::Succeeded) => intent.amount_refunded += amount,
                (RefundStatus::Succeeded, RefundStatus::Failed) => intent.amount_refunded -= amount,
                (RefundStatus::Pending, RefundStatus::Failed) => {}
                _ => continue,
            }
            intent.refunds[place].status = status;
            decided.push((intent.clone(), intent.refunds[place].clone()));
        }
        if status == RefundStatus::Succeeded {
            self.counts.refunded += decided.len() as u64;
        }
        decided
    }

    fn get_mut(&mut self, id: &str) -> Result<&mut Intent, Problem> {
        self.recent.get_mut(id).ok_or_else(|| Problem::no_such_intent(id))
    }

    fn counts_of(&self, intent: &Intent) -> PaymentCounts {
        intent.metadata.get(PAYMENT_ID).map(|id| self.payment_counts(id)).unwrap_or_default()
    }

    fn keep(&mut self, intent: Intent) {
        if let Some(payment_id) = intent.metadata.get(PAYMENT_ID) {
            // Almost always the only one.
            let ids = self.by_payment.entry(payment_id.into()).or_insert_with(|| Vec::with_capacity(1));
            ids.push(intent.id.as_str().into());
        }
        let id = intent.id.clone();
        let Some(oldest) = self.recent.insert(&id, intent) else { return };
        let Some(payment_id) = oldest.metadata.get(PAYMENT_ID) else { return };
        if let Some(ids) = self.by_payment.get_mut(payment_id) {
            ids.retain(|id| **id != *oldest.id);
            if ids.is_empty() {
                self.by_payment.remove(payment_id);
            }
        }
    }
}

#[cfg(test)]
#[path = "intents_tests.rs"]
mod tests;
