//! What the fuzz targets run: each function makes the arguments of one invariant from any bytes, and panics where the
//! invariant does not hold. `tests/corpus.rs` of the program runs the kept inputs through the same functions.

use wsray::{
    browser, inbound::http::wire as http, names, outbound::proxy::http as http_proxy, socks, transport,
    transport::proxy_protocol,
};
use wsray_route::invariants as route;
use wsray_ws::{Role, invariants as ws};

/// A fuzz target: its name, which is that of its corpus as well, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("browser_lines", browser_lines),
    ("config_load", config_load),
    ("dns_answer", dns_answer),
    ("forwarded", transport::invariants::only_somebody_is_told),
    ("http_body", http_body),
    ("http_head", http_head),
    ("http_proxy_answer", http_proxy_answer),
    ("proxy_protocol", proxy_protocol::invariants::check),
    ("route_geo", route::geo_file),
    ("route_sniff", route_sniff),
    ("route_text", route_text),
    ("socks", socks::invariants::check),
    ("socks_answer", socks::invariants::check_answers),
    ("vmess_body", wsray_vmess::invariants::body_opens_alike_however_cut),
    ("vmess_header", wsray_vmess::invariants::header_opens_alike_however_cut),
    ("vmess_mux", wsray_vmess::invariants::mux_frames_read_alike_however_cut),
    ("vmess_packet_addr", wsray_vmess::invariants::packet_addresses_come_back),
    ("vmess_replay", wsray_vmess::invariants::replay_agrees_with_a_naive_model),
    ("vmess_response", wsray_vmess::invariants::response_opens_only_whole_and_unchanged),
    ("vmess_sealed_body", wsray_vmess::invariants::sealed_body_opens_to_what_was_sealed),
    ("vmess_sealed_request", wsray_vmess::invariants::sealed_request_opens_to_itself),
    ("ws_decode", ws_decode),
    ("ws_early_data", ws_early_data),
    ("ws_handshake", ws_handshake),
    ("ws_mask", ws_mask),
    ("ws_request", ws_request),
    ("ws_response", ws_response),
    ("ws_seal", ws_seal),
    ("ws_text", ws_text),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or its invariant does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

/// The size of pieces, then what a page sends.
fn browser_lines(data: &[u8]) {
    let (&[piece], bytes) = split(data);
    browser::invariants::lines_read_alike_however_cut(bytes, usize::from(piece));
}

/// The first bit of the first byte: whether a header and the question that was asked stand in front of the rest, as in an
/// answer that gets past the first checks; the other bits: how many answers it is said to have.
fn dns_answer(data: &[u8]) {
    const ID: u16 = 0x1234;
    names::invariants::answers_are_bounded(data, ID);
    let (&[shape], rest) = split(data);
    let mut answer = names::invariants::question(ID, shape & 1 == 1);
    // Response, recursion available; as many answers as it says; without the additional record of the question.
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[6..8].copy_from_slice(&u16::from(shape >> 1).to_be_bytes());
    answer[10..12].fill(0);
    answer.truncate(12 + b"\x01a\x04test\0".len() + 4);
    answer.extend_from_slice(rest);
    names::invariants::answers_are_bounded(&answer, ID);
}

/// Where to cut, then the answer.
fn http_proxy_answer(data: &[u8]) {
    let (&cut, input) = split::<2>(data);
    http_proxy::invariants::check(input, usize::from(u16::from_be_bytes(cut)));
}

/// Where to cut, then a client's first bytes.
fn route_sniff(data: &[u8]) {
    let (&cut, input) = split::<2>(data);
    route::sniffing_ignores_splits(input, usize::from(u16::from_be_bytes(cut)));
}

fn route_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    route::configuration_text(&text);
    route::domain_text(&text);
}

fn config_load(data: &[u8]) {
    wsray_config::invariants::load_returns_and_places_lie_inside(&String::from_utf8_lossy(data));
}

/// Piece, then which limit, then the body.
fn http_body(data: &[u8]) {
    let (&[piece, kind], body) = split(data);
    let limit = match kind % 3 {
        0 => http::BodyLimit::chunked(),
        1 => http::BodyLimit::unlimited(),
        _ => http::BodyLimit::length(u64::from(kind)),
    };
    http::invariants::check_body(limit, body, usize::from(piece));
}

fn http_head(data: &[u8]) {
    let (&[piece], input) = split(data);
    http::invariants::check(input, usize::from(piece));
}

/// How many pieces, their sizes, then the bytes.
fn ws_decode(data: &[u8]) {
    let (&[pieces], rest) = split(data);
    let (sizes, bytes) = rest.split_at(rest.len().min(usize::from(pieces % 16)));
    ws::decoding_ignores_splits(Role::Client, bytes, sizes);
    ws::decoding_ignores_splits(Role::Server, bytes, sizes);
}

fn ws_early_data(data: &[u8]) {
    let (&[limit], bytes) = split(data);
    ws::early_data_comes_back(bytes, usize::from(limit));
}

/// Key, the most early data, the path's length, the path, the early data.
fn ws_handshake(data: &[u8]) {
    let (&key, rest) = split::<16>(data);
    let (&[high, low, path_len], rest) = split(rest);
    let (path, early) = rest.split_at(rest.len().min(usize::from(path_len)));
    let max_bytes = u16::from_be_bytes([high, low]);
    ws::handshake_carries_early_data(&String::from_utf8_lossy(path), early, max_bytes, key);
}

/// Key, offset, gap, then the bytes.
fn ws_mask(data: &[u8]) {
    let (&key, rest) = split::<4>(data);
    let (&offset, rest) = split::<8>(rest);
    let (&gap, bytes) = split::<2>(rest);
    ws::masking_is_bytewise(bytes, key, u64::from_be_bytes(offset), usize::from(u16::from_be_bytes(gap)));
}

fn ws_request(data: &[u8]) {
    let (&cut, input) = split::<2>(data);
    ws::requests_are_taken_whole(input, usize::from(u16::from_be_bytes(cut)));
}

fn ws_response(data: &[u8]) {
    let (&cut, input) = split::<2>(data);
    ws::responses_are_taken_whole(input, SAMPLE_KEY, usize::from(u16::from_be_bytes(cut)));
}

/// Whether masked, the key, where to cut, how often to repeat the payload, the payload.
fn ws_seal(data: &[u8]) {
    let (&[masked], rest) = split(data);
    let (&key, rest) = split::<4>(rest);
    let (&cut, rest) = split::<2>(rest);
    let (&[times], payload) = split(rest);
    let key = (masked & 1 == 1).then_some(key);
    ws::sealed_payload_comes_back(
        &payload.repeat(usize::from(times)),
        key,
        usize::from(u16::from_be_bytes(cut)),
    );
}

fn ws_text(data: &[u8]) {
    ws::validated_text_is_utf8(Role::Client, data);
    ws::validated_text_is_utf8(Role::Server, data);
}

/// The key of RFC 6455 section 1.3, so that the corpus may hold its accepted answer.
const SAMPLE_KEY: [u8; 16] = *b"the sample nonce";

/// The first `N` bytes, zeros where there are none, and the rest.
fn split<const N: usize>(data: &[u8]) -> (&[u8; N], &[u8]) {
    data.split_first_chunk().unwrap_or((&[0; N], &[]))
}
