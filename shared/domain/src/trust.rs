//! `trusted-proxies`: peers whose word about a request's origin is believed (kpa-behaviour 3.3).
//!
//! Invariant: an address is compared in its canonical form, so that IPv4 in IPv6's clothes is IPv4.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Most networks in one list. Each is compared once per connection.
pub const NETWORKS_MAX: usize = 256;

/// A network in CIDR notation (RFC 4632), such as `10.0.0.0/8`; a single address is one of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// 0 to 32, or to 128.
    bits: u8,
}

impl Network {
    /// Whether `address`, in canonical form, lies in it.
    fn holds(&self, address: IpAddr) -> bool {
        // A shift by the whole width is no shift: the network of zero bits holds everything of its family.
        let same_v4 = |a: Ipv4Addr, b: Ipv4Addr| {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
        };
        let same_v6 = |a: Ipv6Addr, b: Ipv6Addr| {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
        };
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same_v4(ours, theirs),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same_v6(ours, theirs),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether no bit beyond the prefix is set.
    fn is_exact(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.to_bits().checked_shl(u32::from(self.bits)).unwrap_or(0) == 0,
            IpAddr::V6(address) => address.to_bits().checked_shl(u32::from(self.bits)).unwrap_or(0) == 0,
        }
    }
}

/// An error is the end of a sentence about the text.
impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| "is no IP address or network")?;
        let full: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => full,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= full).ok_or("has more bits than an address has")?
            }
            Some(_) => return Err("has no number of bits behind its slash"),
        };
        let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        let network = match (mapped, bits.checked_sub(96)) {
            (true, Some(bits)) => Self { address: address.to_canonical(), bits },
            _ => Self { address, bits },
        };
        if network.is_exact() { Ok(network) } else { Err("has bits set beyond its prefix") }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Whose forwarding fields are believed. The default is peers on the loopback interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxies {
    loopback: bool,
    networks: Vec<Network>,
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self { loopback: true, networks: Vec::new() }
    }
}

impl TrustedProxies {
    /// Nobody's.
    #[must_use]
    pub const fn none() -> Self {
        Self { loopback: false, networks: Vec::new() }
    }

    /// Whether `peer` is believed.
    #[must_use]
    pub fn trust(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        (self.loopback && peer.is_loopback()) || self.networks.iter().any(|network| network.holds(peer))
    }
}

/// Reads `none`, or `loopback` and networks with commas between them; an error is the end of a sentence about the text.
impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut trusted = Self::none();
        if text.trim() == "none" {
            return Ok(trusted);
        }
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if item == "loopback" {
                trusted.loopback = true;
                continue;
            }
            let network = item
                .parse()
                .map_err(|why| format!("has {:?}, which {why}", item.chars().take(60).collect::<String>()))?;
            if !trusted.networks.contains(&network) {
                trusted.networks.push(network);
            }
        }
        if trusted == Self::none() {
            return Err("names nobody; none does".into());
        }
        if trusted.networks.len() > NETWORKS_MAX {
            return Err(format!("has more than {NETWORKS_MAX} networks"));
        }
        Ok(trusted)
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::none() {
            return f.write_str("none");
        }
        let loopback = self.loopback.then(|| "loopback".to_owned());
        let all: Vec<String> = loopback.into_iter().chain(self.networks.iter().map(Network::to_string)).collect();
        f.write_str(&all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(list: &str, peer: &str, trusted: bool) {
        let list: TrustedProxies = list.parse().unwrap();
        assert_eq!(list.trust(peer.parse().unwrap()), trusted, "{list} {peer}");
    }

    #[test]
    fn who_is_believed() {
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            check("loopback", peer, true);
            check("none", peer, false);
        }
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "127.0.0.1", false);
        check("192.168.1.7", "192.168.1.7", true);
        check("192.168.1.7", "192.168.1.6", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "8.8.8.8", false);
        check("loopback, fd00::/8 ,172.16.0.0/12", "fd12::9", true);
        check("loopback,fd00::/8,172.16.0.0/12", "172.31.255.255", true);
        check("loopback,fd00::/8,172.16.0.0/12", "172.32.0.0", false);
        check("::ffff:10.0.0.0/104", "10.1.2.3", true);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let many = (0..=NETWORKS_MAX).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect::<Vec<_>>().join(",");
        for text in [
            "",
            ",",
            "none,loopback",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "fd00::1/8",
            "10.0.0/8",
            &many,
        ] {
            let why = text.parse::<TrustedProxies>().unwrap_err();
            assert!(!why.is_empty() && why.len() < 200, "{text}: {why}");
        }
    }

    proptest! {
        /// An address lies in a network if and only if their first bits are the same.
        #[test]
        fn a_network_holds_what_begins_like_it(address: u128, other: u128, flip in 0_u32..128, bits in 0_u8..=128) {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            let network: TrustedProxies = format!("{}/{bits}", Ipv6Addr::from_bits(address & mask)).parse().unwrap();
            prop_assert_eq!(network.to_string().parse(), Ok(network.clone()));
            for peer in [address, other, address ^ (1 << flip)] {
                let peer = Ipv6Addr::from_bits(peer);
                // Mapped addresses are IPv4 and belong to no IPv6 network.
                if peer.to_ipv4_mapped().is_none() && Ipv6Addr::from_bits(address & mask).to_ipv4_mapped().is_none() {
                    prop_assert_eq!(network.trust(IpAddr::V6(peer)), (peer.to_bits() ^ address) & mask == 0);
                }
            }
        }

        #[test]
        fn nothing_panics(text in "[0-9a-f.:/, ]{0,40}|\\PC{0,20}") {
            let _ = text.parse::<TrustedProxies>();
        }
    }
}
