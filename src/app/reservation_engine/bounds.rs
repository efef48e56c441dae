//! What an order may take, beside stock that is there: how many orders its customer and its client have open, and how many
//! units its customer may buy of a SKU.
//!
//! Decided under locks that are taken after those of the levels, as if the orders of the batch came one after the other: an
//! order that is refused takes neither stock nor a place from its neighbours.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{Error, Placed, Placement, Ticket};
use crate::{
    app::{
        Conflict,
        reserve_stock::{Decided, LockedStock, Want},
    },
    domain::{
        inventory::Sku,
        open_orders::{OpenOrderCaps, OrderOwner},
        purchase_limit::PurchaseLimit,
        reservation::Decision,
        validation::Rule,
    },
    store::{Conn, open_orders, purchase_limits},
};

/// What is taken already, by orders before this batch and by those of this batch before an order.
#[derive(Debug, Clone, Default)]
struct Taken<'a> {
    open: BTreeMap<OrderOwner<'a>, i64>,
    /// By customer and SKU; only SKUs with a limit.
    purchased: BTreeMap<(&'a str, &'a str), i64>,
}

/// The bounds of the orders of a batch.
pub(super) struct Bounds<'a> {
    caps: OpenOrderCaps,
    /// Every SKU of the batch.
    skus: BTreeSet<&'a Sku>,
    limits: HashMap<Sku, PurchaseLimit>,
    taken: Taken<'a>,
}

impl<'a> Bounds<'a> {
    /// Locks and reads what bounds these orders, under the row locks of their levels.
    pub(super) async fn lock(
        conn: &mut Conn,
        caps: OpenOrderCaps,
        placements: impl Iterator<Item = &'a Placement> + Clone,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let lines = placements.clone().flat_map(|placement| &placement.draft.lines);
        let skus: BTreeSet<&Sku> = lines.map(|line| &line.sku).collect();
        let names: Vec<&str> = skus.iter().map(|sku| sku.as_str()).collect();
        let limits = purchase_limits::find(conn, &names).await?;
        let mut taken = Taken::default();
        let mut bounds = Self { caps, skus, limits, taken: Taken::default() };
        for placement in placements {
            bounds.add(&mut taken, placement, 0);
        }
        if !taken.purchased.is_empty() {
            let pairs: Vec<(&str, &str)> = taken.purchased.keys().copied().collect();
            let limit_of = |&(customer_id, sku)| Some((customer_id, bounds.limits.get(sku)?));
            let purchases: Vec<_> = pairs.iter().filter_map(limit_of).collect();
            let bought = purchase_limits::lock_purchases(conn, &purchases, now).await?;
            taken.purchased = pairs.into_iter().zip(bought).collect();
        }
        if !taken.open.is_empty() {
            let owners: Vec<OrderOwner<'_>> = taken.open.keys().copied().collect();
            let counts = open_orders::lock_counts(conn, &owners).await?;
            taken.open = owners.into_iter().zip(counts).collect();
        }
        bounds.taken = taken;
        Ok(bounds)
    }

    /// Every SKU of the batch, and whether it has a limit.
    pub(super) fn limited(&self) -> impl Iterator<Item = (&'a Sku, bool)> {
        self.skus.iter().map(|sku| (*sku, self.limits.contains_key(*sku)))
    }

    /// Decides the orders in `open`, places in `tickets`. Takes those out that pass a bound, and notes their outcome.
    pub(super) fn decide(
        &self,
        stock: &LockedStock,
        (tickets, wants): (&'a [&Ticket], &'a [Want<'_>]),
        open: &mut Vec<usize>,
        outcomes: &mut [Option<Result<Placed, Error>>],
    ) -> Decided {
        // Those who would be refused whoever else gets something: a flood of them costs no more than this.
        open.retain(|&index| match self.refusal(&self.taken, &tickets[index].placement) {
            Some(refusal) => {
                outcomes[index] = Some(Err(refusal));
                false
            }
            None => true,
        });
        loop {
            let decided = stock.decide(open.iter().map(|&index| &wants[index]));
            let reserved = decided.decisions.iter().enumerate();
            let reserved = reserved.filter(|(_, decision)| matches!(decision, Some(Decision::Reserved(_))));
            let mut taken = self.taken.clone();
            let refused = reserved.map(|(place, _)| (place, &*tickets[open[place]].placement)).find_map(
                |(place, placement)| {
                    let refusal = self.refusal(&taken, placement);
                    self.add(&mut taken, placement, 1);
                    refusal.map(|refusal| (place, refusal))
                },
            );
            let Some((place, refusal)) = refused else { return decided };
            // The first of them: those before it are decided for good, those after it are decided without it.
            outcomes[open.remove(place)] = Some(Err(refusal));
        }
    }

    /// Why this order may not be placed after those that have taken this.
    fn refusal(&self, taken: &Taken<'_>, placement: &Placement) -> Option<Error> {
        for (sku, requested) in self.wanted(placement) {
            let Some(customer_id) = placement.draft.customer_id.as_deref() else {
                let detail = format!("is missing: SKU {sku} has a purchase limit");
                return Some(Error::invalid(Rule::CustomerNeeded, "/customer_id", detail));
            };
            let limit = self.limits.get(sku)?.quantity;
            let already_purchased = taken.purchased.get(&(customer_id, sku)).copied().unwrap_or_default();
            if already_purchased + requested > limit {
                let sku = sku.to_owned();
                let refusal = Conflict::PurchaseLimitExceeded { sku, limit, already_purchased, requested };
                return Some(refusal.into());
            }
        }
        self.capped(placement).find_map(|(owner, limit)| {
            let open = taken.open.get(&owner).copied().unwrap_or_default();
            let refusal = Conflict::OpenOrderLimitReached { whose: owner.kind(), limit, open };
            (open >= limit).then(|| refusal.into())
        })
    }

    /// Adds what an order takes, so many times.
    fn add<'p>(&self, taken: &mut Taken<'p>, placement: &'p Placement, times: i64) {
        for (owner, _) in self.capped(placement) {
            *taken.open.entry(owner).or_default() += times;
        }
        let Some(customer_id) = placement.draft.customer_id.as_deref() else { return };
        for (sku, requested) in self.wanted(placement) {
            *taken.purchased.entry((customer_id, sku)).or_default() += times * requested;
        }
    }

    /// Whose caps the order counts towards.
    fn capped<'p>(&self, placement: &'p Placement) -> impl Iterator<Item = (OrderOwner<'p>, i64)> + use<'p> {
        let caps = self.caps;
        let customer_id = placement.draft.customer_id.as_deref();
        caps.owners(placement.request.key.client_id(), customer_id)
            .filter_map(move |owner| Some((owner, caps.cap(owner)?)))
    }

    /// What the order wants of SKUs with a limit, all its lines added up, wherever they are taken from.
    fn wanted<'p>(&self, placement: &'p Placement) -> BTreeMap<&'p str, i64> {
        let mut wanted = BTreeMap::new();
        if self.limits.is_empty() {
            return wanted;
        }
        for line in &placement.draft.lines {
            if self.limits.contains_key(&line.sku) {
                *wanted.entry(line.sku.as_str()).or_default() += line.quantity;
            }
        }
        wanted
    }
}
