//! PROXY protocol, versions 1 and 2: the header a front end puts before everything else to say who its
//! client is. Pure: bytes in, header out; nothing is taken before the whole header is there.
//!
//! Source: `doc/proxy-protocol.txt` of haproxy/haproxy ("the document" below).

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use wsray_ws::Step;

mod crc32c;
#[cfg(test)]
mod tests;

/// The longest version 1 line, its CR LF included. Source: the document, section 2.1.
pub const MAX_V1_BYTES: usize = 107;

/// The longest version 2 header: 16 bytes and a 16-bit length. Source: the document, section 2.2.
pub const MAX_V2_BYTES: usize = V2_FIXED_BYTES + u16::MAX as usize;

/// What the sender says about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// Sent on behalf of this client.
    Proxied {
        /// The client's address.
        source: SocketAddr,
        /// The address the client connected to.
        destination: SocketAddr,
    },
    /// Sent on behalf of a client on a Unix socket.
    Unix {
        /// The client's path as text, without the padding; often empty. The client chose it.
        source: Box<str>,
    },
    /// The sender's own connection (health checks), or a client it cannot name: the address of the
    /// socket is the real one.
    Local,
}

impl Header {
    /// Who the client is, where the header says so by an IP address.
    pub fn source(&self) -> Option<SocketAddr> {
        match self {
            Self::Proxied { source, .. } => Some(*source),
            Self::Unix { .. } | Self::Local => None,
        }
    }
}

/// Reads the header at the beginning of a connection.
///
/// A connection that ends while this says [`Step::NeedMore`] has sent no header.
///
/// # Errors
/// All are the sender's fault, and the connection must be closed. An error is final: more bytes
/// would not change it.
pub fn parse(input: &[u8]) -> Result<Step<Header>, ProxyProtocolError> {
    if starts_like(input, V2_SIGNATURE) {
        return parse_v2(input);
    }
    if starts_like(input, V1_START) {
        return parse_v1(input);
    }
    Err(ProxyProtocolError::Missing { found: Opening::of(input) })
}

/// What stands where the header should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A TLS client hello.
    Tls,
    /// An HTTP request.
    Http,
    /// None of those.
    Other,
}

impl Opening {
    fn of(input: &[u8]) -> Self {
        const METHODS: [&[u8]; 6] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN"];
        match input {
            [0x16, ..] => Self::Tls,
            _ if METHODS.iter().any(|method| starts_like(input, method)) => Self::Http,
            _ => Self::Other,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Tls => "a TLS handshake",
            Self::Http => "an HTTP request",
            Self::Other => "something else",
        }
    }
}

/// The bytes are no PROXY protocol header; the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyProtocolError {
    /// The connection begins with something else: the front end does not send the header, or a
    /// stranger came past it.
    #[error("expected a PROXY protocol header, found {}", found.text())]
    Missing {
        /// What came instead.
        found: Opening,
    },
    /// A version 1 line without an end.
    #[error("a version 1 line has at most {MAX_V1_BYTES} bytes and ends in CR LF")]
    LineTooLong,
    /// A version 1 line that ends in LF alone.
    #[error("a version 1 line ends in CR LF, found LF alone")]
    BareLf,
    /// A version 1 line for a protocol other than TCP4, TCP6 and UNKNOWN.
    #[error("unknown protocol in a version 1 line, expected TCP4, TCP6 or UNKNOWN")]
    Protocol,
    /// A version 1 line with fields missing, left over, or not separated by one space.
    #[error("a version 1 line has four fields after its protocol, one space between them")]
    Fields,
    /// A version 1 address that is none, or is of the other family.
    #[error("bad {which} address in a version 1 line")]
    Address {
        /// `source` or `destination`.
        which: &'static str,
    },
    /// A version 1 port that is no decimal number up to 65535 without leading zeros.
    #[error("bad {which} port in a version 1 line, expected 0 to 65535 without leading zeros")]
    Port {
        /// `source` or `destination`.
        which: &'static str,
    },
    /// The signature of version 2 with another version behind it.
    #[error("version {found} after the signature of version 2")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Neither LOCAL nor PROXY.
    #[error("unknown command {found}, expected 0 (LOCAL) or 1 (PROXY)")]
    Command {
        /// The command found.
        found: u8,
    },
    /// A family and transport that the document does not list. Some of these stop V2Ray.
    #[error("unknown family and transport {found:#04x}")]
    Family {
        /// The byte found.
        found: u8,
    },
    /// The length has no room for the family's addresses.
    #[error("a length of {found} bytes is too short for family {family:#04x}, which needs {needed}")]
    TooShort {
        /// The length found, in bytes.
        found: usize,
        /// The byte of family and transport.
        family: u8,
        /// The least length, in bytes.
        needed: usize,
    },
    /// A checksum that is not 4 bytes long or does not match: the header was damaged on its way.
    #[error("the header's CRC32C does not match")]
    Checksum,
}

const V1_START: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_FIXED_BYTES: usize = 16;
/// The TLV that holds a checksum. Source: the document, section 2.2.3.
const TLV_CRC32C: u8 = 0x03;
/// The length of one Unix path in version 2. Source: the document, section 2.2.
const UNIX_PATH_BYTES: usize = 108;

/// Whether `input` and `start` agree as far as both go.
fn starts_like(input: &[u8], start: &[u8]) -> bool {
    input.iter().zip(start).all(|(a, b)| a == b)
}

fn parse_v1(input: &[u8]) -> Result<Step<Header>, ProxyProtocolError> {
    let window = input.get(..MAX_V1_BYTES).unwrap_or(input);
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        let is_full = window.len() == MAX_V1_BYTES;
        return if is_full { Err(ProxyProtocolError::LineTooLong) } else { Ok(Step::NeedMore) };
    };
    let line =
        window.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(ProxyProtocolError::BareLf)?;
    let fields = line.strip_prefix(V1_START).ok_or(ProxyProtocolError::Fields)?;
    Ok(Step::Done { used: end + 1, value: parse_v1_fields(fields)? })
}

fn parse_v1_fields(fields: &[u8]) -> Result<Header, ProxyProtocolError> {
    let (protocol, rest) = match fields.iter().position(|&byte| byte == b' ') {
        Some(at) => (fields.get(..at), fields.get(at + 1..)),
        None => (Some(fields), None),
    };
    let parse_ip: fn(&str) -> Option<IpAddr> = match protocol {
        Some(b"UNKNOWN") => return Ok(Header::Local),
        Some(b"TCP4") => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some(b"TCP6") => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(ProxyProtocolError::Protocol),
    };
    let rest = rest.and_then(|rest| str::from_utf8(rest).ok()).ok_or(ProxyProtocolError::Fields)?;
    let mut parts = rest.split(' ');
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ProxyProtocolError::Fields);
    };
    let address = |text, which| parse_ip(text).ok_or(ProxyProtocolError::Address { which });
    let port = |text, which| parse_port(text).ok_or(ProxyProtocolError::Port { which });
    let source = address(source, "source")?;
    let destination = address(destination, "destination")?;
    Ok(Header::Proxied {
        source: (source, port(source_port, "source")?).into(),
        destination: (destination, port(destination_port, "destination")?).into(),
    })
}

fn parse_port(text: &str) -> Option<u16> {
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_canonical)
}

fn parse_v2(input: &[u8]) -> Result<Step<Header>, ProxyProtocolError> {
    let Some((&[version_command, family, len_high, len_low], rest)) =
        input.get(V2_SIGNATURE.len()..).and_then(|rest| rest.split_first_chunk())
    else {
        return Ok(Step::NeedMore);
    };
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let layout = Layout::of(version_command, family)?;
    if len < layout.address_bytes() {
        return Err(ProxyProtocolError::TooShort { found: len, family, needed: layout.address_bytes() });
    }
    let used = V2_FIXED_BYTES + len;
    let (Some(header), Some(body)) = (input.get(..used), rest.get(..len)) else {
        return Ok(Step::NeedMore);
    };
    if layout != Layout::Skipped {
        check_crc32c(header, V2_FIXED_BYTES + layout.address_bytes())?;
    }
    Ok(Step::Done { used, value: layout.read(body).unwrap_or(Header::Local) })
}

/// How the addresses of a version 2 header are laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// LOCAL or UNSPEC: whatever is there is skipped.
    Skipped,
    V4,
    V6,
    Unix,
}

impl Layout {
    fn of(version_command: u8, family: u8) -> Result<Self, ProxyProtocolError> {
        if version_command >> 4 != 2 {
            return Err(ProxyProtocolError::Version { found: version_command >> 4 });
        }
        match (version_command & 0x0f, family) {
            (0, _) | (1, 0x00) => Ok(Self::Skipped),
            (1, 0x11 | 0x12) => Ok(Self::V4),
            (1, 0x21 | 0x22) => Ok(Self::V6),
            (1, 0x31 | 0x32) => Ok(Self::Unix),
            (1, found) => Err(ProxyProtocolError::Family { found }),
            (found, _) => Err(ProxyProtocolError::Command { found }),
        }
    }

    fn address_bytes(self) -> usize {
        match self {
            Self::Skipped => 0,
            Self::V4 => 2 * (4 + 2),
            Self::V6 => 2 * (16 + 2),
            Self::Unix => 2 * UNIX_PATH_BYTES,
        }
    }

    /// `None` only where `body` is shorter than [`Self::address_bytes`].
    fn read(self, body: &[u8]) -> Option<Header> {
        match self {
            Self::Skipped => Some(Header::Local),
            Self::V4 => read_addresses::<4>(body),
            Self::V6 => read_addresses::<16>(body),
            Self::Unix => {
                let path = body.get(..UNIX_PATH_BYTES)?.split(|&byte| byte == 0).next()?;
                let text: Cow<'_, str> = String::from_utf8_lossy(path);
                Some(Header::Unix { source: text.into() })
            }
        }
    }
}

fn read_addresses<const N: usize>(body: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    Some(Header::Proxied {
        source: (IpAddr::from(*source), u16::from_be_bytes(*source_port)).into(),
        destination: (IpAddr::from(*destination), u16::from_be_bytes(*destination_port)).into(),
    })
}

/// Checks the checksum among the TLVs that begin at `at`, if there is one. Other TLVs, and what is left
/// behind the last whole one, are skipped, as the document allows.
fn check_crc32c(header: &[u8], mut at: usize) -> Result<(), ProxyProtocolError> {
    while let Some((&[kind, len_high, len_low], rest)) =
        header.get(at..).and_then(|rest| rest.split_first_chunk())
    {
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let Some(value) = rest.get(..len) else { break };
        if kind == TLV_CRC32C {
            let sum = value.try_into().map(u32::from_be_bytes).map_err(|_| ProxyProtocolError::Checksum)?;
            let is_right = sum == crc32c::of_header(header, at + 3);
            return if is_right { Ok(()) } else { Err(ProxyProtocolError::Checksum) };
        }
        at += 3 + len;
    }
    Ok(())
}

/// What holds for any input; called by unit tests and by the fuzz target.
#[doc(hidden)]
pub mod invariants {
    use std::mem::discriminant;

    use super::{MAX_V2_BYTES, Step, parse};

    /// Parses `input` whole and cut anywhere: no panic, `used` within bounds, and a prefix gives either
    /// "need more" or what the whole gives.
    ///
    /// # Panics
    /// Where one of these does not hold.
    pub fn check(input: &[u8]) {
        let whole = parse(input);
        if let Ok(Step::Done { used, .. }) = whole {
            assert!(used <= input.len() && used <= MAX_V2_BYTES, "takes more than there is");
        }
        for cut in 0..input.len().min(512) {
            let part = parse(&input[..cut]);
            let is_same = match (&part, &whole) {
                (Err(part), Err(whole)) => discriminant(part) == discriminant(whole),
                _ => part == whole,
            };
            assert!(part == Ok(Step::NeedMore) || is_same, "a prefix of {cut} bytes parses differently");
        }
    }
}
