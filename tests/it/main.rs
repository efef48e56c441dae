//! All tests that need real servers, in one binary.

mod contract;
mod failure;
mod support;
