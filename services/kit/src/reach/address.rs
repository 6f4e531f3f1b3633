//! Which addresses are of the public Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of IPv4 that lead elsewhere, as the first of a block and the length of its prefix (IANA's registry of special
/// purpose addresses, multicast, and what is reserved).
const SPECIAL_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Behind a carrier's translation; clusters use it for pods.
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Link-local: the metadata of clouds.
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    // Relays to IPv6.
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
    ([255, 255, 255, 255], 32),
];

/// Blocks of IPv6 within the global unicast addresses (2000::/3) that lead elsewhere.
const SPECIAL_V6: [([u16; 8], u32); 4] = [
    // Assigned to protocols: Teredo, benchmarks, ORCHID.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    // Documentation.
    ([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    // 6to4, which leads to an address of IPv4.
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
];
/// Addresses of IPv4 for networks that have IPv6 alone (NAT64).
const TRANSLATED: [u16; 6] = [0x0064, 0xff9b, 0, 0, 0, 0];

/// Reports whether an address is of the public Internet. One that is not may be of this host, of the cluster, of its network or
/// of the provider's, or lead to one of these by translation.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|(first, prefix)| {
        let differing = address.to_bits() ^ Ipv4Addr::from(*first).to_bits();
        differing.leading_zeros() >= *prefix
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if address.segments()[..6] == TRANSLATED {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4([a, b, c, d].into());
    }
    let is_unicast = address.segments()[0] >> 13 == 1;
    is_unicast
        && !SPECIAL_V6.iter().any(|(first, prefix)| {
            let differing = address.to_bits() ^ Ipv6Addr::from(*first).to_bits();
            differing.leading_zeros() >= *prefix
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_special_addresses_are_not_public() {
        let cases = [
            ("1.1.1.1", true),
            ("8.8.8.8", true),
            ("93.184.216.34", true),
            ("9.255.255.255", true),
            ("11.0.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.0.0.1", false),
            ("10.255.255.255", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.1", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("198.19.255.255", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700:4700::1111", true),
            ("2a00:1450:4001::200e", true),
            ("::", false),
            ("::1", false),
            // Of IPv4, mapped, compatible, translated and tunnelled.
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::127.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b:1::8.8.8.8", false),
            ("2002:7f00:1::", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("3fff::1", false),
            ("fc00::1", false),
            ("fd12:3456:789a::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
            ("100::1", false),
            ("4000::1", false),
        ];
        for (address, expected) in cases {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }
}
