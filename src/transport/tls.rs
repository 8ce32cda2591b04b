//! TLS as bytes in, bytes out: rustls without its I/O, so that nothing is buffered while a session is idle and
//! nothing can be lost when a read is abandoned.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::{CertificateDer, ServerName},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadEarlyData, UnbufferedConnectionCommon,
        UnbufferedStatus,
    },
};

/// Bytes that sealing adds to one record, at most: header 5, content type 1, tag 16.
const RECORD_OVERHEAD: usize = 22;

/// The most plaintext of one record (RFC 8446 section 5.1).
const RECORD_PLAINTEXT: usize = 16 * 1024;

/// One TLS connection.
pub struct Tls {
    side: Side,
    /// The start of a record whose rest has not come yet: at most one record.
    carry: Vec<u8>,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What [`Tls::open`] made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How many bytes of the input it took.
    pub used: usize,
    /// The peer said that nothing more follows (close_notify).
    pub closed: bool,
}

impl Tls {
    /// A client's connection; its first flight comes out of the first [`Tls::open`].
    ///
    /// # Errors
    /// When the configuration cannot make one.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self { side: Side::Client(Box::new(connection)), carry: Vec::new() })
    }

    /// A server's connection.
    ///
    /// # Errors
    /// When the configuration cannot make one.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { side: Side::Server(Box::new(connection)), carry: Vec::new() })
    }

    /// Whether the handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        match &self.side {
            Side::Client(connection) => connection.is_handshaking(),
            Side::Server(connection) => connection.is_handshaking(),
        }
    }

    /// The protocol agreed on by ALPN, if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Client(connection) => connection.alpn_protocol(),
            Side::Server(connection) => connection.alpn_protocol(),
        }
    }

    /// The version agreed on.
    pub fn version(&self) -> Option<rustls::ProtocolVersion> {
        match &self.side {
            Side::Client(connection) => connection.protocol_version(),
            Side::Server(connection) => connection.protocol_version(),
        }
    }

    /// The cipher agreed on.
    pub fn cipher_suite(&self) -> Option<rustls::CipherSuite> {
        let suite = match &self.side {
            Side::Client(connection) => connection.negotiated_cipher_suite(),
            Side::Server(connection) => connection.negotiated_cipher_suite(),
        };
        suite.map(|suite| suite.suite())
    }

    /// The peer's chain, its own certificate first.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        let chain = match &self.side {
            Side::Client(connection) => connection.peer_certificates(),
            Side::Server(connection) => connection.peer_certificates(),
        };
        chain.unwrap_or_default()
    }

    /// Appends a client's first flight to `out`. Whether data may go along with it, through [`Tls::seal_early`], which
    /// has to be called then.
    ///
    /// # Errors
    /// When TLS cannot begin.
    pub fn begin(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let Side::Client(connection) = &mut self.side else { return Ok(false) };
        loop {
            match connection.process_tls_records(&mut []).state? {
                ConnectionState::EncodeTlsData(data) => drop(encode(data, out)),
                ConnectionState::TransmitTlsData(mut transmit) => {
                    let may = transmit.may_encrypt_early_data().is_some();
                    if !may {
                        transmit.done();
                    }
                    return Ok(may);
                }
                _ => return Ok(false),
            }
        }
    }

    /// Appends as much of the front of `plain` to `out` as one record holds and the server is known to take behind a first
    /// flight; returns how much that is. Whether it was accepted shows in the client's last flight: see
    /// [`accepts_early_data`].
    pub fn seal_early(&mut self, plain: &[u8], out: &mut Vec<u8>) -> usize {
        let Side::Client(connection) = &mut self.side else { return 0 };
        let Ok(ConnectionState::TransmitTlsData(mut transmit)) =
            connection.process_tls_records(&mut []).state
        else {
            return 0;
        };
        let start = out.len();
        let first = &plain[..plain.len().min(RECORD_PLAINTEXT)];
        out.resize(start + first.len() + RECORD_OVERHEAD, 0);
        let early = transmit.may_encrypt_early_data();
        let sealed = early.and_then(|mut early| early.encrypt(first, &mut out[start..]).ok()).unwrap_or(0);
        out.truncate(start + sealed);
        transmit.done();
        sealed.saturating_sub(RECORD_OVERHEAD)
    }

    /// The start of an incomplete record, kept from the last read.
    pub fn carry(&mut self) -> &mut Vec<u8> {
        &mut self.carry
    }

    /// Opens every whole record at the front of `raw`, hands the plaintext to `deliver` in order, and appends to
    /// `replies` what TLS itself has to say (handshake flights, key updates, an alert when it fails).
    ///
    /// # Errors
    /// When the peer broke TLS; what came before has been delivered.
    pub fn open(
        &mut self,
        raw: &mut [u8],
        deliver: &mut dyn FnMut(&[u8]),
        replies: &mut Vec<u8>,
    ) -> Result<Opened, Error> {
        match &mut self.side {
            Side::Client(connection) => open(&mut ***connection, raw, deliver, replies),
            Side::Server(connection) => open(&mut ***connection, raw, deliver, replies),
        }
    }

    /// How many bytes `pieces` pieces of `bytes` bytes in all may need when sealed.
    pub fn sealed_len(bytes: usize, pieces: usize) -> usize {
        bytes + RECORD_OVERHEAD * (pieces + bytes / RECORD_PLAINTEXT + 1) + KEY_UPDATE
    }

    /// Seals `pieces` into `out`, which has room for [`Tls::sealed_len`]; a piece of at most 16,384 bytes becomes
    /// one record. Returns how many bytes it wrote.
    ///
    /// # Errors
    /// When the connection may not send any more.
    pub fn seal<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]>,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        match &mut self.side {
            Side::Client(connection) => seal(&mut ***connection, pieces, out),
            Side::Server(connection) => seal(&mut ***connection, pieces, out),
        }
    }

    /// Appends `plain`, sealed, to `out`. For handshakes and control frames.
    ///
    /// # Errors
    /// As [`Tls::seal`].
    pub fn seal_onto(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let start = out.len();
        out.resize(start + Self::sealed_len(plain.len(), 1), 0);
        let sealed = self.seal(std::iter::once(plain), &mut out[start..]);
        out.truncate(start + sealed.as_ref().map_or(0, |&n| n));
        sealed.map(|_| ())
    }

    /// Appends a close_notify alert to `out`: nothing more will be sent.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        match &mut self.side {
            Side::Client(connection) => close_notify(&mut ***connection, out),
            Side::Server(connection) => close_notify(&mut ***connection, out),
        }
    }
}

/// Room for a key update of our own, which rustls may put in front of data.
const KEY_UPDATE: usize = 64;

/// Whether a client's last flight says that its early data was accepted: only then it begins with `EndOfEarlyData`
/// (RFC 8446 section 4.5), whose record has a length that no other has: a header of 4 bytes, the type, a tag.
/// rustls's unbuffered connection does not tell.
pub(super) fn accepts_early_data(flight: &[u8]) -> bool {
    let mut rest = flight;
    while let [kind, _, _, high, low, behind @ ..] = rest {
        let length = u16::from_be_bytes([*high, *low]);
        if *kind == APPLICATION_DATA {
            return length == END_OF_EARLY_DATA;
        }
        rest = behind.get(usize::from(length)..).unwrap_or_default();
    }
    false
}

/// The type that every encrypted record shows (RFC 8446 section 5.2).
const APPLICATION_DATA: u8 = 23;
const END_OF_EARLY_DATA: u16 = 4 + 1 + 16;

/// Nothing can be sent any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The peer's bytes broke TLS earlier.
    #[error(transparent)]
    Tls(#[from] Error),
    /// Our buffer was too small, or the connection is closed.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// The handshake is not over.
    #[error("TLS cannot send yet")]
    NotReady,
}

/// What both sides' connections can do, which rustls offers only on each of them.
trait Process<D> {
    fn process<'c, 'i>(&'c mut self, raw: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>;

    fn read_early(early: ReadEarlyData<'_, '_, D>, deliver: &mut dyn FnMut(&[u8])) -> Result<(), Error>;
}

impl Process<ClientConnectionData> for UnbufferedConnectionCommon<ClientConnectionData> {
    fn process<'c, 'i>(&'c mut self, raw: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(raw)
    }

    /// No client gets any.
    fn read_early(
        _: ReadEarlyData<'_, '_, ClientConnectionData>,
        _: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl Process<ServerConnectionData> for UnbufferedConnectionCommon<ServerConnectionData> {
    fn process<'c, 'i>(&'c mut self, raw: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(raw)
    }

    fn read_early(
        mut early: ReadEarlyData<'_, '_, ServerConnectionData>,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        while let Some(record) = early.next_record() {
            deliver(record?.payload);
        }
        Ok(())
    }
}

fn open<D, P: Process<D>>(
    connection: &mut P,
    raw: &mut [u8],
    deliver: &mut dyn FnMut(&[u8]),
    replies: &mut Vec<u8>,
) -> Result<Opened, Error> {
    let mut opened = Opened { used: 0, closed: false };
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut raw[opened.used..]);
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                if !matches!(error, Error::AlertReceived(_)) {
                    queue_last_words(connection, replies);
                }
                return Err(error);
            }
        };
        let more = match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    deliver(record?.payload);
                }
                true
            }
            // It is the server that decides what to make of it: see `Channel::handshake`.
            ConnectionState::ReadEarlyData(early) => {
                P::read_early(early, deliver)?;
                true
            }
            ConnectionState::EncodeTlsData(data) => encode(data, replies),
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                true
            }
            ConnectionState::PeerClosed => {
                opened.closed = true;
                true
            }
            // Waiting for bytes, or ready to send: nothing more to open.
            _ => false,
        };
        opened.used += discard;
        if !more {
            return Ok(opened);
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        out.resize(start + needed.required_size, 0);
        let written = data.encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
    true
}

/// After an error that it found itself rustls still wants to say why, behind what it had to say before. Asked for more
/// than that, it panics.
fn queue_last_words<D>(connection: &mut impl Process<D>, out: &mut Vec<u8>) {
    for _ in 0..LAST_WORDS {
        let Ok(ConnectionState::EncodeTlsData(data)) = connection.process(&mut []).state else { return };
        let start = out.len();
        encode(data, out);
        if is_alert(&out[start..]) {
            return;
        }
    }
}

/// The most messages that are sent after an error: what was on its way, and the alert.
const LAST_WORDS: usize = 16;

/// Whether a record is an alert: by its type, or, where TLS 1.3 hides that, by its length, which no message of a
/// handshake has: two bytes, the type, a tag (RFC 8446 sections 5.2 and 6).
fn is_alert(record: &[u8]) -> bool {
    matches!(record, [ALERT, ..] | [APPLICATION_DATA, _, _, 0, ENCRYPTED_ALERT, ..])
}

const ALERT: u8 = 21;
const ENCRYPTED_ALERT: u8 = 2 + 1 + 16;

fn seal<'p, D>(
    connection: &mut impl Process<D>,
    pieces: impl Iterator<Item = &'p [u8]>,
    out: &mut [u8],
) -> Result<usize, SealError> {
    let mut written = 0;
    loop {
        match connection.process(&mut []).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                for piece in pieces {
                    written += traffic.encrypt(piece, &mut out[written..])?;
                }
                return Ok(written);
            }
            ConnectionState::EncodeTlsData(mut data) => {
                written += data.encode(&mut out[written..]).map_err(|_| SealError::NotReady)?;
            }
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            ConnectionState::PeerClosed => {}
            _ => return Err(SealError::NotReady),
        }
    }
}

fn close_notify<D>(connection: &mut impl Process<D>, out: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = connection.process(&mut []).state {
        let start = out.len();
        out.resize(start + RECORD_OVERHEAD + KEY_UPDATE, 0);
        let written = traffic.queue_close_notify(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}
