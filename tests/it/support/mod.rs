//! What tests share.

pub(crate) mod canned;
pub(crate) mod sandbox;
