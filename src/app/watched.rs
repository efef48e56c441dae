//! What clients wait for: however many wait, one task of the process asks the database about all of it in one query, and
//! rests between two of them.
//!
//! It starts with the first that waits and ends with the last; what nobody waits for any more is forgotten by the next
//! query. Nothing is held while waiting: no connection, no transaction.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::sleep};

use crate::store::{self, Conn, Store};

/// The rest between two queries: what a waiting client loses at most.
const INTERVAL: Duration = Duration::from_millis(50);

/// The rest after a query that failed.
const INTERVAL_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Reads the values of these keys.
type Query<K, V> = for<'a> fn(&'a mut Conn, &'a [K]) -> BoxFuture<'a, Result<Vec<(K, V)>, store::Error>>;

/// Values in the database that somebody waits for, by key. Clones share one task.
pub(super) struct Watched<K, V> {
    store: Store,
    query: Query<K, V>,
    waiting: Arc<Mutex<Waiting<K, V>>>,
}

struct Waiting<K, V> {
    values: HashMap<K, watch::Sender<Option<V>>>,
    is_asking: bool,
}

impl<K, V> Watched<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    /// Nobody waits yet.
    pub(super) fn new(store: Store, query: Query<K, V>) -> Self {
        let waiting = Waiting { values: HashMap::new(), is_asking: false };
        Self { store, query, waiting: Arc::new(Mutex::new(waiting)) }
    }

    /// The value from the next query on; `None` before. Changes with every change that a query sees.
    pub(super) fn subscribe(&self, key: K) -> watch::Receiver<Option<V>> {
        let mut waiting = self.waiting();
        let seen = waiting.values.entry(key).or_insert_with(|| watch::Sender::new(None)).subscribe();
        if !std::mem::replace(&mut waiting.is_asking, true) {
            tokio::spawn(self.clone().ask());
        }
        seen
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<K, V>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until nobody waits.
    async fn ask(self) {
        let mut rest = INTERVAL;
        loop {
            sleep(rest).await;
            let keys = self.keys();
            if keys.is_empty() {
                return;
            }
            rest = match self.read(&keys).await {
                Ok(values) => {
                    self.tell(values);
                    INTERVAL
                }
                Err(error) => {
                    tracing::warn!(%error, "what clients wait for cannot be read, trying again");
                    INTERVAL_AFTER_ERROR
                }
            };
        }
    }

    /// Forgets what nobody waits for any more, and gives the rest. None: the asking ends with this.
    fn keys(&self) -> Vec<K> {
        let mut waiting = self.waiting();
        waiting.values.retain(|_, sender| sender.receiver_count() > 0);
        waiting.is_asking = !waiting.values.is_empty();
        waiting.values.keys().copied().collect()
    }

    async fn read(&self, keys: &[K]) -> Result<Vec<(K, V)>, store::Error> {
        (self.query)(&mut *self.store.conn_by_key().await?, keys).await
    }

    fn tell(&self, values: Vec<(K, V)>) {
        let waiting = self.waiting();
        for (key, value) in values {
            if let Some(sender) = waiting.values.get(&key) {
                sender.send_if_modified(|seen| {
                    let is_new = seen.as_ref() != Some(&value);
                    *seen = Some(value);
                    is_new
                });
            }
        }
    }
}

impl<K, V> Clone for Watched<K, V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), query: self.query, waiting: self.waiting.clone() }
    }
}

impl<K, V> fmt::Debug for Watched<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
