//! What every backend behind a seam must do, run against each.

mod provider;
mod provider_failures;
