//! What happens when something breaks: real processes, real servers, cut, paused or killed on purpose.

mod bus_outages;
mod bus_outcomes;
mod commits;
mod database_silent;
mod duplicates;
mod fence;
mod kills;
mod lock_nodes;
mod lock_session;
mod locks_ensemble;
mod locks_fairness;
mod locks_killed;
mod locks_network;
mod locks_partition;
mod locks_paused;
mod locks_sessions;
mod paused_api;
mod provider_webhooks;
mod relay_outages;
mod relay_shares;
mod relays;
mod termination;
