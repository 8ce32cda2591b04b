//! The server's half of the handshake: which request is ours, what early data it brings, and the answer.

use crate::{
    EarlyData, EarlyDataError, EarlyDataPlace, Path,
    early_data::decode,
    http::{MAX_HEAD_BYTES, accept_key, names_token, percent_decode, printable},
    refusal::shown_path,
    request::until_query,
};

pub use crate::{
    refusal::{Refusal, RefusalReason},
    request::{BodyLength, HeadLimits, Request, RequestError, request},
};

/// What every server with early data takes, whatever its `maxEarlyData`: the client's setting rules, and a
/// server's may well be smaller (V2Ray's never looks at the number).
pub const MIN_EARLY_DATA_LIMIT: usize = 8 * 1024;

/// What no server takes, whatever its `maxEarlyData`: nobody has that much in a first write, and the request head
/// is held in memory.
pub const MAX_EARLY_DATA_LIMIT: usize = 64 * 1024;

/// The header in which every client's library can send early data; path mode takes it too.
const PROTOCOL_HEADER: &str = "Sec-WebSocket-Protocol";

/// How much of a header a message shows, in characters.
const SHOWN_CHARS: usize = 60;

/// From this many characters on, base64 where none is expected is taken for early data in messages: a VMess auth ID
/// alone makes 22.
const MIN_LIKELY_EARLY_DATA: usize = 22;

/// A server's options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerOptions {
    /// The path served.
    pub path: Path,
    /// Whether and where early data is taken. Clients without it are served all the same.
    pub early_data: Option<EarlyData>,
}

/// An upgrade that is accepted. Frames follow the answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The 101, byte for byte as V2Ray gives it.
    pub response: Vec<u8>,
    /// The first bytes of the client's stream; empty when it sent none.
    pub early_data: Vec<u8>,
    /// Whether `Sec-WebSocket-Protocol` looks like early data that this server is not set to take. V2Ray upgrades all
    /// the same, and then fails because the stream starts in its middle: a hint for the log when that happens.
    pub looks_like_unread_early_data: bool,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Accepted({} bytes of early data)", self.early_data.len())
    }
}

impl ServerOptions {
    /// The most early data of one request, in bytes: `maxEarlyData`, but at least [`MIN_EARLY_DATA_LIMIT`] and at
    /// most [`MAX_EARLY_DATA_LIMIT`]; 0 when it is off.
    pub fn early_data_limit(&self) -> usize {
        self.early_data.as_ref().map_or(0, |early_data| {
            let max_bytes = usize::try_from(early_data.max_bytes.get()).unwrap_or(MAX_EARLY_DATA_LIMIT);
            max_bytes.clamp(MIN_EARLY_DATA_LIMIT, MAX_EARLY_DATA_LIMIT)
        })
    }

    /// How large a request head may be: 16 KiB, and base64's four thirds of the early data.
    pub fn head_limits(&self) -> HeadLimits {
        HeadLimits { max_bytes: MAX_HEAD_BYTES + self.early_data_limit().div_ceil(3) * 4 }
    }

    /// Decides on a request as V2Ray does: the path first, then the upgrade, then early data.
    ///
    /// `date` is the value of the Date header that refusals carry, in the form of RFC 9110 section 5.6.7.
    ///
    /// # Errors
    /// The refusal, with the bytes to answer and the reason to log.
    pub fn accept(&self, request: &Request, date: &str) -> Result<Accepted, Refusal> {
        self.check(request).map_err(|reason| reason.answer(request, date))
    }

    fn check(&self, request: &Request) -> Result<Accepted, RefusalReason> {
        let behind_path = self.match_path(request)?;
        let key = check_upgrade(request)?;
        let (early_data, echo) = self.early_data(request, behind_path)?;
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            accept_key(key)
        );
        if let Some(protocol) = echo {
            response.extend([PROTOCOL_HEADER, ": ", protocol, "\r\n"]);
        }
        response.push_str("\r\n");
        let looks_like_unread_early_data = echo.is_none() && looks_like_early_data(request);
        Ok(Accepted { response: response.into_bytes(), early_data, looks_like_unread_early_data })
    }

    /// What follows our path in the target, its query left out; always empty but in path mode.
    fn match_path<'a>(&self, request: &'a Request) -> Result<&'a str, RefusalReason> {
        let (target, wanted) = (request.origin_form(), self.path.as_str());
        if self.takes_early_data_in_path() {
            if let Some(rest) = target.strip_prefix(wanted) {
                return Ok(until_query(rest));
            }
        } else if percent_decode(until_query(target).as_bytes()).as_deref() == Some(wanted.as_bytes()) {
            return Ok("");
        } else if wanted.contains('?') {
            return Err(RefusalReason::Unmatchable { wanted: shown_path(wanted) });
        } else if let Some(rest) = until_query(target).strip_prefix(wanted)
            && rest.len() >= MIN_LIKELY_EARLY_DATA
            && decode(rest.as_bytes(), usize::MAX).is_ok()
        {
            return Err(RefusalReason::UnexpectedEarlyData { wanted: shown_path(wanted), extra: rest.len() });
        }
        Err(RefusalReason::Path { found: shown_path(target), wanted: shown_path(wanted) })
    }

    fn takes_early_data_in_path(&self) -> bool {
        matches!(self.early_data, Some(EarlyData { place: EarlyDataPlace::Path, .. }))
    }

    /// The early data, and the `Sec-WebSocket-Protocol` to echo if that is where it was: a browser demands it.
    fn early_data<'a>(
        &self,
        request: &'a Request,
        behind_path: &str,
    ) -> Result<(Vec<u8>, Option<&'a str>), RefusalReason> {
        let limit = self.early_data_limit();
        let Some(EarlyData { place, .. }) = &self.early_data else { return Ok((Vec::new(), None)) };
        let refused = |place: &str, problem| RefusalReason::EarlyData { place: place.to_owned(), problem };
        let name = match place {
            EarlyDataPlace::Path if !behind_path.is_empty() => {
                let bytes =
                    decode(behind_path.as_bytes(), limit).map_err(|error| refused("the path", error))?;
                return Ok((bytes, None));
            }
            EarlyDataPlace::Path => PROTOCOL_HEADER,
            EarlyDataPlace::Header(name) => name.as_str(),
        };
        let Some(value) = request.values(name).next().filter(|value| !value.is_empty()) else {
            return Ok((Vec::new(), None));
        };
        match decode(value, limit) {
            Ok(bytes) => {
                let is_protocol = name.eq_ignore_ascii_case(PROTOCOL_HEADER);
                let text = std::str::from_utf8(value).ok();
                Ok((bytes, text.filter(|_| is_protocol)))
            }
            // In path mode this header is not ours by configuration: it may well be a real subprotocol.
            Err(EarlyDataError::Character { .. } | EarlyDataError::Length { .. })
                if *place == EarlyDataPlace::Path =>
            {
                Ok((Vec::new(), None))
            }
            Err(error) => Err(refused(name, error)),
        }
    }
}

/// Whether the header that Xray and most V2Ray configs use holds a long base64 text.
fn looks_like_early_data(request: &Request) -> bool {
    let value = request.values(PROTOCOL_HEADER).next().unwrap_or_default();
    value.len() >= MIN_LIKELY_EARLY_DATA && decode(value, usize::MAX).is_ok()
}

/// The upgrade headers, in the order gorilla/websocket `server.go` looks at them; the client's key.
fn check_upgrade(request: &Request) -> Result<&str, RefusalReason> {
    let shown = |name: &str| {
        let found: Vec<_> = request.values(name).collect();
        (!found.is_empty()).then(|| printable(&found.join(&b", "[..]), SHOWN_CHARS))
    };
    if !names_token(request.values("Connection"), "upgrade") {
        // A front end that drops one drops both; Upgrade is the one to name first.
        return Err(match shown("Upgrade") {
            None => RefusalReason::Upgrade { found: None },
            Some(_) => RefusalReason::Connection { found: shown("Connection") },
        });
    }
    if !names_token(request.values("Upgrade"), "websocket") {
        return Err(RefusalReason::Upgrade { found: shown("Upgrade") });
    }
    if request.method() != "GET" {
        return Err(RefusalReason::Method { found: printable(request.method().as_bytes(), SHOWN_CHARS) });
    }
    if !names_token(request.values("Sec-WebSocket-Version"), "13") {
        return Err(RefusalReason::Version { found: shown("Sec-WebSocket-Version") });
    }
    request.header("Sec-WebSocket-Key").filter(|key| !key.is_empty()).ok_or(RefusalReason::Key)
}
