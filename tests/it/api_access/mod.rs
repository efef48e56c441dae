//! Who may do what, and how much of it: API keys, scopes, rate limits, open orders.

mod keys;
mod matrix;
mod open_orders;
mod rate_limit;
