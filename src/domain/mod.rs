//! The words of the business and the rules that need nothing but values: ids, money, orders, inventory, reservations,
//! payments, shipments, events.
//!
//! Pure: no clock, no randomness but new ids, no I/O, and nothing of tokio, sqlx, axum or lapin. Every other layer may
//! import this one; this one imports none of ours.

pub mod access;
pub mod allocation;
pub mod event;
pub mod ids;
pub mod inventory;
pub mod money;
pub mod new_order;
pub mod order;
pub mod payment;
pub mod reservation;
pub mod shipment;
mod status;
pub mod validation;
