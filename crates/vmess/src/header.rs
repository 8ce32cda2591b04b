//! The request's header.

use crate::{
    CryptoError, Options, Security, Step, Target, TargetError,
    aead::{TAG_LEN, aes_gcm, open_in_place, seal_onto},
    kdf::{fnv1a, kdf12, kdf16, salt},
    replay::{Refused, Replay},
    user::{AUTH_ID_LEN, CmdKey, Found, UserIndex, Users},
};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// How far a client's clock may be from ours, in seconds, either way
/// (v2fly/v2ray-core `proxy/vmess/aead/authid.go`).
pub const MAX_CLOCK_SKEW_SECS: u64 = 120;

/// The most bytes of opened header we read. The longest that any client sends has about 330.
pub const MAX_HEADER_LEN: usize = 2048;

/// What a client makes up for one session: keys and the byte that its server must answer with. Secret.
#[derive(Clone)]
pub struct Secrets {
    /// The key of the request's body; the response's is derived from it.
    pub body_key: [u8; 16],
    /// The IV of the request's body; the response's is derived from it.
    pub body_iv: [u8; 16],
    /// What the response's header must start with.
    pub response_auth: u8,
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.body_key.zeroize();
        self.body_iv.zeroize();
        self.response_auth.zeroize();
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        let same = self.body_key.ct_eq(&other.body_key)
            & self.body_iv.ct_eq(&other.body_iv)
            & self.response_auth.ct_eq(&other.response_auth);
        same.into()
    }
}

impl Eq for Secrets {}

/// What a session carries, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A stream.
    Tcp(Target),
    /// Packets, one a chunk.
    Udp(Target),
    /// Many sessions inside one (Mux.Cool).
    Mux,
}

/// A request's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The session's keys.
    pub secrets: Secrets,
    /// How the body is cut.
    pub options: Options,
    /// What protects the body.
    pub security: Security,
    /// What to do.
    pub command: Command,
}

/// The random bytes of one header.
#[derive(Clone, Copy)]
pub struct HeaderEntropy {
    /// In the auth ID.
    pub auth_random: [u8; 4],
    /// The connection's nonce.
    pub nonce: [u8; 8],
    /// How many bytes of padding there are, modulo 16.
    pub padding_len: u8,
    /// Where the padding is taken from.
    pub padding: [u8; 15],
}

impl HeaderEntropy {
    /// From 28 random bytes.
    pub fn from_random(random: [u8; 28]) -> Self {
        let mut this = Self { auth_random: [0; 4], nonce: [0; 8], padding_len: random[12], padding: [0; 15] };
        this.auth_random.copy_from_slice(&random[..4]);
        this.nonce.copy_from_slice(&random[4..12]);
        this.padding.copy_from_slice(&random[13..]);
        this
    }
}

impl fmt::Debug for HeaderEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderEntropy(…)")
    }
}

/// The wire form of a request made at `now` (Unix seconds).
///
/// # Errors
/// When the crypto library fails.
pub fn seal_request(
    cmd_key: &CmdKey,
    request: &Request,
    entropy: &HeaderEntropy,
    now: u64,
) -> Result<Vec<u8>, CryptoError> {
    let padding_len = entropy.padding_len & 15;
    let mut plain = Zeroizing::new(Vec::with_capacity(FIXED_PLAIN_LEN + 300));
    plain.push(VERSION);
    plain.extend_from_slice(&request.secrets.body_iv);
    plain.extend_from_slice(&request.secrets.body_key);
    plain.push(request.secrets.response_auth);
    plain.push(request.options.bits());
    plain.push(padding_len << 4 | request.security.to_wire());
    plain.push(0);
    match &request.command {
        Command::Tcp(target) => {
            plain.push(TCP);
            target.encode(&mut plain);
        }
        Command::Udp(target) => {
            plain.push(UDP);
            target.encode(&mut plain);
        }
        Command::Mux => plain.push(MUX),
    }
    plain.extend_from_slice(&entropy.padding[..usize::from(padding_len)]);
    let sum = fnv1a(&plain);
    plain.extend_from_slice(&sum.to_be_bytes());
    seal_plain(cmd_key, &plain, cmd_key.auth_id(now, entropy.auth_random), entropy.nonce)
}

/// Seals any plaintext, of at most 65535 bytes, as a header.
pub(crate) fn seal_plain(
    cmd_key: &CmdKey,
    plain: &[u8],
    auth_id: [u8; AUTH_ID_LEN],
    nonce: [u8; 8],
) -> Result<Vec<u8>, CryptoError> {
    let keys = HeaderKeys { cmd_key, auth_id: &auth_id, nonce: &nonce };
    let mut out = Vec::with_capacity(FIXED_LEN + plain.len() + TAG_LEN);
    out.extend_from_slice(&auth_id);
    // A request has at most 38 + 259 + 15 + 4 bytes.
    let len = u16::try_from(plain.len()).unwrap_or(u16::MAX);
    keys.seal(salt::REQUEST_LEN_KEY, salt::REQUEST_LEN_NONCE, &len.to_be_bytes(), &mut out)?;
    out.extend_from_slice(&nonce);
    keys.seal(salt::REQUEST_KEY, salt::REQUEST_NONCE, plain, &mut out)?;
    Ok(out)
}

/// Opens one request; for bytes that are all there. See [`RequestOpener`] for bytes that come bit by bit.
///
/// # Errors
/// See [`HeaderError`].
pub fn open_request(
    input: &[u8],
    users: &Users,
    replay: &mut Replay,
    now: u64,
) -> Result<Step<(UserIndex, Request)>, HeaderError> {
    RequestOpener::new().open(input, users, replay, now)
}

/// Opens one connection's request. It remembers whose it is, so that more bytes cost no second search; so
/// all calls must be given the same [`Users`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOpener {
    found: Option<Found>,
}

impl RequestOpener {
    /// For a fresh connection.
    pub const fn new() -> Self {
        Self { found: None }
    }

    /// Searches for the user, once the first 16 bytes are there, without looking into a [`Replay`]: for
    /// callers that share one under a lock and don't want to search while holding it. Calling it
    /// before [`RequestOpener::open`] is allowed, not needed. `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`HeaderError::UnknownUser`] and [`HeaderError::ClockSkew`].
    pub fn identify(
        &mut self,
        input: &[u8],
        users: &Users,
        now: u64,
    ) -> Result<Option<UserIndex>, HeaderError> {
        let found = match self.found {
            Some(found) => found,
            None => match input.first_chunk() {
                None => return Ok(None),
                Some(auth_id) => users.find(*auth_id).ok_or(HeaderError::UnknownUser)?,
            },
        };
        self.found = Some(found);
        check_clock(found.time, now)?;
        Ok(Some(found.user))
    }

    /// Parses `input`, the connection's bytes from the first on. Fails as soon as 16 bytes tell that it
    /// will; records the opening in `replay` once its header has opened, whatever is in it. `now` is in
    /// Unix seconds. After an error the opener must not be used again.
    ///
    /// # Errors
    /// See [`HeaderError`]. To the peer all of them must look alike.
    pub fn open(
        &mut self,
        input: &[u8],
        users: &Users,
        replay: &mut Replay,
        now: u64,
    ) -> Result<Step<(UserIndex, Request)>, HeaderError> {
        let Some(user) = self.identify(input, users, now)? else { return Ok(Step::NeedMore) };
        let (Some(auth_id), Some(found)) = (input.first_chunk::<AUTH_ID_LEN>(), self.found) else {
            return Ok(Step::NeedMore);
        };
        replay.check(auth_id, found.time)?;
        let Some(fixed) = input.first_chunk::<FIXED_LEN>() else { return Ok(Step::NeedMore) };
        let cmd_key = users.cmd_key(user).ok_or(HeaderError::UnknownUser)?;
        let (sealed_len, nonce) = fixed[AUTH_ID_LEN..].split_at(2 + TAG_LEN);
        let keys = HeaderKeys { cmd_key, auth_id, nonce };

        let mut len = [0; 2 + TAG_LEN];
        len.copy_from_slice(sealed_len);
        let len = match keys.open(salt::REQUEST_LEN_KEY, salt::REQUEST_LEN_NONCE, &mut len)? {
            [high, low] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(HeaderError::Tag),
        };
        if len > MAX_HEADER_LEN {
            return Err(HeaderError::TooLong { found: len });
        }
        let used = FIXED_LEN + len + TAG_LEN;
        let Some(sealed) = input.get(FIXED_LEN..used) else { return Ok(Step::NeedMore) };
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let plain = keys.open(salt::REQUEST_KEY, salt::REQUEST_NONCE, &mut sealed)?;
        let secrets = parse_secrets(plain)?;
        replay.record(auth_id, found.time, user, &secrets, now)?;
        let request = parse_plain(plain, secrets)?;
        Ok(Step::Done { used, value: (user, request) })
    }
}

/// Whether `time`, the peer's clock, is near enough to `now`, ours.
fn check_clock(time: u64, now: u64) -> Result<(), HeaderError> {
    if time.abs_diff(now) <= MAX_CLOCK_SKEW_SECS {
        return Ok(());
    }
    // Both fit: a found time has 40 bits. `now` is the caller's.
    let seconds = i64::try_from(time).unwrap_or(i64::MAX).saturating_sub_unsigned(now);
    Err(HeaderError::ClockSkew { seconds })
}

/// What a header's two parts are sealed with.
struct HeaderKeys<'a> {
    cmd_key: &'a CmdKey,
    auth_id: &'a [u8; AUTH_ID_LEN],
    nonce: &'a [u8],
}

impl HeaderKeys<'_> {
    fn seal(&self, key: &[u8], nonce: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let key = aes_gcm(&kdf16(self.cmd_key.as_bytes(), &[key, self.auth_id, self.nonce]))?;
        let nonce = kdf12(self.cmd_key.as_bytes(), &[nonce, self.auth_id, self.nonce]);
        seal_onto(&key, nonce, self.auth_id, plain, out)
    }

    fn open<'b>(&self, key: &[u8], nonce: &[u8], sealed: &'b mut [u8]) -> Result<&'b [u8], HeaderError> {
        let key = aes_gcm(&kdf16(self.cmd_key.as_bytes(), &[key, self.auth_id, self.nonce]))?;
        let nonce = kdf12(self.cmd_key.as_bytes(), &[nonce, self.auth_id, self.nonce]);
        open_in_place(&key, nonce, self.auth_id, sealed).map(|plain| &*plain).ok_or(HeaderError::Tag)
    }
}

/// Auth ID, sealed length and nonce: what stands in front of the sealed header.
const FIXED_LEN: usize = AUTH_ID_LEN + 2 + TAG_LEN + 8;

/// Version, IV, key, response auth, options, padding and security, reserved, command.
const FIXED_PLAIN_LEN: usize = 1 + 16 + 16 + 1 + 1 + 1 + 1 + 1;

/// The only version there is (v2fly/v2ray-core `proxy/vmess/encoding/encoding.go`).
const VERSION: u8 = 1;

/// The commands (v2fly/v2ray-core `common/protocol/headers.go`).
const TCP: u8 = 1;
const UDP: u8 = 2;
const MUX: u8 = 3;

fn parse_secrets(plain: &[u8]) -> Result<Secrets, HeaderError> {
    let fixed: &[u8; FIXED_PLAIN_LEN] = plain.first_chunk().ok_or(HeaderError::Short)?;
    let mut secrets = Secrets { body_key: [0; 16], body_iv: [0; 16], response_auth: fixed[33] };
    secrets.body_iv.copy_from_slice(&fixed[1..17]);
    secrets.body_key.copy_from_slice(&fixed[17..33]);
    Ok(secrets)
}

fn parse_plain(plain: &[u8], secrets: Secrets) -> Result<Request, HeaderError> {
    let (command, summed_len) = parse_command(plain)?;
    let (summed, rest) = plain.split_at_checked(summed_len).ok_or(HeaderError::Short)?;
    let sum = rest.first_chunk().ok_or(HeaderError::Short)?;
    if fnv1a(summed).to_be_bytes() != *sum {
        return Err(HeaderError::Sum);
    }
    let (&[version, .., options, security, _, _], _) =
        plain.split_first_chunk::<FIXED_PLAIN_LEN>().ok_or(HeaderError::Short)?;
    if version != VERSION {
        return Err(HeaderError::Version { found: version });
    }
    let found = security & 15;
    let security = Security::from_wire(found).ok_or(HeaderError::Security { found })?;
    let options = Options::from_bits(options);
    if options.contains(Options::PADDING) && !options.contains(Options::MASKING) {
        return Err(HeaderError::PaddingWithoutMasking);
    }
    Ok(Request { secrets, options, security, command })
}

/// The command, and how many bytes the sum is made of: it stands behind them.
pub(crate) fn parse_command(plain: &[u8]) -> Result<(Command, usize), HeaderError> {
    let (&[.., padding_and_security, _, command], rest) =
        plain.split_first_chunk::<FIXED_PLAIN_LEN>().ok_or(HeaderError::Short)?;
    let (command, target_len) = match command {
        TCP => Target::decode(rest).map(|(target, used)| (Command::Tcp(target), used)),
        UDP => Target::decode(rest).map(|(target, used)| (Command::Udp(target), used)),
        MUX => Ok((Command::Mux, 0)),
        found => return Err(HeaderError::Command { found }),
    }?;
    Ok((command, FIXED_PLAIN_LEN + target_len + usize::from(padding_and_security >> 4)))
}

/// Why a request is refused. Variants up to [`HeaderError::Tag`] may be anybody's doing; behind the others
/// stands somebody who knows a user's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// No VMess at all, an id we do not have, or VMess from before AEAD.
    #[error(
        "no user has this id, or the client uses the old header (alterId above 0), or it does not speak VMess"
    )]
    UnknownUser,
    /// A right id and a wrong clock: the client's or ours.
    #[error(
        "the client's clock is {} s {} ours, at most {MAX_CLOCK_SKEW_SECS} s are allowed: set both clocks right",
        .seconds.unsigned_abs(), if *.seconds < 0 { "behind" } else { "ahead of" }
    )]
    ClockSkew {
        /// The client's clock minus ours.
        seconds: i64,
    },
    /// Seen before: somebody replays what he has recorded, or a client uses its random numbers twice.
    #[error("this opening, or its key, was used before: it is a replay")]
    Replay,
    /// From before our start, or from before our clock ran back: it cannot be told from a replay.
    #[error(
        "this opening is dated before this server began to remember openings, so it may be a replay; or the client's clock \
         is late, then it is served once that clock shows a later time than the server's start"
    )]
    Forgotten,
    /// Too many openings in the last minutes: our limit.
    #[error("too many openings to remember, at most {} in about 120 s", crate::MAX_REPLAY_ENTRIES)]
    ReplayFull,
    /// Damaged, or the auth ID of another opening.
    #[error("the header does not open: it is damaged, or made from pieces of another")]
    Tag,
    /// The client's mistake.
    #[error("the header has {found} bytes, at most {MAX_HEADER_LEN} are allowed")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// The client's mistake.
    #[error("the header ends too early")]
    Short,
    /// The client's mistake.
    #[error("the header's checksum is wrong")]
    Sum,
    /// The client's mistake.
    #[error("VMess version {found}, expected {VERSION}")]
    Version {
        /// What stood there.
        found: u8,
    },
    /// The client uses a security we do not have, or none that exists.
    #[error(
        "security {found} is none of 3 (aes-128-gcm), 4 (chacha20-poly1305) and 5 (none){}",
        if *.found == 1 { ": aes-128-cfb is not supported, set the client's security to auto" } else { "" }
    )]
    Security {
        /// What stood there.
        found: u8,
    },
    /// The client's mistake.
    #[error("command {found} is none of 1 (TCP), 2 (UDP) and 3 (mux)")]
    Command {
        /// What stood there.
        found: u8,
    },
    /// The client's mistake; V2Ray refuses it too.
    #[error("the options ask for padding without masking")]
    PaddingWithoutMasking,
    /// The client's mistake.
    #[error("bad target")]
    Target(#[from] TargetError),
    /// Our own failure.
    #[error("cannot open the header")]
    Crypto(#[from] CryptoError),
}

impl From<Refused> for HeaderError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Seen => Self::Replay,
            Refused::Forgotten => Self::Forgotten,
            Refused::Full => Self::ReplayFull,
        }
    }
}

#[cfg(test)]
mod tests;
