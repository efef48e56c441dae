//! Inventory at the API: locations, levels, the ledger, stock events, imports.

mod levels;
mod locations;
mod stock_events;
