//! Where a request's body ends.

/// How many header-like bytes a chunked body may hold: one chunk's extensions, all trailers.
const MAX_EXTRA_BYTES: u16 = 16 * 1024;

/// Counts the bytes of one request's body as they pass, cut anywhere. The bytes are not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyLimit(Position);

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// More bytes belong to it.
    More,
    /// It is whole: what follows is not for this target.
    Complete,
    /// The client sent bad chunks: give up on both ends.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    Complete,
    Broken,
    /// So many bytes to go, at least one.
    Length(u64),
    /// To the end of the connection.
    Unlimited,
    Chunked(Chunk),
}

/// What comes next in a chunked body. Source: RFC 9112, section 7.1.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chunk {
    /// A digit of the size, after so many of them.
    Size {
        size: u64,
        digits: u8,
    },
    /// Extensions, after so many bytes of them.
    Extension {
        size: u64,
        bytes: u16,
    },
    /// The LF behind the size.
    SizeLf {
        size: u64,
    },
    /// So many bytes of data, at least one.
    Data {
        left: u64,
    },
    /// CR LF behind the data.
    DataCr,
    DataLf,
    /// The beginning of a trailer line, or of the empty line.
    TrailerStart {
        bytes: u16,
    },
    /// Inside a trailer line.
    Trailer {
        bytes: u16,
    },
    /// The LF of a trailer line.
    TrailerLf {
        bytes: u16,
    },
    /// The last LF.
    EndLf,
}

impl BodyLimit {
    /// No body.
    pub fn none() -> Self {
        Self::length(0)
    }

    /// `Content-Length`.
    pub fn length(bytes: u64) -> Self {
        Self(if bytes == 0 { Position::Complete } else { Position::Length(bytes) })
    }

    /// `Transfer-Encoding: chunked`.
    pub fn chunked() -> Self {
        Self(Position::Chunked(Chunk::Size { size: 0, digits: 0 }))
    }

    /// Everything: the request asks for another protocol on this connection.
    pub fn unlimited() -> Self {
        Self(Position::Unlimited)
    }

    /// How far it has come.
    pub fn state(&self) -> BodyState {
        match self.0 {
            Position::Complete => BodyState::Complete,
            Position::Broken => BodyState::Broken,
            Position::Length(_) | Position::Unlimited | Position::Chunked(_) => BodyState::More,
        }
    }

    /// How many of the next bytes of the stream belong to this request. Fewer than there are means that
    /// the body is complete or broken; see [`Self::state`].
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        match &mut self.0 {
            Position::Complete | Position::Broken => 0,
            Position::Unlimited => bytes.len(),
            Position::Length(left) => {
                let taken = at_most(bytes.len(), *left);
                *left -= taken as u64;
                if *left == 0 {
                    self.0 = Position::Complete;
                }
                taken
            }
            Position::Chunked(_) => self.take_chunked(bytes),
        }
    }

    fn take_chunked(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Position::Chunked(chunk) = &self.0
            && let Some(&byte) = bytes.get(at)
        {
            if let Chunk::Data { left } = *chunk {
                let taken = at_most(bytes.len() - at, left);
                at += taken;
                let left = left - taken as u64;
                self.0 = Position::Chunked(if left == 0 { Chunk::DataCr } else { Chunk::Data { left } });
                continue;
            }
            self.0 = chunk.next(byte);
            if self.0 != Position::Broken {
                at += 1;
            }
        }
        at
    }
}

/// The smaller of the two.
fn at_most(bytes: usize, left: u64) -> usize {
    usize::try_from(left).map_or(bytes, |left| left.min(bytes))
}

impl Chunk {
    fn next(&self, byte: u8) -> Position {
        let next = match (self, byte) {
            (&Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                Self::with_digit(size, digits, byte)
            }
            (&Self::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => {
                Some(Self::Extension { size, bytes: 0 })
            }
            (&(Self::Size { size, digits: 1.. } | Self::Extension { size, .. }), b'\r') => {
                Some(Self::SizeLf { size })
            }
            (&Self::Extension { size, bytes }, _) if byte != b'\n' => {
                counted(bytes).map(|bytes| Self::Extension { size, bytes })
            }
            (Self::SizeLf { size: 0 }, b'\n') => Some(Self::TrailerStart { bytes: 0 }),
            (&Self::SizeLf { size }, b'\n') => Some(Self::Data { left: size }),
            (Self::DataCr, b'\r') => Some(Self::DataLf),
            (Self::DataLf, b'\n') => Some(Self::Size { size: 0, digits: 0 }),
            (Self::TrailerStart { .. }, b'\r') => Some(Self::EndLf),
            (&Self::Trailer { bytes }, b'\r') => Some(Self::TrailerLf { bytes }),
            (&(Self::TrailerStart { bytes } | Self::Trailer { bytes }), _) if byte != b'\n' => {
                counted(bytes).map(|bytes| Self::Trailer { bytes })
            }
            (&Self::TrailerLf { bytes }, b'\n') => Some(Self::TrailerStart { bytes }),
            (Self::EndLf, b'\n') => return Position::Complete,
            _ => None,
        };
        next.map_or(Position::Broken, Position::Chunked)
    }

    /// A size of more than 16 digits, zeros in front included, is refused.
    fn with_digit(size: u64, digits: u8, digit: u8) -> Option<Self> {
        let value = char::from(digit).to_digit(16)?;
        (digits < 16).then(|| Self::Size { size: size << 4 | u64::from(value), digits: digits + 1 })
    }
}

fn counted(bytes: u16) -> Option<u16> {
    (bytes < MAX_EXTRA_BYTES).then(|| bytes + 1)
}
