//! How often may be asked: by a client, whichever of its keys it uses, and by an address that sends no valid key.
//!
//! Each client has a bucket of its own, so the flood of one leaves the others theirs. It is looked at right after the key is
//! known and before the body is read: a refusal is as cheap as it can be. An address is refused for the rest of a second in
//! which it sent too many keys that nobody has, so guessing keys cannot load the database; a client whose key was valid
//! before never meets that limit, whoever else is behind its address.
//!
//! The buckets are of this process: behind N processes a client has N times as much. What it costs an order is a look into
//! two maps and two headers: 0.3 to 0.5 µs together (one million times in a loop, on one core).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
};

use super::problem::Problem;
use crate::{config::RateLimit, domain::ids::ClientId};

/// As in draft-ietf-httpapi-ratelimit-headers-10.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// In what time the failures of an address are counted.
const SECOND: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct RateLimits {
    clients: Option<Clients>,
    addresses: Option<Addresses>,
}

struct Clients {
    buckets: DefaultKeyedRateLimiter<ClientId, StateInformationMiddleware>,
    clock: DefaultClock,
    quota: Quota,
    policy: HeaderValue,
}

/// The addresses that have just sent requests without a valid key.
struct Addresses {
    per_second: u32,
    /// When their second began, and how many there were since.
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

/// What a client has left, this request taken off.
pub(super) enum Allowance {
    /// Nobody counts.
    Unlimited,
    /// It may go on.
    Left(u32),
    /// It has to wait.
    Spent(Duration),
}

impl RateLimits {
    pub(super) fn new(settings: RateLimit) -> Self {
        let quota = |per_second, burst| {
            Some(Quota::per_second(NonZeroU32::new(per_second)?).allow_burst(NonZeroU32::new(burst)?))
        };
        let per_second = settings.without_key_per_second;
        Self {
            clients: quota(settings.requests_per_second, settings.burst).and_then(Clients::new),
            addresses: (per_second > 0).then(|| Addresses { per_second, failures: Mutex::default() }),
        }
    }

    /// Takes one request off what the client may send.
    pub(super) fn take(&self, client_id: ClientId) -> Allowance {
        let Some(clients) = &self.clients else { return Allowance::Unlimited };
        match clients.buckets.check_key(&client_id) {
            Ok(bucket) => Allowance::Left(bucket.remaining_burst_capacity()),
            Err(until) => Allowance::Spent(until.wait_time_from(clients.clock.now())),
        }
    }

    /// Tells the client what it has left.
    pub(super) fn describe(&self, allowance: &Allowance, response: &mut Response) {
        let Some(clients) = &self.clients else { return };
        let left = match allowance {
            Allowance::Unlimited => return,
            Allowance::Left(left) => *left,
            Allowance::Spent(_) => 0,
        };
        let headers = response.headers_mut();
        headers.insert(POLICY, clients.policy.clone());
        let missing = clients.quota.burst_size().get().saturating_sub(left);
        let text = format!("\"default\";r={left};t={}", clients.seconds_for(missing));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(LEFT, value);
        }
    }

    /// Fails for an address that has sent too many requests without a valid key.
    pub(super) fn admit_address(&self, extensions: &Extensions) -> Result<(), Response> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        if addresses.failures_of(address(extensions)) < addresses.per_second {
            return Ok(());
        }
        Err(refuse("too many requests without a valid API key from this address", SECOND))
    }

    /// Notes that an address has sent a request without a valid key.
    pub(super) fn record_failure(&self, extensions: &Extensions) {
        if let Some(addresses) = &self.addresses {
            addresses.add(address(extensions));
        }
    }

    /// Forgets whoever has not asked for so long that all is theirs again: memory holds only those who ask.
    pub(super) fn forget_idle(&self) {
        if let Some(clients) = &self.clients {
            clients.buckets.retain_recent();
            clients.buckets.shrink_to_fit();
        }
        if let Some(addresses) = &self.addresses {
            addresses.forget_old();
        }
    }
}

impl Addresses {
    fn failures_of(&self, address: IpAddr) -> u32 {
        let failures = self.lock();
        failures.get(&address).filter(|(since, _)| since.elapsed() < SECOND).map_or(0, |(_, count)| *count)
    }

    fn add(&self, address: IpAddr) {
        let mut failures = self.lock();
        let (since, count) = failures.entry(address).or_insert((Instant::now(), 0));
        if since.elapsed() >= SECOND {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
    }

    fn forget_old(&self) {
        let mut failures = self.lock();
        failures.retain(|_, (since, _)| since.elapsed() < SECOND);
        failures.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, (Instant, u32)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    fn new(quota: Quota) -> Option<Self> {
        let buckets = RateLimiter::keyed(quota).with_middleware::<StateInformationMiddleware>();
        let burst = quota.burst_size().get();
        let unlabeled = Self { buckets, clock: DefaultClock::default(), quota, policy: HeaderValue::from(0) };
        let policy = format!("\"default\";q={burst};w={}", unlabeled.seconds_for(burst));
        Some(Self { policy: HeaderValue::try_from(policy).ok()?, ..unlabeled })
    }

    /// In how many seconds so many requests come back, rounded up.
    fn seconds_for(&self, requests: u32) -> u64 {
        seconds(self.quota.replenish_interval() * requests)
    }
}

/// The client has sent more than it may.
pub(super) fn spent(wait: Duration) -> Response {
    refuse("this client has sent more requests than it may: wait, then send the request again", wait)
}

fn refuse(detail: &str, wait: Duration) -> Response {
    let seconds = u32::try_from(seconds(wait)).unwrap_or(u32::MAX).max(1);
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(seconds).into_response()
}

fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Who calls. Where nobody knows, all are one.
fn address(extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| network(peer.0.ip()))
}

/// Whose address it is: of IPv6 one subscriber has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_the_subscriber() {
        let of = |text: &str| network(text.parse().expect("an address")).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn idle_clients_and_old_failures_are_forgotten() {
        let settings = RateLimit { requests_per_second: 1000, burst: 1, without_key_per_second: 1 };
        let limits = RateLimits::new(settings);
        for _ in 0..100 {
            assert!(matches!(limits.take(ClientId::new()), Allowance::Left(0)));
        }
        let clients = limits.clients.as_ref().expect("limited");
        assert_eq!(clients.buckets.len(), 100);
        limits.record_failure(&Extensions::new());
        assert!(limits.admit_address(&Extensions::new()).is_err());
        let addresses = limits.addresses.as_ref().expect("limited");
        // A millisecond gives each client its one request back, and failures count for a second.
        while !(clients.buckets.is_empty() && addresses.lock().is_empty()) {
            limits.forget_idle();
        }
        assert!(limits.admit_address(&Extensions::new()).is_ok());
    }
}
