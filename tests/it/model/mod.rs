//! Models of the protocols that keep stock, events and money right, explored state by state with `stateright`.
//!
//! A test with real servers meets some interleavings, a model meets all of them, within its bounds: a few requests, a few
//! units, and so many faults in one run, of any kind and at any step.
//!
//! - [`orders`]: lock, fencing token, placement, outbox, relay, broker, inbox.
//! - [`payments`]: payment, expiry and cancellation of one order, with a provider whose outcome may be unknown.
//! - [`leases`]: which process publishes which shard of the outbox.
//!
//! Each protocol is explored as it is, and then with one thing changed that somebody might change. Such a change must be
//! found out, by the property that is named: so every property can fail, and what it says is the reason why the protocol is
//! as it is. Decisions are those of the code, called and not copied: who gets stock, which token is older, which status may
//! follow which.
//!
//! A property about the end holds where no work is left. Work comes to an end by itself ([`ends`]), so where no fault comes any
//! more, and nobody asks for anything new, the protocol gets there.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
    time::Instant,
};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

mod leases;
mod orders;
mod payments;

/// The steps of a protocol that will be taken some time, whatever else happens.
type Work<M> = fn(&M, &<M as Model>::State) -> Vec<<M as Model>::Action>;

/// Explores every state: nothing is violated, and what is named does happen.
fn holds<M>(name: &str, model: M, happens: &[&'static str])
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let began = Instant::now();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, seconds) = (checker.unique_state_count(), began.elapsed().as_secs_f64());
    println!("{name}: {states} states, {seconds:.1} s: holds");
    for property in checker.model().properties() {
        match property.expectation {
            Expectation::Sometimes if !happens.contains(&property.name) => {}
            Expectation::Sometimes => drop(checker.assert_any_discovery(property.name)),
            _ => checker.assert_no_discovery(property.name),
        }
    }
}

/// Explores, shorter runs first, until the property is violated.
fn finds<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let began = Instant::now();
    let until = HasDiscoveries::AllOf([property].into());
    let checker = model.checker().finish_when(until).spawn_bfs().join();
    let (states, seconds) = (checker.unique_state_count(), began.elapsed().as_secs_f64());
    let steps = checker.assert_any_discovery(property).into_actions();
    println!("{name}: {states} states, {seconds:.1} s: found after {} steps: not {property:?}", steps.len());
    println!("    {steps:?}");
}

/// From every state, work alone comes to an end, whichever step is taken first.
fn ends<M: Model>(name: &str, model: &M, work: Work<M>)
where
    M::State: Hash + Eq + Clone,
{
    let mut reached: HashSet<M::State> = model.init_states().into_iter().collect();
    let mut open: Vec<M::State> = reached.iter().cloned().collect();
    while let Some(state) = open.pop() {
        for next in model.next_states(&state) {
            if reached.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    let mut known = HashMap::new();
    assert!(
        reached.iter().all(|state| ends_from(model, work, state, &mut known)),
        "{name}: work goes round in a circle"
    );
}

fn ends_from<M: Model>(
    model: &M,
    work: Work<M>,
    state: &M::State,
    known: &mut HashMap<M::State, bool>,
) -> bool
where
    M::State: Hash + Eq + Clone,
{
    if let Some(ends) = known.get(state) {
        return *ends;
    }
    // Whoever comes back here before it is known has gone round in a circle.
    known.insert(state.clone(), false);
    let mut next = work(model, state).into_iter().filter_map(|step| model.next_state(state, step));
    let ends = next.all(|next| ends_from(model, work, &next, known));
    known.insert(state.clone(), ends);
    ends
}
