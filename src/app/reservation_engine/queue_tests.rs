//! Properties of the scheduling, over random orders and random moments at which lanes become free.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { orders: 8, lines: 12 };
/// Apart from the numbers of the SKUs.
const IDENTITY: u64 = 1_000;

#[derive(Debug, Clone)]
struct Order {
    number: usize,
    wants: Wants,
}

fn order(number: usize, skus: &[u64], identity: u64) -> Order {
    Order {
        number,
        wants: Wants { skus: skus.to_vec(), identity: vec![IDENTITY + identity], lines: skus.len() },
    }
}

fn numbers(batch: Option<Batch<Order>>) -> Vec<usize> {
    batch.map(|batch| batch.items.iter().map(|order| order.number).collect()).unwrap_or_default()
}

fn queue(orders: &[Order]) -> Queue<Order> {
    let mut queue = Queue::new(LIMITS);
    for order in orders {
        queue.push(order.wants.clone(), order.clone());
    }
    queue
}

#[test]
fn orders_of_one_sku_share_a_batch() {
    let mut queue = queue(&[order(0, &[1], 0), order(1, &[1], 1), order(2, &[2], 2)]);
    assert_eq!(numbers(queue.take()), [0, 1, 2]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn an_order_that_waits_is_not_overtaken_on_its_skus_and_keeps_nobody_else() {
    let mut queue = queue(&[order(0, &[1], 0)]);
    let first = queue.take().expect("a batch");
    for later in [order(1, &[1, 2, 3], 1), order(2, &[2], 2), order(3, &[4], 3)] {
        queue.push(later.wants.clone(), later);
    }
    assert_eq!(numbers(queue.take()), [3], "2 would overtake 1, which waits for 0");
    queue.finish(&first.wanted);
    assert_eq!(numbers(queue.take()), [1, 2]);
}

#[test]
fn a_twin_waits_for_its_first_and_keeps_nobody() {
    let mut queue = queue(&[order(0, &[1], 7), order(1, &[1], 7), order(2, &[1], 8)]);
    let first = queue.take().expect("a batch");
    assert_eq!(first.items.iter().map(|order| order.number).collect::<Vec<_>>(), [0, 2]);
    assert!(queue.take().is_none());
    queue.finish(&first.wanted);
    assert_eq!(numbers(queue.take()), [1]);
}

#[test]
fn a_large_order_goes_alone_rather_than_never() {
    let large: Vec<u64> = (10..40).collect();
    let mut queue = queue(&[order(0, &[1], 0), order(1, &large, 1), order(2, &[2], 2)]);
    assert_eq!(numbers(queue.take()), [0]);
    assert_eq!(numbers(queue.take()), [1]);
    assert_eq!(numbers(queue.take()), [2]);
}

proptest! {
    /// Whatever comes and whenever lanes become free: no two batches in flight share anything, no batch holds a twin, the
    /// orders of a SKU are taken in the order in which they came, the limits hold, and every order is taken.
    #[test]
    fn every_order_is_taken_once_in_the_order_of_its_skus(
        orders in prop::collection::vec((prop::collection::btree_set(0_u64..6, 1..5), 0_u64..40), 1..60),
        moves in prop::collection::vec(0_u8..4, 0..120),
    ) {
        let orders: Vec<Order> = orders
            .iter()
            .enumerate()
            .map(|(number, (skus, identity))| order(number, &skus.iter().copied().collect::<Vec<_>>(), *identity))
            .collect();
        let mut queue = Queue::new(LIMITS);
        let mut coming = orders.iter();
        let mut in_flight: Vec<Batch<Order>> = Vec::new();
        let mut taken = Vec::new();
        let mut moves = moves.into_iter().chain(std::iter::repeat(3)).enumerate();
        while taken.len() < orders.len() {
            let (step, next) = moves.next().expect("endless");
            prop_assert!(step < 2_000, "an order is never taken");
            match next {
                0 => if let Some(order) = coming.next() {
                    queue.push(order.wants.clone(), order.clone());
                },
                1 if !in_flight.is_empty() => queue.finish(&in_flight.remove(0).wanted),
                2 => if let Some(batch) = queue.take() {
                    check(&batch, &in_flight)?;
                    taken.extend(batch.items.iter().map(|order| order.number));
                    in_flight.push(batch);
                },
                // In the end everything comes, and one lane alone gets everything done.
                3 if step >= 120 => {
                    for order in coming.by_ref() {
                        queue.push(order.wants.clone(), order.clone());
                    }
                    for batch in in_flight.drain(..) {
                        queue.finish(&batch.wanted);
                    }
                    let batch = queue.take().expect("nothing is in flight: something can be taken");
                    check(&batch, &in_flight)?;
                    taken.extend(batch.items.iter().map(|order| order.number));
                    in_flight.push(batch);
                }
                _ => {}
            }
        }
        let mut last = HashMap::<u64, usize>::new();
        let mut identities = HashMap::<u64, HashSet<usize>>::new();
        for &number in &taken {
            // A twin may be overtaken: it only waits for its own answer.
            let twin = !identities.entry(orders[number].wants.identity[0]).or_default().is_empty();
            identities.entry(orders[number].wants.identity[0]).or_default().insert(number);
            let has_twin = orders.iter().filter(|o| o.wants.identity == orders[number].wants.identity).count() > 1;
            for sku in &orders[number].wants.skus {
                if !twin && !has_twin {
                    prop_assert!(last.get(sku).is_none_or(|&before| before < number), "{number} was overtaken");
                    last.insert(*sku, number);
                }
            }
        }
        let distinct: HashSet<_> = taken.iter().collect();
        prop_assert_eq!(distinct.len(), orders.len());
    }
}

fn check(batch: &Batch<Order>, in_flight: &[Batch<Order>]) -> Result<(), TestCaseError> {
    prop_assert!(batch.items.len() <= LIMITS.orders);
    let lines: usize = batch.items.iter().map(|order| order.wants.lines).sum();
    prop_assert!(lines <= LIMITS.lines || batch.items.len() == 1);
    let identities: HashSet<_> = batch.items.iter().flat_map(|order| &order.wants.identity).collect();
    prop_assert_eq!(identities.len(), batch.items.len(), "a batch holds a twin");
    for other in in_flight {
        prop_assert!(batch.wanted.is_disjoint(&other.wanted), "two batches in flight share something");
    }
    Ok(())
}
