//! What always holds, as functions that take any bytes and panic when it does not: tests call them with awkward
//! input, fuzz targets with random input.

use crate::{
    ClientOptions, Decoder, EarlyData, EarlyDataPlace, End, Event, FrameReader, Headers, Limits,
    MAX_HEADER_BYTES, Path, PingQueue, ResponseError, Role, ServerOptions, Step, TextPolicy, client,
    early_data, header_len, mask, mask_copy, seal, server,
};

/// Any Date will do.
const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// Everything that came out of a stream.
type Output = (Vec<u8>, Vec<Vec<u8>>, Option<End>);

/// Masking is an XOR byte by byte, moving or not.
///
/// # Panics
/// When it is not.
pub fn masking_is_bytewise(bytes: &[u8], key: [u8; 4], offset: u64, gap: usize) {
    let expected: Vec<u8> =
        (0..).zip(bytes).map(|(at, byte)| byte ^ key[((offset % 4 + at) % 4) as usize]).collect();
    let mut masked = bytes.to_vec();
    mask(&mut masked, key, offset);
    assert_eq!(masked, expected, "in place");

    let gap = gap % 300;
    let mut buf = [&vec![0xEE; 5 + gap], bytes, b"behind"].concat();
    mask_copy(&mut buf, 5 + gap, 5, bytes.len(), key, offset);
    assert_eq!(&buf[5..5 + bytes.len()], expected, "moved down by {gap}");
    assert!(buf.starts_with(&[0xEE; 5]) && buf.ends_with(b"behind"), "touched its neighbours");
}

/// A sealed payload comes back from the decoder of the other end, in one read or cut at `cut`.
///
/// # Panics
/// When it does not.
pub fn sealed_payload_comes_back(payload: &[u8], key: Option<[u8; 4]>, cut: usize) {
    let receiver = if key.is_some() { Role::Server } else { Role::Client };
    let mut buf = [&[0; MAX_HEADER_BYTES], payload].concat();
    let wire = seal(&mut buf, MAX_HEADER_BYTES..MAX_HEADER_BYTES + payload.len(), key);
    assert_eq!(wire.start, MAX_HEADER_BYTES - header_len(payload.len(), key.is_some()));
    let wire = &buf[wire];
    let expected: Output = (payload.to_vec(), Vec::new(), None);
    assert_eq!(decode(receiver, &[wire]), expected);
    let (one, two) = wire.split_at(cut % (wire.len() + 1));
    assert_eq!(decode(receiver, &[one, two]), expected);
}

/// The decoder never panics, keeps its payload inside the buffer, and gives the same data, pings and end whether
/// the bytes come at once or cut into pieces of the given sizes; the frame reader agrees with it.
///
/// # Panics
/// When one of these does not hold.
pub fn decoding_ignores_splits(role: Role, bytes: &[u8], sizes: &[u8]) {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for &size in sizes {
        let (piece, tail) = rest.split_at(rest.len().min(usize::from(size)));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    let whole = decode(role, &[bytes]);
    let (data, pings, end) = decode(role, &pieces);
    assert_eq!((&data, &end), (&whole.0, &whole.2), "cut as {sizes:?}");
    // One read keeps the latest pings only.
    assert!(pings.ends_with(&whole.1), "pings");
    let read = read_events(role, bytes);
    assert_eq!((&read.0, &read.2), (&whole.0, &whole.2), "frame reader");
    assert!(read.1.ends_with(&whole.1), "frame reader's pings");
}

/// The frame reader that validates text never panics, and what it accepts is UTF-8.
///
/// # Panics
/// When it does or is not.
pub fn validated_text_is_utf8(role: Role, bytes: &[u8]) {
    let mut buf = bytes.to_vec();
    let mut reader = FrameReader::new(role, TextPolicy::Validate, Limits::default());
    let (mut at, mut text) = (0, Vec::new());
    while let Some(event) = reader.next(&mut buf, &mut at) {
        if let Event::Data { range, kind, ends_message } = event {
            text.extend_from_slice(&buf[range]);
            if ends_message {
                assert!(kind == crate::Kind::Binary || std::str::from_utf8(&text).is_ok());
                text.clear();
            }
        }
    }
    assert_eq!(at, buf.len(), "everything is taken");
}

/// Early data comes back as it was; decoding never panics and never gives more than its limit.
///
/// # Panics
/// When it does not.
pub fn early_data_comes_back(bytes: &[u8], limit: usize) {
    let text = early_data::encode(bytes);
    assert_eq!(early_data::decode(text.as_bytes(), bytes.len()).as_deref(), Ok(bytes));
    if let Ok(decoded) = early_data::decode(bytes, limit) {
        assert!(decoded.len() <= limit);
        // Of what decodes, the digits say the same in our own alphabet, but for bits that carry nothing.
        let digits: Vec<u8> = bytes.iter().filter(|&&byte| byte != b'=').copied().collect();
        assert_eq!(early_data::encode(&decoded).len(), digits.len());
    }
}

/// No request makes the server panic; a head that is whole stays the same with more bytes behind it, a part of it is
/// never taken for the whole, and what is logged about it cannot harm a terminal.
///
/// # Panics
/// When one of these does not hold.
pub fn requests_are_taken_whole(input: &[u8], cut: usize) {
    for options in server_options() {
        let limits = options.head_limits();
        let whole = server::request(input, limits);
        let part = server::request(&input[..cut % (input.len() + 1)], limits);
        assert_prefix(&part, &whole);
        match whole {
            Ok(Step::Done { used, value }) => {
                assert!(used <= input.len() && used <= limits.max_bytes);
                match options.accept(&value, DATE) {
                    Ok(accepted) => {
                        assert!(accepted.response.ends_with(b"\r\n\r\n"));
                        assert!(accepted.early_data.len() <= options.early_data_limit());
                    }
                    Err(refusal) => {
                        assert_one_answer(&refusal.response, refusal.reason.status());
                        assert_fit_for_log(&refusal.reason.to_string());
                    }
                }
            }
            Ok(Step::NeedMore) => assert!(input.len() < limits.max_bytes),
            Err(error) => assert_fit_for_log(&error.to_string()),
        }
    }
}

/// No answer makes the client panic, and the same holds for it as for requests.
///
/// # Panics
/// When it does not.
pub fn responses_are_taken_whole(input: &[u8], key: [u8; 16], cut: usize) {
    let whole = client::response(input, key);
    let part = client::response(&input[..cut % (input.len() + 1)], key);
    assert_prefix(&part, &whole);
    match whole {
        Ok(Step::Done { used, .. }) => assert!(used <= input.len()),
        Ok(Step::NeedMore) => {}
        Err(error) => {
            assert_fit_for_log(&error.to_string());
            if let ResponseError::Refused(answer) = error {
                assert!(answer.body_start_at <= input.len());
            }
        }
    }
}

/// Whatever the path and the early data, the client's request is one head that our server takes, and the early data
/// comes out as it went in; the answer is accepted by the client.
///
/// # Panics
/// When it does not.
pub fn handshake_carries_early_data(path: &str, early: &[u8], max_bytes: u16, key: [u8; 16]) {
    let Ok(path) = Path::new(path) else { return };
    let max_bytes = std::num::NonZeroU32::from(std::num::NonZeroU16::MIN.saturating_add(max_bytes));
    let Ok(name) = "Sec-WebSocket-Protocol".parse() else { return };
    for place in [EarlyDataPlace::Path, EarlyDataPlace::Header(name)] {
        let early_data = Some(EarlyData { max_bytes, place: place.clone() });
        let client = ClientOptions {
            path: path.clone(),
            host: "h".to_owned(),
            headers: Headers::default(),
            early_data,
        };
        let (head, carried) = client.request(key, early);
        assert_eq!(carried, early.len().min(max_bytes.get() as usize).min(client::MAX_CARRIED_EARLY_DATA));
        // The server's early data settings do not depend on the client's number.
        let early_data = Some(EarlyData { max_bytes: std::num::NonZeroU32::MAX, place });
        let served = ServerOptions { path: path.clone(), early_data };
        let Ok(Step::Done { used, value }) = server::request(&head, served.head_limits()) else {
            // Nobody configures a path of many KiB.
            assert!(path.as_str().len() > 5000, "our own request is not read back: {}", head.escape_ascii());
            continue;
        };
        assert_eq!(used, head.len());
        let accepted = served.accept(&value, DATE);
        // Others may be refused: V2Ray's server never decodes its own path, nor looks for a query in it.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        assert!(accepted.is_ok() || !path.as_str().chars().all(is_plain), "{accepted:?}");
        let Ok(accepted) = accepted else { continue };
        if !path.as_str().contains(['?', '#', '%']) {
            assert_eq!(accepted.early_data, &early[..carried]);
        }
        assert!(matches!(client::response(&accepted.response, key), Ok(Step::Done { .. })));
    }
}

/// Decodes pieces one after another.
fn decode(role: Role, pieces: &[&[u8]]) -> Output {
    let mut decoder = Decoder::new(role, Limits::default());
    let (mut data, mut pongs, mut end) = (Vec::new(), Vec::new(), None);
    for piece in pieces {
        let mut buf = piece.to_vec();
        let mut pings = PingQueue::new();
        let decoded = decoder.decode(&mut buf, &mut pings);
        assert!(decoded.payload.end <= buf.len());
        assert!(end.is_none() || (decoded.payload.is_empty() && pings.is_empty()), "something after the end");
        data.extend_from_slice(&buf[decoded.payload]);
        while let Some(ping) = pings.pop() {
            pongs.push(ping.as_bytes().to_vec());
        }
        end = end.or(decoded.end);
        assert_eq!(end.is_some(), decoder.has_ended());
    }
    (data, pongs, end)
}

/// The same by the frame reader.
fn read_events(role: Role, bytes: &[u8]) -> Output {
    let mut buf = bytes.to_vec();
    let mut reader = FrameReader::new(role, TextPolicy::Bytes, Limits::default());
    let (mut data, mut pings, mut end, mut at) = (Vec::new(), Vec::new(), None, 0);
    while let Some(event) = reader.next(&mut buf, &mut at) {
        assert!(end.is_none(), "an event after the last");
        match event {
            Event::Data { range, .. } => data.extend_from_slice(&buf[range]),
            Event::Ping(payload) => pings.push(payload.as_bytes().to_vec()),
            Event::Pong(_) => {}
            Event::Close(code) => end = Some(End::Close(code)),
            Event::Violation(violation) => end = Some(End::Violation(violation)),
        }
    }
    assert_eq!(at, buf.len(), "everything is taken");
    (data, pings, end)
}

/// One of each kind.
fn server_options() -> Vec<ServerOptions> {
    let path = Path::new("/ray").unwrap_or_default();
    let max_bytes = std::num::NonZeroU32::MIN;
    let mut places = vec![None, Some(EarlyDataPlace::Path)];
    places.extend("Sec-WebSocket-Protocol".parse().ok().map(|name| Some(EarlyDataPlace::Header(name))));
    let early_data = |place: Option<EarlyDataPlace>| place.map(|place| EarlyData { max_bytes, place });
    places
        .into_iter()
        .map(|place| ServerOptions { path: path.clone(), early_data: early_data(place) })
        .collect()
}

/// What a parser may say of a part: nothing yet, the same, or an error where the whole is one too.
fn assert_prefix<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    part: &Result<Step<T>, E>,
    whole: &Result<Step<T>, E>,
) {
    match (part, whole) {
        (Ok(Step::NeedMore), _) | (Err(_), Err(_)) => {}
        (Ok(part), Ok(whole)) => assert_eq!(part, whole),
        _ => assert!(part.is_err() == whole.is_err(), "{part:?} became {whole:?}"),
    }
}

/// A head with the status, and a body as long as it says.
fn assert_one_answer(response: &[u8], status: u16) {
    let text = String::from_utf8_lossy(response);
    assert_eq!(text.get(9..12), Some(status.to_string().as_str()), "{text}");
    assert!(text.matches("Content-Length: ").count() <= 1, "{text}");
    assert!(text.contains("\r\n\r\n"), "{text}");
}

/// One line, not long, nothing a terminal acts on.
fn assert_fit_for_log(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() < 1200, "{text:?}");
}
