//! What happens when something breaks, with real processes.

mod bus_outages;
mod bus_outcomes;
