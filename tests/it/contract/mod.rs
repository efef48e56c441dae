//! What every backend behind a seam promises, run against each real backend.

mod bus;
mod lock;
mod lock_kept;
mod lock_zookeeper;
mod provider;
mod provider_failures;
mod stripe_mock;
