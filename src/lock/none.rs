//! The backend `none`: no lock at all. PostgreSQL alone keeps every guarantee; what is missing is order among waiters.
//!
//! It keeps the claim honest that the lock is never the only guard.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{LockError, LockGuard, LockManager, LockOwner, LockedKey};

/// Grants every key at once, without a token.
#[derive(Debug, Default)]
pub struct NoLock;

#[async_trait]
impl LockManager for NoLock {
    async fn acquire(
        &self,
        _keys: &[String],
        _owner: LockOwner,
        _deadline: Instant,
    ) -> Result<LockGuard, LockError> {
        Ok(LockGuard::empty())
    }

    async fn try_acquire(
        &self,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
    ) -> Result<Option<LockGuard>, LockError> {
        self.acquire(keys, owner, deadline).await.map(Some)
    }

    /// Nobody holds anything, as far as this backend knows.
    async fn list(&self) -> Result<Vec<LockedKey>, LockError> {
        Ok(Vec::new())
    }

    async fn ping(&self, _timeout: Duration) -> Result<(), LockError> {
        Ok(())
    }

    async fn close(&self) {}
}
