//! What an echo peer answers: bytes in, bytes out.

use std::io;

use wsray_ws::{
    Control, Event, FrameReader, Kind, Limits, MAX_HEADER_BYTES, Role, TextPolicy, Violation, close_payload,
    control, seal,
};

/// The longest message that is echoed. The largest of the cases (9.1.6, 9.2.6) have 16 MiB.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// RFC 6455 section 7.4.1: the message is too big to process.
const TOO_BIG: u16 = 1009;

/// FIN and opcode 1, which the proxy never sends.
const FINAL_TEXT: u8 = 0x81;

/// One connection's echo.
pub struct Echo {
    reader: FrameReader,
    role: Role,
    /// The open message, behind room for its header.
    message: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Our close frame is written; nothing follows.
    Closing,
}

impl Echo {
    /// An echo at the start of a connection.
    pub fn new(role: Role) -> Self {
        let limits = Limits { max_idle_frames: 100_000 };
        let reader = FrameReader::new(role, TextPolicy::Validate, limits);
        Self { reader, role, message: vec![0; MAX_HEADER_BYTES], state: State::Open }
    }

    /// Whether our close frame has been written.
    pub fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// Takes what was received and appends the answers to `out`. Whole messages go through `on_message`, which
    /// says whether to echo them.
    ///
    /// # Errors
    /// When there is no randomness for a masking key.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        mut on_message: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<()> {
        let mut at = 0;
        while self.state == State::Open
            && let Some(event) = self.reader.next(input, &mut at)
        {
            match event {
                Event::Data { range, kind, ends_message } => {
                    self.message.extend_from_slice(&input[range]);
                    if self.message.len() - MAX_HEADER_BYTES > MAX_MESSAGE_BYTES {
                        self.close(Some(TOO_BIG), out)?;
                    } else if ends_message {
                        if on_message(&self.message[MAX_HEADER_BYTES..]) {
                            self.echo(kind, out)?;
                        }
                        self.message.truncate(MAX_HEADER_BYTES);
                    }
                }
                Event::Ping(payload) => control(Control::Pong, payload.as_bytes(), self.key()?, out),
                Event::Pong(_) => {}
                Event::Close(code) => self.close(code, out)?,
                Event::Violation(violation) => self.close(Some(Violation::close_code(violation)), out)?,
            }
        }
        Ok(())
    }

    /// Writes our close frame.
    ///
    /// # Errors
    /// When there is no randomness for a masking key.
    pub fn close(&mut self, code: Option<u16>, out: &mut Vec<u8>) -> io::Result<()> {
        self.state = State::Closing;
        control(Control::Close, &close_payload(code), self.key()?, out);
        Ok(())
    }

    /// Writes the message back as it is.
    fn echo(&mut self, kind: Kind, out: &mut Vec<u8>) -> io::Result<()> {
        let key = self.key()?;
        let end = self.message.len();
        let wire = seal(&mut self.message, MAX_HEADER_BYTES..end, key);
        if kind == Kind::Text {
            self.message[wire.start] = FINAL_TEXT;
        }
        out.extend_from_slice(&self.message[wire]);
        Ok(())
    }

    fn key(&self) -> io::Result<Option<[u8; 4]>> {
        if self.role == Role::Server {
            return Ok(None);
        }
        let mut key = [0; 4];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Some(key))
    }
}
