//! What core and page tell each other on the link: lines of words, in binary messages, a line in one or several.
//! Pure.

use std::fmt;

/// What the core tells a tab.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Connect to `url`, and open the tunnel with this number.
    Dial {
        /// The tunnel's number.
        tunnel: u64,
        /// The server's URL, early data included: a secret.
        url: String,
        /// The subprotocol to ask for: early data.
        protocol: Option<String>,
    },
    /// Nobody waits for this tunnel any more.
    Cancel(u64),
    /// Say when you have passed on all of this tunnel's bytes.
    Finish {
        /// The tunnel's number.
        tunnel: u64,
        /// How many there are.
        bytes: u64,
    },
    /// Say that you are awake.
    Ping,
}

impl Command {
    /// The line.
    pub(super) fn to_line(&self) -> String {
        match self {
            Self::Dial { tunnel, url, protocol: None } => format!("dial {tunnel} {url}\n"),
            Self::Dial { tunnel, url, protocol: Some(protocol) } => {
                format!("dial {tunnel} {url} {protocol}\n")
            }
            Self::Cancel(tunnel) => format!("cancel {tunnel}\n"),
            Self::Finish { tunnel, bytes } => format!("finish {tunnel} {bytes}\n"),
            Self::Ping => "ping\n".to_owned(),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial { tunnel, .. } => write!(f, "Dial({tunnel})"),
            Self::Cancel(tunnel) => write!(f, "Cancel({tunnel})"),
            Self::Finish { tunnel, bytes } => write!(f, "Finish({tunnel}, {bytes})"),
            Self::Ping => f.write_str("Ping"),
        }
    }
}

/// What a tab tells the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Always the first.
    Hello {
        /// Of the page; another one is a page from before an update.
        version: u32,
        /// Which browser it is: tabs of one share its limits.
        browser: String,
        /// Who makes a fast sender wait.
        flow: Flow,
    },
    /// It has begun with this tunnel.
    Started(u64),
    /// It is this one's turn: the browser connects to the server.
    Dialling(u64),
    /// The server has answered.
    Opened(u64),
    /// There is no connection to the server.
    Failed {
        /// The tunnel's number.
        tunnel: u64,
        /// What the page found out.
        why: Failure,
    },
    /// It has passed on so many bytes more of this tunnel.
    Passed {
        /// The tunnel's number.
        tunnel: u64,
        /// How many.
        bytes: u64,
    },
    /// It is awake.
    Pong,
    /// The browser is about to freeze it.
    Freeze,
    /// The browser has thawed it.
    Resume,
}

/// Who makes a sender wait that is faster than who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The browser, in both directions: `WebSocketStream`.
    Browser,
    /// We, by counting what the page has passed on. In the other direction a page cannot wait.
    Credit,
}

/// Why there is no connection to the server. A browser tells its pages next to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server answers HTTP in this browser, but refuses this WebSocket.
    Refused,
    /// Not even HTTP works.
    Unreachable,
    /// The page could not find out.
    Unknown,
    /// The browser will not try, such as at a port it blocks.
    Forbidden,
    /// The browser has no WebSocket left for the tunnel itself.
    Full,
}

/// The version of the page that this program serves.
pub(super) const VERSION: u32 = 2;

/// The longest line a page may send.
pub(super) const MAX_LINE_BYTES: usize = 256;

/// The longest name a browser may give itself.
const MAX_BROWSER_BYTES: usize = 64;

impl Report {
    /// Reads a line; `None` when it is none of ours.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().ok();
        Some(match words[..] {
            ["hello", version, browser, flow] if browser.len() <= MAX_BROWSER_BYTES => Self::Hello {
                version: version.parse().ok()?,
                browser: browser.to_owned(),
                flow: match flow {
                    "browser" => Flow::Browser,
                    "credit" => Flow::Credit,
                    _ => return None,
                },
            },
            ["started", tunnel] => Self::Started(number(tunnel)?),
            ["dialling", tunnel] => Self::Dialling(number(tunnel)?),
            ["opened", tunnel] => Self::Opened(number(tunnel)?),
            ["failed", tunnel, why] => Self::Failed {
                tunnel: number(tunnel)?,
                why: match why {
                    "refused" => Failure::Refused,
                    "unreachable" => Failure::Unreachable,
                    "unknown" => Failure::Unknown,
                    "forbidden" => Failure::Forbidden,
                    "full" => Failure::Full,
                    _ => return None,
                },
            },
            ["passed", tunnel, bytes] => Self::Passed { tunnel: number(tunnel)?, bytes: number(bytes)? },
            ["pong"] => Self::Pong,
            ["freeze"] => Self::Freeze,
            ["resume"] => Self::Resume,
            _ => return None,
        })
    }
}

/// Puts lines together that come in pieces.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    begun: Vec<u8>,
}

/// A page sent what no page of ours sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotALine;

impl LineReader {
    /// What the next bytes complete.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Report>, NotALine> {
        let mut reports = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.begun.len() + piece.len() > MAX_LINE_BYTES {
                return Err(NotALine);
            }
            self.begun.extend_from_slice(piece);
            if self.begun.last() == Some(&b'\n') {
                let line = std::str::from_utf8(&self.begun).map_err(|_| NotALine)?;
                reports.push(Report::parse(line).ok_or(NotALine)?);
                self.begun.clear();
            }
        }
        Ok(reports)
    }
}

/// What must hold for anything that a page sends; tests and the fuzz targets call it.
pub mod invariants {
    use super::{LineReader, MAX_LINE_BYTES};

    /// Bytes in pieces of any size give the same reports as the whole, or are refused as it is, and what waits for its end
    /// is no longer than a line.
    ///
    /// # Panics
    /// Where this does not hold.
    pub fn lines_read_alike_however_cut(bytes: &[u8], piece: usize) {
        let whole = LineReader::default().read(bytes);
        let mut reader = LineReader::default();
        let mut reports = Vec::new();
        let mut refused = false;
        for piece in bytes.chunks(piece.max(1)) {
            match reader.read(piece) {
                Ok(more) => reports.extend(more),
                Err(_) => refused = true,
            }
            assert!(reader.begun.len() <= MAX_LINE_BYTES, "holds {} bytes", reader.begun.len());
            if refused {
                break;
            }
        }
        match whole {
            Ok(whole) => assert!(!refused && whole == reports, "{whole:?} became {reports:?}"),
            Err(_) => assert!(refused, "pieces of what is refused became {reports:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lines_of_words() {
        let dial = |protocol: Option<&str>| Command::Dial {
            tunnel: 7,
            url: "wss://example.com/ray".to_owned(),
            protocol: protocol.map(str::to_owned),
        };
        assert_eq!(dial(None).to_line(), "dial 7 wss://example.com/ray\n");
        assert_eq!(dial(Some("QUJD")).to_line(), "dial 7 wss://example.com/ray QUJD\n");
        assert_eq!(Command::Cancel(7).to_line(), "cancel 7\n");
        assert_eq!(Command::Finish { tunnel: 7, bytes: 16_000_123 }.to_line(), "finish 7 16000123\n");
        assert!(!format!("{:?}", dial(Some("QUJD"))).contains("QUJD"), "early data is a secret");
    }

    #[test]
    fn lines_come_in_pieces_of_any_size() {
        let text = b"hello 1 3f2a browser\nstarted 1\nopened 1\nfailed 2 refused\npassed 3 65536\npong\n";
        let whole = LineReader::default().read(text).unwrap();
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[0], Report::Hello { version: 1, browser: "3f2a".to_owned(), flow: Flow::Browser });
        assert_eq!(whole[4], Report::Passed { tunnel: 3, bytes: 65536 });
        for size in 1..text.len() {
            let mut reader = LineReader::default();
            let read: Vec<_> = text.chunks(size).flat_map(|piece| reader.read(piece).unwrap()).collect();
            assert_eq!(read, whole, "{size}");
        }
    }

    #[test]
    fn what_no_page_of_ours_says_is_refused() {
        for text in [
            "\n",
            "open 1\n",
            "opened\n",
            "opened 1 2\n",
            "opened -1\n",
            "opened 18446744073709551616\n",
            "failed 1 because\n",
            "hello 1 x y\n",
            "\u{0}\n",
        ] {
            assert_eq!(LineReader::default().read(text.as_bytes()), Err(NotALine), "{text:?}");
        }
        assert_eq!(LineReader::default().read(b"\xff\n"), Err(NotALine));
    }

    #[test]
    fn endless_line_is_refused_however_it_comes() {
        let mut reader = LineReader::default();
        assert_eq!(reader.read(&[b'a'; MAX_LINE_BYTES]), Ok(Vec::new()));
        assert_eq!(reader.read(b"a"), Err(NotALine));
        assert_eq!(LineReader::default().read(&[b'a'; MAX_LINE_BYTES + 1]), Err(NotALine));
    }
}
