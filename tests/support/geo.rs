//! Files like `geosite.dat` and `geoip.dat`, written here by an encoder of protocol buffers of their own
//! (v2fly/v2ray-core `app/router/routercommon/common.proto`).

/// A list of domains: `Domain.Type` and text.
pub fn sites(name: &str, domains: &[(u8, &str)]) -> Vec<u8> {
    let domain =
        |(kind, text): &(u8, &str)| field(2, &[vec![1 << 3, *kind], field(2, text.as_bytes())].concat());
    field(1, &[field(1, name.as_bytes()), domains.iter().flat_map(domain).collect()].concat())
}

/// A list of IPv4 networks: address and prefix.
pub fn networks(name: &str, networks: &[([u8; 4], u8)]) -> Vec<u8> {
    let network =
        |(address, prefix): &([u8; 4], u8)| field(2, &[field(1, address), vec![2 << 3, *prefix]].concat());
    field(1, &[field(1, name.as_bytes()), networks.iter().flat_map(network).collect()].concat())
}

/// A field of wire type 2, up to 16 KiB long.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let low = u8::try_from(bytes.len() & 0x7f).unwrap();
    let high = u8::try_from(bytes.len() >> 7).unwrap();
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [vec![number << 3 | 2], length, bytes.to_vec()].concat()
}
