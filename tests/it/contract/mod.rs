//! What every implementation of a seam must do. Each suite runs against each real backend.

mod bus;
