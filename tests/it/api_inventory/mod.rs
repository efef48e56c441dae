//! Inventory at the API: locations, levels, the ledger, stock events, imports.

mod imports;
mod levels;
mod locations;
mod movements;
mod stock_events;
mod transfers;
