//! A channel before frames: what handshakes read and write, byte by byte.

use std::io;

use rustls::pki_types::CertificateDer;

use super::{Begun, Channel, ChannelEnd, snug};
use crate::transport::tls::{Opened, Tls, accepts_early_data};

impl Channel {
    /// Makes this end of a TLS connection and shakes hands.
    ///
    /// # Errors
    /// When the socket fails or the peer breaks TLS; an alert has been sent then.
    pub async fn handshake(&mut self, tls: Tls) -> Result<(), HandshakeError> {
        self.shake(tls, Vec::new()).await.map(|_| ())
    }

    /// Begins a client's handshake. Either it runs to its end, or what is sent first may go along with its first flight:
    /// then it waits for [`Channel::handshake_with`].
    ///
    /// # Errors
    /// As [`Channel::handshake`].
    pub async fn begin_handshake(&mut self, mut tls: Tls) -> Result<(), HandshakeError> {
        let mut flight = Vec::new();
        if tls.begin(&mut flight)? {
            self.begun = Some(Box::new(Begun { tls, flight }));
            return Ok(());
        }
        self.shake(tls, flight).await.map(|_| ())
    }

    /// Ends a handshake that waits, with `first` in its first flight; returns how many of these bytes the server has
    /// taken. The rest has to be sent.
    ///
    /// # Errors
    /// As [`Channel::handshake`].
    pub async fn handshake_with(&mut self, first: &[u8]) -> Result<usize, HandshakeError> {
        let Some(begun) = self.begun.take() else { return Ok(0) };
        let Begun { mut tls, mut flight } = *begun;
        let sent = tls.seal_early(first, &mut flight);
        Ok(if self.shake(tls, flight).await? { sent } else { 0 })
    }

    /// Sends `flight`, if there is one, and shakes hands; whether early data was accepted.
    async fn shake(&mut self, mut tls: Tls, flight: Vec<u8>) -> Result<bool, HandshakeError> {
        self.socket.write_all(&flight).await?;
        let mut raw = std::mem::take(&mut self.ahead);
        let mut plain = Vec::new();
        let mut accepted = false;
        loop {
            let mut replies = Vec::new();
            let opened = tls.open(&mut raw, &mut |piece| plain.extend_from_slice(piece), &mut replies);
            // The peer's own reason comes first, whether or not it still listens to ours.
            let sent = self.socket.write_all(&replies).await;
            let opened = opened?;
            sent?;
            raw.drain(..opened.used);
            self.note_closed(opened);
            accepted |= !flight.is_empty() && accepts_early_data(&replies);
            // Early data is answered at once, before the client has ended its handshake.
            if !tls.is_handshaking() || !plain.is_empty() {
                break;
            }
            if self.socket.read_some(&mut raw, HANDSHAKE_READ).await? == 0 {
                return Err(HandshakeError::Eof);
            }
        }
        *tls.carry() = snug(raw);
        self.tls = Some(Box::new(tls));
        self.ahead = snug(plain);
        Ok(accepted)
    }

    /// TLS tells of a close_notify once only.
    fn note_closed(&mut self, opened: Opened) {
        if opened.closed {
            self.end = Some(ChannelEnd::CloseNotify);
        }
    }

    /// The protocol that TLS agreed on, if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref().and_then(|tls| tls.alpn())
    }

    /// The version of TLS, if there is TLS.
    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        self.tls.as_ref().and_then(|tls| tls.version())
    }

    /// The cipher that TLS agreed on, if there is TLS.
    pub fn cipher_suite(&self) -> Option<rustls::CipherSuite> {
        self.tls.as_ref().and_then(|tls| tls.cipher_suite())
    }

    /// The server's chain, its own certificate first; empty without TLS.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.tls.as_ref().map_or(&[], |tls| tls.peer_certificates())
    }

    /// Appends what comes next to `bytes`; 0 means the end. Before the upgrade only.
    ///
    /// # Errors
    /// When the socket fails or the peer breaks TLS.
    pub async fn read_some(&mut self, bytes: &mut Vec<u8>) -> Result<usize, HandshakeError> {
        let before = bytes.len();
        if !self.ahead.is_empty() {
            bytes.append(&mut self.ahead);
            self.ahead = Vec::new();
            return Ok(bytes.len() - before);
        }
        if self.end.is_some() {
            return Ok(0);
        }
        let Some(tls) = &mut self.tls else {
            return Ok(self.socket.read_some(bytes, HANDSHAKE_READ).await?);
        };
        loop {
            let mut replies = Vec::new();
            let mut raw = std::mem::take(tls.carry());
            let opened = tls.open(&mut raw, &mut |piece| bytes.extend_from_slice(piece), &mut replies);
            raw.drain(..opened.as_ref().map_or(0, |opened| opened.used));
            *tls.carry() = snug(raw);
            self.socket.write_all(&replies).await?;
            // An error that comes behind bytes comes again at the next call.
            let closed = opened.as_ref().is_ok_and(|opened| opened.closed);
            if closed {
                self.end = Some(ChannelEnd::CloseNotify);
            }
            if bytes.len() > before || closed {
                return Ok(bytes.len() - before);
            }
            opened?;
            if self.socket.read_some(tls.carry(), HANDSHAKE_READ).await? == 0 {
                return Ok(0);
            }
        }
    }

    /// Sends `bytes` as they are, inside TLS if there is one. Before the upgrade only.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let Some(tls) = &mut self.tls else { return Ok(self.socket.write_all(bytes).await?) };
        let mut sealed = Vec::new();
        tls.seal_onto(bytes, &mut sealed).map_err(|error| HandshakeError::Seal(error.to_string()))?;
        Ok(self.socket.write_all(&sealed).await?)
    }

    /// Keeps bytes that were read and belong to what follows. Before the upgrade only.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        self.ahead = snug(bytes);
    }
}

/// How much a handshake reads at once.
const HANDSHAKE_READ: usize = 4 * 1024;

/// A handshake that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer went away in the middle.
    #[error("the connection was closed during the handshake")]
    Eof,
    /// TLS refused.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// TLS cannot send.
    #[error("{0}")]
    Seal(String),
}
