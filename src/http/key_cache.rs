//! The API keys that were valid a moment ago, and which of them were used: a request under a known key costs the database
//! nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{app::App, domain::ids::ApiKeyId, store::api_keys::Caller};

/// How long a key that was found valid is not looked up again: also how long a revoked key still works.
const REMEMBER: Duration = Duration::from_secs(5);

/// More keys than this are not remembered: start over instead of growing.
const KEYS_MAX: usize = 10_000;

/// What is known of a key without asking the database.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// It was valid a moment ago.
    Valid(Caller),
    /// It was valid, longer ago: look again.
    Stale,
    /// Nothing.
    Nothing,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct KeyCache(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    valid: HashMap<[u8; 32], (Caller, Instant)>,
    used: HashSet<ApiKeyId>,
}

impl KeyCache {
    /// Looks a key up by its hash. One that is valid is used now.
    pub(super) fn find(&self, hash: &[u8; 32]) -> Known {
        let mut keys = self.lock();
        match keys.valid.get(hash) {
            Some(&(caller, since)) if since.elapsed() < REMEMBER => {
                keys.used.insert(caller.api_key_id);
                Known::Valid(caller)
            }
            Some(_) => Known::Stale,
            None => Known::Nothing,
        }
    }

    /// Remembers a key that was found valid, and is used now.
    pub(super) fn insert(&self, hash: [u8; 32], caller: Caller) {
        let mut keys = self.lock();
        if keys.valid.len() >= KEYS_MAX {
            keys.valid.clear();
        }
        keys.valid.insert(hash, (caller, Instant::now()));
        keys.used.insert(caller.api_key_id);
    }

    /// Forgets a key that is not valid any more.
    pub(super) fn remove(&self, hash: &[u8; 32]) {
        self.lock().valid.remove(hash);
    }

    /// Records which keys were used since the last time: one statement, however many requests there were.
    pub(super) async fn record_use(&self, app: &App) {
        let used: Vec<ApiKeyId> = self.lock().used.drain().collect();
        if used.is_empty() {
            return;
        }
        if let Err(error) = app.record_api_key_use(&used).await {
            tracing::warn!(%error, "the use of API keys was not recorded, trying again");
            self.lock().used.extend(used);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
