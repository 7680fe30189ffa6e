//! Which IP addresses are special, seen through every way of embedding one address in another.
//!
//! Pure: resolves no name and opens no socket. Addresses are parsed by the standard library or `url`, never by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for (IANA special-purpose registries, RFC 6890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Globally reachable.
    Public,
    /// This machine: 127.0.0.0/8 and `::1`.
    Loopback,
    /// A private network: RFC 1918, unique local (RFC 4193), shared address space (RFC 6598).
    Private,
    /// 169.254.0.0/16 and `fe80::/10`; cloud metadata services live here.
    LinkLocal,
    /// A cloud metadata service outside of the link-local ranges.
    CloudMetadata,
    /// Anything else that is not globally reachable: unspecified, multicast, documentation, benchmarking, reserved, tunnels.
    Special,
}

/// Metadata services outside of the link-local ranges: Alibaba (inside RFC 6598), AWS over IPv6, Oracle's old one.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254), Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)];

/// Classifies an address; an IPv4 address embedded in IPv6 (mapped, compatible, NAT64, 6to4) counts as itself.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    let [a, b, c, _] = address.octets();
    if METADATA_V4.contains(&address) {
        return AddressClass::CloudMetadata;
    }
    match (a, b, c) {
        (127, ..) => AddressClass::Loopback,
        (169, 254, _) => AddressClass::LinkLocal,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => AddressClass::Private,
        // This network, IETF assignments, documentation, AS112, 6to4 relays, benchmarking, multicast, reserved.
        (0 | 224..=255, ..)
        | (192, 0, 0 | 2)
        | (192, 31, 196)
        | (192, 52, 193)
        | (192, 88, 99)
        | (192, 175, 48)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113) => AddressClass::Special,
        _ => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if METADATA_V6.contains(&address) {
        return AddressClass::CloudMetadata;
    }
    if address == Ipv6Addr::LOCALHOST {
        return AddressClass::Loopback;
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        classify_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (s0, s1, s2, s3, s4, s5) {
        // IPv4-mapped (RFC 4291 section 2.5.5.2), NAT64 (RFC 6052).
        (0, 0, 0, 0, 0, 0xffff) | (0x0064, 0xff9b, 0, 0, 0, 0) => embedded(s6, s7),
        // IPv4-translated (RFC 2765) and IPv4-compatible (RFC 4291 section 2.5.5.1): obsolete, so never public.
        (0, 0, 0, 0, 0xffff | 0, 0) => never_public(embedded(s6, s7)),
        // 6to4 (RFC 3056): deprecated.
        (0x2002, ..) => never_public(embedded(s1, s2)),
        (0xfe80..=0xfebf, ..) => AddressClass::LinkLocal,
        (0xfc00..=0xfdff, ..) => AddressClass::Private,
        // IETF assignments with Teredo and ORCHID (2001::/23), documentation.
        (0x2001, 0x0000..=0x01ff | 0x0db8, ..) | (0x3fff, 0x0000..=0x0fff, ..) => AddressClass::Special,
        (0x2000..=0x3fff, ..) => AddressClass::Public,
        // Local-use NAT64, discard, segment routing, site-local, multicast, unassigned.
        _ => AddressClass::Special,
    }
}

fn never_public(class: AddressClass) -> AddressClass {
    if class == AddressClass::Public { AddressClass::Special } else { class }
}

#[cfg(test)]
mod tests {
    use super::{AddressClass, classify};

    fn class(text: &str) -> AddressClass {
        classify(text.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_public() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(class(text), AddressClass::Public, "{text}");
        }
    }

    #[test]
    fn q02_special_addresses_are_seen_through_every_embedding() {
        use AddressClass::{CloudMetadata, LinkLocal, Loopback, Private, Special};
        for (text, expected) in [
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("64:ff9b::7f00:1", Loopback),
            ("2002:7f00:1::", Loopback),
            ("::127.0.0.1", Loopback),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("fd12::1", Private),
            ("::ffff:10.0.0.1", Private),
            ("64:ff9b::a00:1", Private),
            ("2002:a00:1::1", Private),
            ("169.254.169.254", LinkLocal),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("::ffff:169.254.169.254", LinkLocal),
            ("64:ff9b::a9fe:a9fe", LinkLocal),
            ("2002:a9fe:a9fe::", LinkLocal),
            ("100.100.100.200", CloudMetadata),
            ("::ffff:100.100.100.200", CloudMetadata),
            ("fd00:ec2::254", CloudMetadata),
            ("0.0.0.0", Special),
            ("0.1.2.3", Special),
            ("::", Special),
            ("224.0.0.1", Special),
            ("255.255.255.255", Special),
            ("198.18.0.1", Special),
            ("192.0.2.1", Special),
            ("203.0.113.9", Special),
            ("2001:db8::1", Special),
            ("2001::1", Special),
            ("2002:808:808::", Special),
            ("ff02::1", Special),
            ("fec0::1", Special),
            ("64:ff9b:1::1", Special),
            ("100::1", Special),
        ] {
            assert_eq!(class(text), expected, "{text}");
        }
    }
}
