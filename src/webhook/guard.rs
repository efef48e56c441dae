//! Which addresses anything is posted to: public ones, and those of networks that the deployment names. A merchant's URL must
//! not make this process talk to what only it can reach (server-side request forgery).
//!
//! The resolver of the client gives addresses that are allowed and no others, so what is connected to is what was checked,
//! however often a name changes. A literal address asks no resolver: the URL is checked before each attempt.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use ipnet::IpNet;
use reqwest::dns::{Name, Resolve, Resolving};

use crate::domain::webhook_url::AddressRules;

/// Networks of IPv4 and of global IPv6 that are not public, from the registries of special-purpose addresses of IANA
/// (RFC 6890 and what has been added since). Whatever is outside of `2000::/3` is not public either.
const NOT_PUBLIC: [&str; 23] = [
    "0.0.0.0/8",         // this network
    "10.0.0.0/8",        // private
    "100.64.0.0/10",     // behind the NAT of a carrier
    "127.0.0.0/8",       // loopback
    "169.254.0.0/16",    // link-local, and metadata of clouds
    "172.16.0.0/12",     // private
    "192.0.0.0/24",      // protocol assignments
    "192.0.2.0/24",      // documentation
    "192.31.196.0/24",   // AS112
    "192.52.193.0/24",   // AMT
    "192.88.99.0/24",    // relays of 6to4
    "192.168.0.0/16",    // private
    "192.175.48.0/24",   // AS112
    "198.18.0.0/15",     // benchmarks
    "198.51.100.0/24",   // documentation
    "203.0.113.0/24",    // documentation
    "224.0.0.0/4",       // multicast
    "240.0.0.0/4",       // reserved, and broadcast
    "2001::/23",         // protocol assignments: Teredo, benchmarks, ORCHID
    "2001:db8::/32",     // documentation
    "2002::/16",         // 6to4: an address of IPv4 inside
    "2620:4f:8000::/48", // AS112
    "3fff::/20",         // documentation
];

static NOT_PUBLIC_NETWORKS: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| NOT_PUBLIC.iter().filter_map(|network| network.parse().ok()).collect());

static GLOBAL_UNICAST: LazyLock<Option<IpNet>> = LazyLock::new(|| "2000::/3".parse().ok());

/// NAT64 (RFC 6052): the address of IPv4 in its last four bytes is where it leads.
static TRANSLATED: LazyLock<Option<IpNet>> = LazyLock::new(|| "64:ff9b::/96".parse().ok());

/// Whether anybody on the internet may have this address.
fn is_public(address: IpAddr) -> bool {
    let is_special = NOT_PUBLIC_NETWORKS.iter().any(|network| network.contains(&address));
    match address {
        IpAddr::V4(_) => !is_special,
        IpAddr::V6(v6) if TRANSLATED.is_some_and(|network| network.contains(&address)) => {
            let [.., a, b, c, d] = v6.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        // So mapped and compatible addresses of IPv4, unique local and link-local ones, and multicast are none.
        IpAddr::V6(_) => !is_special && GLOBAL_UNICAST.is_some_and(|network| network.contains(&address)),
    }
}

/// Public addresses over TLS, and besides whatever lies in networks of the deployment's own.
#[derive(Debug, Clone, Default)]
pub struct AddressGuard {
    networks: Vec<IpNet>,
}

impl AddressGuard {
    /// `networks`: CIDR, separated by commas, e.g. `10.1.0.0/16, fd00::/8`.
    pub fn new(networks: &str) -> Result<Self, String> {
        let networks = networks.split(',').map(str::trim).filter(|network| !network.is_empty());
        let parsed: Result<Vec<IpNet>, String> = networks
            .map(|network| {
                network.parse().map_err(|_| format!("{network:?} is no network such as 10.1.0.0/16"))
            })
            .collect();
        Ok(Self { networks: parsed? })
    }
}

impl AddressRules for AddressGuard {
    fn allow(&self, address: IpAddr, is_secure: bool) -> bool {
        let is_own = self.networks.iter().any(|network| network.contains(&address));
        is_own || (is_secure && is_public(address))
    }
}

/// Who knows the addresses of names.
#[async_trait]
pub trait NameLookup: fmt::Debug + Send + Sync {
    /// The addresses of a name.
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the system.
#[derive(Debug)]
pub struct SystemLookup;

#[async_trait]
impl NameLookup for SystemLookup {
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// None of a name's addresses is allowed. Does not say which they are.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address that anything is posted to")]
pub(super) struct Refused;

/// A name without an address.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address: {0}")]
pub(super) struct Unresolved(String);

/// The resolver of the client: see the module.
pub(super) struct GuardedResolver {
    pub(super) addresses: AddressGuard,
    pub(super) is_secure: bool,
    pub(super) lookup: Arc<dyn NameLookup>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (addresses, is_secure) = (self.addresses.clone(), self.is_secure);
        let lookup = Arc::clone(&self.lookup);
        Box::pin(async move {
            let found = lookup.look_up(name.as_str()).await.map_err(|error| Unresolved(error.to_string()))?;
            if found.is_empty() {
                return Err(Unresolved("there is none".into()).into());
            }
            let allowed = found.into_iter().filter(|address| addresses.allow(*address, is_secure));
            // The client puts the port of the URL in the place of 0.
            let allowed: Vec<SocketAddr> = allowed.map(|address| SocketAddr::new(address, 0)).collect();
            if allowed.is_empty() {
                return Err(Refused.into());
            }
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn every_network_of_the_table_is_one() {
        assert_eq!(NOT_PUBLIC_NETWORKS.len(), NOT_PUBLIC.len());
        assert!(GLOBAL_UNICAST.is_some() && TRANSLATED.is_some());
        for network in NOT_PUBLIC_NETWORKS.iter() {
            assert_eq!(network.trunc(), *network);
        }
    }

    #[test]
    fn only_public_addresses_are_public() {
        for public in
            ["1.1.1.1", "192.0.32.10", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1"]
        {
            assert!(is_public(address(public)), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_public(address(private)), "{private}");
        }
    }

    #[test]
    fn networks_of_the_deployment_are_allowed_and_nothing_else_without_tls() {
        let guard = AddressGuard::new("10.1.0.0/16, fd00::/8,").expect("networks");
        for (text, secure, insecure) in [
            ("10.1.2.3", true, true),
            ("10.2.0.1", false, false),
            ("fd12::1", true, true),
            ("1.1.1.1", true, false),
            ("::ffff:10.1.2.3", false, false),
        ] {
            let allowed = (guard.allow(address(text), true), guard.allow(address(text), false));
            assert_eq!(allowed, (secure, insecure), "{text}");
        }
        assert!(AddressGuard::new("10.1.0.0/33").is_err_and(|error| error.contains("10.1.0.0/33")));
    }
}
