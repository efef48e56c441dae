//! What happens when something breaks: real servers, real connections, cut or paused on purpose.

mod lock_nodes;
mod lock_session;
