//! The contract of events: schemas that only grow, documents that say what is so, and what becomes of data that does not fit.

mod asyncapi;
mod compatibility;
mod schema_violation;
mod schemas;
