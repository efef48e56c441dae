//! What every backend promises, as functions over the trait, called once for each real backend.

mod lock;
mod lock_zookeeper;
