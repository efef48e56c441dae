//! What tests share.

pub(crate) mod broker;
