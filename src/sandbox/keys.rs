//! Idempotency keys as Stripe has them: the first request under a key decides, its answer is kept and given again.
//!
//! An answer is kept whatever it says, a 500 too. A request that fails validation never gets here, so its key stays free.

use axum::body::Bytes;

use super::recent::Recent;

/// An answer: status and JSON body.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// What to do with a request that has a key.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is the first: do it.
    New,
    /// It was done: give this answer again.
    Done(Reply),
    /// The first is still at work.
    InFlight,
    /// The key was used for something else.
    OtherParameters,
}

#[derive(Debug)]
struct Entry {
    fingerprint: [u8; 32],
    reply: Option<Reply>,
}

/// The newest keys.
#[derive(Debug)]
pub(super) struct Keys(Recent<Entry>);

impl Keys {
    pub(super) fn new(max: usize) -> Self {
        Self(Recent::new(max))
    }

    pub(super) fn claim(&mut self, key: &str, fingerprint: [u8; 32]) -> Claim {
        match self.0.get(key) {
            Some(entry) if entry.fingerprint != fingerprint => Claim::OtherParameters,
            Some(Entry { reply: Some(reply), .. }) => Claim::Done(reply.clone()),
            Some(_) => Claim::InFlight,
            None => {
                self.0.insert(key, Entry { fingerprint, reply: None });
                Claim::New
            }
        }
    }

    pub(super) fn finish(&mut self, key: &str, reply: &Reply) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.reply = Some(reply.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_under_a_key_decides() {
        let mut keys = Keys::new(10);
        assert!(matches!(keys.claim("k", [1; 32]), Claim::New));
        assert!(matches!(keys.claim("k", [1; 32]), Claim::InFlight));
        assert!(matches!(keys.claim("k", [2; 32]), Claim::OtherParameters));
        keys.finish("k", &Reply { status: 500, body: Bytes::from_static(b"{}") });
        assert!(matches!(keys.claim("k", [1; 32]), Claim::Done(Reply { status: 500, .. })));
        assert!(matches!(keys.claim("k", [2; 32]), Claim::OtherParameters));
    }
}
