//! From the socket to stream bytes: one read, opened and deframed where it lies.

use std::{
    io::{self, IoSliceMut},
    ops::Range,
};

use tokio::time::Instant;
use wsray_ws::{Control, End, PingQueue, Role};

use super::{Channel, ChannelEnd, Due, Goodbye, Incoming, mask_key};
use crate::{
    stream::{Batch, SMALL_BYTES},
    transport::{browser::end_behind_tab, tls::Tls},
};

impl Channel {
    /// One read from the socket, decrypted and deframed; `None` when it held no stream bytes.
    pub(super) fn try_receive(&mut self, room: usize, due: Due) -> io::Result<Option<Incoming>> {
        let carried = self.carry.len();
        let tls_carried = self.tls.as_mut().map_or(0, |tls| tls.carry().len());
        let carried_in_all = carried + tls_carried;
        let least = if carried_in_all > CARRY_IN_SMALL { carried_in_all + SMALL_BYTES } else { SMALL_BYTES };
        let bulk = if self.bulk { self.pool.bulk_bytes() } else { 0 };
        let mut batch = self.pool.batch(least.max(bulk));
        let last = batch.capacity().min(room.max(carried + SMALL_BYTES));
        let fresh = if self.tls.is_some() {
            self.receive_tls(&mut batch, carried, last, due)?
        } else {
            let read = self.receive_raw(&mut batch.bytes()[carried..last], due)?;
            carried..carried + read
        };
        Ok(self.deframe(batch, fresh))
    }

    /// Reads from the socket into `space`; notes the end.
    fn receive_raw(&mut self, space: &mut [u8], due: Due) -> io::Result<usize> {
        let slots = &mut [IoSliceMut::new(space)];
        let read = match due {
            Due::Readable => self.socket.try_read(slots)?,
            Due::Rested => self.socket.read_now(slots)?,
        };
        self.pace.read(read, &self.socket);
        if read == 0 {
            self.end = Some(ChannelEnd::Eof);
        } else if let Some(ws) = &mut self.ws {
            ws.heartbeat.heard();
        }
        self.bulk = if self.bulk { read > SMALL_BYTES } else { read == space.len() };
        Ok(read)
    }

    /// Reads records and puts their plaintext into `batch` from `start` on.
    fn receive_tls(
        &mut self,
        batch: &mut Batch,
        start: usize,
        last: usize,
        due: Due,
    ) -> io::Result<Range<usize>> {
        let Some(mut tls) = self.tls.take() else { return Ok(start..start) };
        let received = self.receive_records(&mut tls, batch, start, last, due);
        self.tls = Some(tls);
        received
    }

    fn receive_records(
        &mut self,
        tls: &mut Tls,
        batch: &mut Batch,
        start: usize,
        last: usize,
        due: Due,
    ) -> io::Result<Range<usize>> {
        let mut raw = self.pool.batch(last);
        let carried = tls.carry().len();
        // Plaintext is shorter than its records, so what fits here fits behind `start` in a buffer of equal size.
        let space = carried..(last - start).min(raw.capacity());
        let read = self.receive_raw(&mut raw.bytes()[space], due)?;
        let records = &mut raw.bytes()[..carried + read];
        records[..carried].copy_from_slice(tls.carry());
        tls.carry().clear();
        let mut at = start;
        let plain = batch.bytes();
        let mut deliver = |piece: &[u8]| {
            plain[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        };
        match tls.open(records, &mut deliver, &mut self.control) {
            Ok(opened) => {
                *tls.carry() = records[opened.used..].to_vec();
                if opened.closed {
                    self.end = Some(ChannelEnd::CloseNotify);
                }
            }
            Err(error) => self.end = Some(ChannelEnd::Broken { layer: "TLS", reason: error.to_string() }),
        }
        Ok(start..at)
    }

    /// Deframes `fresh` and puts the carried stream bytes in front of it.
    fn deframe(&mut self, mut batch: Batch, fresh: Range<usize>) -> Option<Incoming> {
        let stream = match &mut self.ws {
            None => fresh,
            Some(ws) => {
                let mut pings = PingQueue::new();
                let decoded = ws.decode(&mut batch.bytes()[fresh.clone()], &mut pings);
                let role = ws.role;
                if let Some(end) = decoded.end {
                    self.end = Some(match end {
                        End::Close(code) if ws.tab.is_some() => end_behind_tab(code),
                        End::Close(code) => ChannelEnd::Close(code),
                        End::Violation(violation) => {
                            self.queue_goodbye(Some(violation.close_code()));
                            ChannelEnd::Broken { layer: "WebSocket", reason: violation.to_string() }
                        }
                    });
                }
                self.answer(&mut pings, role);
                fresh.start + decoded.payload.start..fresh.start + decoded.payload.end
            }
        };
        if stream.is_empty() {
            return None;
        }
        let start = stream.start - self.carry.len();
        batch.bytes()[start..stream.start].copy_from_slice(&self.carry);
        self.carry = Vec::new();
        Some(Incoming { batch, stream: start..stream.end })
    }

    /// As much as a buffer holds of what came behind the handshake; the rest waits its turn.
    pub(super) fn deframe_ahead(&mut self, mut ahead: Vec<u8>, room: usize) -> Option<Incoming> {
        let carried = self.carry.len();
        let mut batch = self.pool.batch(carried + ahead.len());
        let now = ahead.len().min(batch.capacity() - carried).min(room);
        batch.bytes()[carried..carried + now].copy_from_slice(&ahead[..now]);
        ahead.drain(..now);
        self.ahead = ahead;
        self.deframe(batch, carried..carried + now)
    }

    fn answer(&mut self, pings: &mut PingQueue, role: Role) {
        if let Some(ws) = self.ws.as_mut().filter(|_| !pings.is_empty()) {
            ws.heartbeat.answered(Instant::now());
        }
        while let Some(payload) = pings.pop() {
            if self.control.len() > MAX_CONTROL_BYTES || self.goodbye != Goodbye::NotSaid {
                return;
            }
            let mut frame = Vec::new();
            wsray_ws::control(Control::Pong, payload.as_bytes(), mask_key(role), &mut frame);
            let _ = self.queue_wire(&frame);
        }
    }
}

/// More carried bytes than this do not leave enough of a small buffer for new ones.
const CARRY_IN_SMALL: usize = 1024;

/// Answers to pings waiting to be sent, in bytes; more pings than that go unanswered.
pub(super) const MAX_CONTROL_BYTES: usize = 16 * 1024;
