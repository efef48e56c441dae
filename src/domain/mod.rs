//! The words of the business and the rules that need nothing but values: ids, money, orders, inventory, reservations,
//! payments, refunds, shipments, events.
//!
//! Pure: no clock, no randomness but new ids, no I/O, and nothing of tokio, sqlx, axum or lapin. Every other layer may
//! import this one; this one imports none of ours.

pub mod access;
pub mod allocation;
pub mod bounds;
pub mod dead_letter;
pub mod event;
pub mod ids;
pub mod inventory;
pub mod line_quantity;
pub mod money;
pub mod movement;
pub(crate) mod name;
pub mod new_order;
pub mod open_orders;
pub mod order;
pub mod payment;
pub mod provider_event;
pub mod purchase_limit;
pub mod refund;
pub mod reservation;
pub mod shipment;
pub(crate) mod status;
pub mod stock_file;
pub mod stock_import;
pub mod trace_parent;
pub mod validation;
pub mod webhook;
pub mod webhook_url;
