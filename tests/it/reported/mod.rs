//! Fifteen failures that users of other shop backends have reported, each as tests that are named by what excludes it.
//!
//! Every test drives the service as a client does, beside real servers and the sandbox of the provider, and ends with the
//! invariants of `holdfast verify`. Where the database itself has to refuse, two connections meet in it past the program.
//!
//! | row | what went wrong elsewhere | file |
//! |---|---|---|
//! | 1 | stock was checked in one step and taken in another | `stock.rs` |
//! | 2 | reserving was safe only under a lock | `stock.rs` |
//! | 3 | two lines of one SKU each passed alone | `stock.rs` |
//! | 4 | the loser of a race left half an order behind | `stock.rs` |
//! | 5 | locks of several keys were kept by halves, or waited for each other | `locks.rs` |
//! | 6 | a customer paid for stock that was gone | `paid_stock.rs` |
//! | 7 | answer and webhook both completed the order | `notices.rs` |
//! | 8 | a customer was charged twice | `one_payment.rs` |
//! | 9 | one webhook took effect three times | `notices.rs` |
//! | 10 | late news revived or ended an order that was over | `notices.rs` |
//! | 11 | a shopper was blocked by the own old order, which could still be paid | `holds.rs` |
//! | 12 | holds ended while they were paid, or not for hours | `holds.rs` |
//! | 13 | stock was released twice, or never | `holds.rs` |
//! | 14 | writes of stock lost sales, or sales lost writes | `counts.rs` |
//! | 15 | more went back than was paid; news of what was rolled back | `refunds.rs` |

mod counts;
mod holds;
mod locks;
mod notices;
mod one_payment;
mod paid_stock;
mod refunds;
mod stock;
