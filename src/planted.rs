//! Faults planted on purpose, so that the failure tests can show that they would find them: `make planted`.
//!
//! Only with the feature `planted-faults`, which no optimized build takes, is there anything of this; without it no fault is
//! ever on, and the compiler drops what asks. Each fault is one that somebody could write by mistake, at the line where that
//! would be. The environment variable `HOLDFAST_PLANTED_FAULT` names the one that is on.

#[cfg(all(feature = "planted-faults", not(debug_assertions)))]
compile_error!("the feature planted-faults breaks the program on purpose: it is for debug builds only");

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Stock is reserved without the token of its lock.
    FenceOff,
    /// A delivery is acknowledged before it is handled.
    AckBeforeCommit,
    /// A consumer does not note which events it has handled.
    NoInbox,
    /// An event counts as sent before the broker has confirmed it.
    MarkSentBeforeConfirm,
    /// The event of a payment is written after the transaction that it tells of.
    PublishOutsideTransaction,
    /// The answer to a request is not stored under its idempotency key.
    NoIdempotencyRow,
}

/// Whether a fault was planted: never.
#[cfg(not(feature = "planted-faults"))]
pub const fn is_on(_: Fault) -> bool {
    false
}

/// Whether this fault was planted.
#[cfg(feature = "planted-faults")]
pub fn is_on(fault: Fault) -> bool {
    static PLANTED: std::sync::LazyLock<Option<Fault>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("HOLDFAST_PLANTED_FAULT").ok().filter(|name| !name.is_empty())?;
        let fault = match name.as_str() {
            "fence_off" => Fault::FenceOff,
            "ack_before_commit" => Fault::AckBeforeCommit,
            "no_inbox" => Fault::NoInbox,
            "mark_sent_before_confirm" => Fault::MarkSentBeforeConfirm,
            "publish_outside_transaction" => Fault::PublishOutsideTransaction,
            "no_idempotency_row" => Fault::NoIdempotencyRow,
            // A fault that is not there would be found by nobody, and look like one that is not to be found.
            _ => panic!("HOLDFAST_PLANTED_FAULT={name} is no fault, see src/planted.rs"),
        };
        tracing::warn!(?fault, "a fault was planted");
        Some(fault)
    });
    *PLANTED == Some(fault)
}
