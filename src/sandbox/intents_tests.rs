//! What intents allow, and that every effect on money is counted once, under its payment id.

use super::*;
use crate::sandbox::wire::Form;

fn new(payment_id: &str, behaviour: Behaviour) -> NewIntent {
    let metadata = Form::parse(format!("metadata[{PAYMENT_ID}]={payment_id}").as_bytes()).metadata();
    NewIntent { amount: 1000, currency: "usd".into(), metadata, behaviour }
}

#[test]
fn money_is_captured_once_and_never_refunded_beyond_it() {
    let mut intents = Intents::new(10);
    let id = intents.create(new("pay_a", Behaviour::Succeed)).id;
    assert!(intents.refund(&id, Some(1), Metadata::default()).is_err());
    assert!(intents.capture(&id, Some(1001)).is_err());
    assert_eq!(intents.capture(&id, Some(700)).unwrap().amount_let_go(), 300);
    assert!(intents.capture(&id, Some(300)).is_err());
    assert!(intents.cancel(&id).is_err());
    assert!(intents.refund(&id, Some(701), Metadata::default()).is_err());
    assert_eq!(intents.refund(&id, Some(500), Metadata::default()).unwrap().1.amount, 500);
    assert!(intents.refund(&id, Some(201), Metadata::default()).is_err());
    assert_eq!(intents.refund(&id, None, Metadata::default()).unwrap().1.amount, 200);
    assert_eq!(
        intents.refund(&id, Some(1), Metadata::default()).unwrap_err().code,
        Some("charge_already_refunded")
    );
    let counts = intents.payment_counts("pay_a");
    assert_eq!((counts.captures, counts.amount_captured), (1, 700));
    assert_eq!((counts.refunds, counts.amount_refunded), (2, 700));
}

#[test]
fn a_payment_charged_twice_is_seen() {
    let mut intents = Intents::new(10);
    for _ in 0..2 {
        let id = intents.create(new("pay_a", Behaviour::Succeed)).id;
        intents.capture(&id, None).unwrap();
    }
    intents.create(new("pay_b", Behaviour::Succeed));
    assert_eq!(intents.counts().captures_per_payment_max, 2);
    assert_eq!(intents.counts().authorizations_per_payment_max, 2);
    assert_eq!((intents.counts().intents, intents.counts().authorized, intents.counts().captured), (3, 3, 2));
}

#[test]
fn a_refused_payment_moves_no_money() {
    let mut intents = Intents::new(10);
    let id = intents.create(new("pay_a", Behaviour::Decline(Decline::Generic))).id;
    assert!(intents.capture(&id, None).is_err());
    intents.cancel(&id).unwrap();
    let counts = intents.counts();
    assert_eq!((counts.authorized, counts.captured, counts.voided, counts.declined), (0, 0, 0, 1));
}

#[test]
fn what_is_forgotten_leaves_nothing_behind() {
    let mut intents = Intents::new(2);
    let first = intents.create(new("pay_a", Behaviour::Succeed)).id;
    intents.create(new("pay_b", Behaviour::Succeed));
    intents.create(new("pay_c", Behaviour::Succeed));
    assert!(intents.get(&first).is_err());
    assert_eq!(intents.by_payment.len(), 2);
    assert_eq!((intents.counts().intents, intents.newest().count()), (3, 2));
}
