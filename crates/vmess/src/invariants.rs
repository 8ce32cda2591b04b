//! What must hold for any bytes: each function takes some and panics where it does not hold. The unit tests
//! and the fuzz targets call the same functions.
//!
//! The bytes come from a fuzzer or a test, never from a peer.

#![expect(clippy::missing_panics_doc, reason = "panicking is what they are for")]

mod body;
mod mux;
mod packet_addr;
mod replay;

pub use body::{body_opens_alike_however_cut, sealed_body_opens_to_what_was_sealed};
pub use mux::mux_frames_read_alike_however_cut;
pub use packet_addr::packet_addresses_come_back;
pub use replay::replay_agrees_with_a_naive_model;

use crate::{
    Address, CmdKey, Command, HeaderEntropy, HeaderError, Options, Replay, Request, RequestOpener, Secrets,
    Security, Step, Target, UserId, UserIndex, Users, header, open_response, seal_request, seal_response,
};

/// Bytes to make decisions from; zeros behind the end.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        for (to, from) in array.iter_mut().zip(self.take(N)) {
            *to = *from;
        }
        array
    }

    /// The next bytes, up to `len`.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        usize::from(u16::from_be_bytes(self.array())) % limit.max(1)
    }

    /// Any session that [`Request`] can hold.
    fn request(&mut self) -> Request {
        let security = [Security::Aes128Gcm, Security::ChaCha20Poly1305, Security::None][self.below(3)];
        let mut options = Options::from_bits(self.byte());
        if options.contains(Options::PADDING) {
            options = options | Options::MASKING;
        }
        let target = Target { address: Address::Ip([127, 0, 0, 1].into()), port: 80 };
        let command =
            [Command::Tcp(target.clone()), Command::Udp(target), Command::Mux][self.below(3)].clone();
        let [response_auth, body_key @ ..] = self.array::<17>();
        Request {
            secrets: Secrets { body_key, body_iv: self.array(), response_auth },
            options,
            security,
            command,
        }
    }
}

const NOW: u64 = 1_700_000_000;

fn id() -> UserId {
    UserId::from_bytes([0x5a; 16])
}

/// Opens `input` byte by byte; what came of it, and after how many bytes.
fn open_bytewise(input: &[u8], users: &Users) -> (usize, Result<Step<(UserIndex, Request)>, HeaderError>) {
    let (mut opener, mut replay) = (RequestOpener::new(), Replay::new());
    for end in 0..input.len() {
        let step = opener.open(&input[..end], users, &mut replay, NOW);
        if step != Ok(Step::NeedMore) {
            return (end, step);
        }
    }
    (input.len(), opener.open(input, users, &mut replay, NOW))
}

/// Any bytes as a request, and any bytes sealed as a header with a user's key: parsing never panics, takes
/// no more than there is, gives the same in one piece and byte by byte, and what it gives can be sealed and
/// parsed again to the same.
pub fn header_opens_alike_however_cut(data: &[u8]) {
    let (cmd_key, users) = (CmdKey::new(&id()), Users::new([UserId::from_bytes([1; 16]), id()]));
    let mut source = Source(data);
    let kind = source.byte();
    let mut plain = source.0.to_vec();
    if let (1, Ok((_, summed_len))) = (kind & 1, header::parse_command(&plain)) {
        plain.resize(plain.len().max(summed_len), 0);
        let sum = crate::kdf::fnv1a(&plain[..summed_len]).to_be_bytes();
        plain.splice(summed_len..summed_len, sum);
    }
    let auth_id = cmd_key.auth_id(NOW, [1, 2, 3, 4]);
    let sealed = header::seal_plain(&cmd_key, &plain, auth_id, [5; 8]).unwrap_or_default();
    for input in [data, &sealed, &[&auth_id, data].concat()] {
        let whole = crate::open_request(input, &users, &mut Replay::new(), NOW);
        let (_, bytewise) = open_bytewise(input, &users);
        assert_eq!(whole, bytewise, "cutting changed the result");
        if let Ok(Step::Done { used, value: (user, request) }) = whole {
            assert!(used <= input.len() && user == UserIndex(1), "wrong user or length");
            request_survives(&request, &cmd_key, &users, data);
        }
    }
}

/// Any request that can be made parses to itself.
pub fn sealed_request_opens_to_itself(data: &[u8]) {
    let (cmd_key, users) = (CmdKey::new(&id()), Users::new([UserId::from_bytes([1; 16]), id()]));
    let mut source = Source(data);
    let mut request = source.request();
    if let (Command::Tcp(target), Ok(name)) = (&mut request.command, str::from_utf8(source.take(255))) {
        target.address = name.parse().unwrap_or(target.address.clone());
    }
    request_survives(&request, &cmd_key, &users, source.0);
}

fn request_survives(request: &Request, cmd_key: &CmdKey, users: &Users, random: &[u8]) {
    let entropy = HeaderEntropy::from_random(Source(random).array());
    let sealed = seal_request(cmd_key, request, &entropy, NOW).unwrap_or_default();
    let (at, again) = open_bytewise(&sealed, users);
    assert_eq!(at, sealed.len(), "opened before the end");
    let value = (UserIndex(1), request.clone());
    assert_eq!(again, Ok(Step::Done { used: sealed.len(), value }), "sealing and opening is no identity");
}

/// Any bytes as a response, and a right one damaged at any place: it never panics, takes nothing before the
/// whole is there, and a damaged one is refused.
pub fn response_opens_only_whole_and_unchanged(data: &[u8]) {
    let mut source = Source(data);
    let secrets = source.request().secrets;
    let opened = open_response(data, &secrets);
    assert!(!matches!(opened, Ok(Step::Done { .. })), "bytes made without the key opened");
    let Ok(mut sealed) = seal_response(&secrets, 0) else { return };
    for cut in 0..sealed.len() {
        assert_eq!(open_response(&sealed[..cut], &secrets), Ok(Step::NeedMore), "cut at {cut}");
    }
    assert!(matches!(open_response(&sealed, &secrets), Ok(Step::Done { used: 38, .. })), "does not open");
    sealed[source.below(38)] ^= source.byte().max(1);
    assert!(open_response(&sealed, &secrets).is_err(), "a damaged response opened");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn headers_of_any_bytes_hold(data in vec(any::<u8>(), 0..200)) {
            header_opens_alike_however_cut(&data);
            sealed_request_opens_to_itself(&data);
        }

        /// A plaintext that is right more often than not.
        #[test]
        fn headers_that_are_nearly_right_hold(
            mut data in vec(any::<u8>(), 42..120),
            security in 0_u8..7,
            command in 0_u8..5,
            kind in 0_u8..5,
            len in 0_u8..30,
        ) {
            data[0] |= 1;
            data[1] = 1;
            data[36] = data[36] & 0xf0 | security;
            data[38] = command;
            data[41] = kind;
            if let Some(first) = data.get_mut(42) {
                *first = len;
            }
            header_opens_alike_however_cut(&data);
        }

        #[test]
        fn responses_hold(data in vec(any::<u8>(), 0..100)) {
            response_opens_only_whole_and_unchanged(&data);
        }

        #[test]
        fn bodies_hold(data in vec(any::<u8>(), 0..800)) {
            body_opens_alike_however_cut(&data);
            sealed_body_opens_to_what_was_sealed(&data);
        }

        #[test]
        fn mux_frames_hold(data in vec(any::<u8>(), 0..300)) {
            mux_frames_read_alike_however_cut(&data);
        }

        #[test]
        fn packet_addresses_hold(data in vec(any::<u8>(), 0..40), kind in 0_u8..4) {
            packet_addresses_come_back(&data);
            packet_addresses_come_back(&[&[kind], &data[..]].concat());
        }

        /// Frames that are right more often than not.
        #[test]
        fn mux_frames_that_are_nearly_right_hold(
            seed in any::<u8>(),
            frames in vec((0_usize..40, 0_u8..6, 0_u8..4, 0_u8..4, 0_u8..5, any::<u8>(), 0_u8..20), 1..12),
        ) {
            let mut data = vec![seed];
            for (meta, status, option, network, kind, filler, length) in frames {
                data.extend([0, u8::try_from(4 + meta).unwrap(), 0, filler, status, option]);
                let rest = [&[network, 0, 80, kind, 3][..], &[b'a'; 40]].concat();
                data.extend(&rest[..meta]);
                if option & 1 == 1 {
                    data.extend([0, length]);
                    data.extend(vec![filler; length.into()]);
                }
            }
            mux_frames_read_alike_however_cut(&data);
        }

        #[test]
        fn replay_memory_holds(data in vec(any::<u8>(), 0..800)) {
            replay_agrees_with_a_naive_model(&data);
        }
    }
}
