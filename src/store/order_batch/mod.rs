//! What is done for many orders at once: the same changes as everywhere else, each in one statement for all of them.
//!
//! It decides nothing. Whoever calls it has locked the orders, in the order of their ids, and then their payments, in the order
//! of theirs; levels follow in key order. Every change is guarded by what its row was when it was locked, and a row that is
//! missing is an error of all.
//!
//! The statements run on connections that find rows by their keys, whatever the statistics say ([`super::Store::begin_batch`]).
//! `(status = …) IS TRUE` keeps the index of that status out of it: PostgreSQL would read all payments of a status for each of a batch
//! where it takes them for few.

pub mod orders;
pub mod payments;
pub mod shipments;

pub use orders::OrderMark;
