//! Which URLs events may be posted to, as far as the URL alone says.
//!
//! An address that it names is checked here too, through [`AddressRules`]; what a name resolves to is checked at each
//! connection (`webhook::guard`), because it changes.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

/// What a deployment allows.
#[derive(Debug, Clone, Default)]
pub struct UrlRules {
    /// Whether `http` is taken beside `https`.
    pub allow_insecure: bool,
    /// Which ports; `None` is any.
    pub ports: Option<Vec<u16>>,
}

/// Which addresses anything may be sent to.
pub trait AddressRules {
    /// Whether this is one, over TLS or not.
    fn allow(&self, address: IpAddr, is_secure: bool) -> bool;
}

/// The URL, or what is wrong with it.
///
/// The parser is that of the browsers (WHATWG), and the one that the client uses: `0x7f.1`, `2130706433` and `0177.0.0.1`
/// are 127.0.0.1 to both.
pub fn check(text: &str, rules: &UrlRules, addresses: &impl AddressRules) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    let is_secure = url.scheme() == "https";
    if !(is_secure || rules.allow_insecure && url.scheme() == "http") {
        return Err("must be an https URL".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold neither user nor password".into());
    }
    if url.fragment().is_some() {
        return Err("must not hold a fragment".into());
    }
    let port = url.port_or_known_default().unwrap_or_default();
    if let Some(ports) = rules.ports.as_deref().filter(|ports| !ports.contains(&port)) {
        let allowed: Vec<String> = ports.iter().map(u16::to_string).collect();
        return Err(format!("must be at port {}", allowed.join(" or ")));
    }
    let address = match url.host() {
        Some(Host::Domain(name)) if is_local(name) => IpAddr::from(Ipv4Addr::LOCALHOST),
        // What it resolves to is checked at each connection.
        Some(Host::Domain(_)) => return Ok(url),
        Some(Host::Ipv4(address)) => IpAddr::from(address),
        Some(Host::Ipv6(address)) => IpAddr::from(address),
        None => return Err("must name a host".into()),
    };
    if addresses.allow(address, is_secure) { Ok(url) } else { Err("must be at a public address".into()) }
}

/// Names that are of this machine everywhere.
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Public;

    impl AddressRules for Public {
        fn allow(&self, address: IpAddr, is_secure: bool) -> bool {
            is_secure && address == IpAddr::from([192, 0, 32, 10])
        }
    }

    #[test]
    fn only_urls_of_the_public_web_are_taken() {
        let rules = UrlRules { allow_insecure: false, ports: Some(vec![443, 8443]) };
        for url in
            ["https://a.example", "https://a.example:8443/x?y=z", "https://192.0.32.10/", "https://192.8202"]
        {
            assert!(check(url, &rules, &Public).is_ok(), "{url}");
        }
        for (url, why) in [
            ("http://a.example", "https"),
            ("ftp://a.example", "https"),
            ("https://", "no URL"),
            ("a.example", "no URL"),
            ("https://u@a.example", "user"),
            ("https://u:p@a.example", "user"),
            ("https://a.example#x", "fragment"),
            ("https://a.example:5432", "port 443 or 8443"),
            ("https://a.example:80", "port"),
            ("https://localhost", "public"),
            ("https://x.localhost.", "public"),
            ("https://127.0.0.1", "public"),
            ("https://2130706433", "public"),
            ("https://0x7f.1", "public"),
            ("https://0177.0.0.1", "public"),
            ("https://0", "public"),
            ("https://[::1]", "public"),
            ("https://[::ffff:127.0.0.1]", "public"),
            ("https://1\u{ff12}7.0.0.1", "public"),
            ("https://127.0.0.1.", "public"),
        ] {
            let error = check(url, &rules, &Public).expect_err(url);
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
