//! Which addresses belong to the internet, and which to nobody's guest.
//!
//! The list of what is not global must not miss one: the operator's network is behind it. Version 6 is therefore read the
//! other way round: nothing is global but what IANA has handed out for that (2000::/3), less its special blocks. Source:
//! the IANA special-purpose address registries for version 4 and version 6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Not global, by block.
const SPECIAL_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),       // "this network"
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // between a provider and its customers (CGNAT)
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 52, 193, 0, 24), // AMT
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(192, 175, 48, 0, 24), // AS112
    v4(198, 18, 0, 0, 15),   // benchmarking
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 3),     // multicast, reserved, broadcast
];

/// The version 6 addresses handed out; mapped, compatible, NAT64, ULA, link-local and multicast ones are outside.
const UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Not global within [`UNICAST_V6`].
const SPECIAL_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0], 23),         // protocol assignments: Teredo, benchmarking, ORCHID
    v6([0x2001, 0xdb8, 0], 32),     // documentation
    v6([0x2002, 0, 0], 16),         // 6to4
    v6([0x2620, 0x4f, 0x8000], 48), // AS112
    v6([0x3fff, 0, 0], 20),         // documentation
];

/// Where clouds hand out the machine's credentials.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),                  // nearly everyone
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),                    // AWS ECS
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),                   // AWS EKS
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),                  // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),                    // Azure; the only one that looks global
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),                      // Oracle
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),  // AWS EKS
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),  // Google
];

/// Whether the address is one of the public internet.
pub(crate) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|block| block.contains(&address)),
        IpAddr::V6(address) => UNICAST_V6.contains(&address) && !SPECIAL_V6.iter().any(|block| block.contains(&address)),
    }
}

/// Whether no entry of any allow-list leads there: metadata services, and addresses that name no host. `0.0.0.0` is one of
/// them because Linux takes it for loopback.
pub(crate) fn is_forbidden(address: IpAddr) -> bool {
    let forbidden = |address: IpAddr| METADATA.contains(&address) || address.is_unspecified() || address.is_multicast();
    forbidden(address) || embedded_v4(address).is_some_and(|inner| forbidden(inner.into()))
}

/// The version 4 address a version 6 address leads to.
pub(crate) fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let joined = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        (0, 0) if address.is_loopback() || address.is_unspecified() => None,
        // Mapped, compatible, and translated (RFC 2765).
        (0, 0) if c == 0 && d == 0 && matches!((e, f), (0, 0 | 0xffff) | (0xffff, 0)) => joined(g, h),
        // NAT64: with its own prefix, and with a local one, where the address stands last.
        (0x64, 0xff9b) => joined(g, h),
        (0x2002, _) => joined(b, c),
        // Teredo writes the client's address inverted.
        (0x2001, 0) => joined(!g, !h),
        _ => None,
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6([a, b, c]: [u16; 3], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split_whitespace()
    }

    #[test]
    fn only_the_public_internet_is_global() {
        for text in words(
            "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255 169.254.1.1 \
             169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 \
             198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 \
             ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b::7f00:1 \
             64:ff9b:1::1 100::1 2001::1 2001:0:7f00::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: \
             2002:808:808::1 3fff::1 4000::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1 \
             ff0e::1",
        ) {
            assert!(!is_global(address(text)), "{text}");
        }
        for text in words(
            "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
             169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 198.17.255.255 198.20.0.0 \
             223.255.255.255 2001:4860:4860::8888 2001:200::1 2003::1 2606:4700:4700::1111 2a00:1450::1 3ffe::1",
        ) {
            assert!(is_global(address(text)), "{text}");
        }
    }

    #[test]
    fn some_addresses_are_never_reached() {
        for text in words(
            "169.254.169.254 fd00:ec2::254 168.63.129.16 ::ffff:169.254.169.254 64:ff9b::169.254.169.254 \
             64:ff9b:1::169.254.169.254 2002:a9fe:a9fe:: 2001:0:0:0:0:0:5601:5601 ::169.254.169.254 0.0.0.0 :: \
             ::ffff:0.0.0.0 224.0.0.1 ff02::1",
        ) {
            assert!(is_forbidden(address(text)), "{text}");
        }
        for text in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.253", "8.8.8.8", "fd00:ec2::253"] {
            assert!(!is_forbidden(address(text)), "{text}");
        }
    }
}
