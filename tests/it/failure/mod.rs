//! What happens when something breaks: real processes, real servers, cut, paused or killed on purpose.

mod bus_outages;
mod bus_outcomes;
mod lock_nodes;
mod lock_session;
