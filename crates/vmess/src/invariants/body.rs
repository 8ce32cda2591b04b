//! The invariants of bodies.

use super::Source;
use crate::{ChunkOpener, ChunkSealer, Direction, MAX_PADDING, Opened, Options, Progress, Request, Security};
use std::ops::Range;

/// What an opener made of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    payloads: Vec<Vec<u8>>,
    progress: Progress,
    /// How many bytes it has taken.
    used: usize,
}

/// Opens `wire`, given in pieces of lengths from `cut`, as a caller with one buffer would.
fn open(
    request: &Request,
    direction: Direction,
    wire: &[u8],
    mut cut: impl FnMut() -> usize,
) -> Option<Outcome> {
    let mut opener = ChunkOpener::new(request, direction).ok()?;
    let mut outcome = Outcome { payloads: Vec::new(), progress: Progress::NeedMore { missing: 0 }, used: 0 };
    let mut needed = 0;
    let (mut buf, mut rest, mut ranges) = (Vec::new(), wire, Vec::<Range<usize>>::new());
    loop {
        let (piece, behind) = rest.split_at(cut().clamp(1, rest.len().max(1)).min(rest.len()));
        rest = behind;
        buf.extend_from_slice(piece);
        let Opened { used, outcome: progress } = opener.open(&mut buf, 0, &mut ranges);
        assert!(used <= buf.len(), "took more than there is");
        if piece.len() < needed {
            needed -= piece.len();
            assert_eq!((used, progress), (0, Progress::NeedMore { missing: needed }), "went on too early");
        } else if let Progress::NeedMore { missing } = progress {
            assert!(missing > 0, "needs nothing, yet stopped");
            needed = missing;
        }
        let mut from = 0;
        for range in ranges.drain(..) {
            assert!(from <= range.start && range.start < range.end && range.end <= used, "a bad range");
            from = range.end;
            outcome.payloads.push(buf[range].to_vec());
        }
        buf.drain(..used);
        outcome.used += used;
        outcome.progress = progress;
        if rest.is_empty() || !matches!(progress, Progress::NeedMore { .. }) {
            // Nothing more ever opens after an end or damage.
            if !matches!(progress, Progress::NeedMore { .. }) {
                buf.extend_from_slice(wire);
                let again = opener.open(&mut buf, 0, &mut ranges);
                assert_eq!((again, ranges.len()), (Opened { used: 0, outcome: progress }, 0));
            }
            return Some(outcome);
        }
    }
}

fn is_raw(request: &Request) -> bool {
    request.security == Security::None && !request.options.contains(Options::CHUNK_STREAM)
}

/// The same outcome for `wire` whole, byte by byte, and in the pieces that `source` wants.
fn open_every_way(
    request: &Request,
    direction: Direction,
    wire: &[u8],
    source: &mut Source<'_>,
) -> Option<Outcome> {
    let whole = open(request, direction, wire, || usize::MAX)?;
    let pieces = source.below(100);
    for mut other in
        [open(request, direction, wire, || 1)?, open(request, direction, wire, || 1 + source.below(pieces))?]
    {
        if is_raw(request) && !wire.is_empty() {
            // Without chunks only the bytes themselves are the same.
            other.payloads = vec![other.payloads.concat()];
        }
        assert_eq!(other, whole, "cutting changed the result");
    }
    Some(whole)
}

/// Any bytes as a body: opening never panics and gives the same however the bytes are cut.
pub fn body_opens_alike_however_cut(data: &[u8]) {
    let mut source = Source(data);
    let request = source.request();
    let direction = [Direction::Request, Direction::Response][source.below(2)];
    let wire = source.0;
    open_every_way(&request, direction, wire, &mut Source(data));
}

/// Any payloads, sealed with any options: they open to themselves, then to the end mark. With one byte
/// damaged, only payloads from before the damage come out, unless it hit padding or there is no cipher.
pub fn sealed_body_opens_to_what_was_sealed(data: &[u8]) {
    let mut source = Source(data);
    let request = source.request();
    let direction = [Direction::Request, Direction::Response][source.below(2)];
    let padding = [source.byte(); 64];
    let Ok(mut sealer) = ChunkSealer::new(&request, direction) else { return };
    let (head, tail) = (sealer.head_len(), sealer.tail_max());
    assert!(matches!(head, 0 | 2 | 18) && tail <= 16 + MAX_PADDING, "strange lengths");

    let (mut payloads, mut wire, mut chunks) = (Vec::new(), Vec::new(), Vec::new());
    while !source.0.is_empty() && payloads.len() < 6 {
        let len = 1 + source.below(60);
        let payload = source.take(len).to_vec();
        let mut buf = vec![0; head + payload.len() + tail];
        let Some(place) = buf.get_mut(head..head + payload.len()).filter(|place| !place.is_empty()) else {
            break;
        };
        place.copy_from_slice(&payload);
        let sealed = sealer.seal(&mut buf, head..head + payload.len(), &padding);
        assert!(sealed.is_ok(), "{sealed:?}");
        let start = wire.len();
        wire.extend_from_slice(&buf[sealed.unwrap_or_default()]);
        chunks.push((start, start + head + payload.len() + tail_of(&request)));
        payloads.push(payload);
    }
    let start = wire.len();
    let end_mark = sealer.end_mark(&mut wire, &padding);
    assert!(end_mark.is_ok(), "{end_mark:?}");
    if sealer.has_end_mark() {
        chunks.push((start, start + head + tail_of(&request)));
    }

    let Some(opened) = open_every_way(&request, direction, &wire, &mut Source(data)) else { return };
    let ended = if sealer.has_end_mark() {
        opened.progress == Progress::End
    } else {
        matches!(opened.progress, Progress::NeedMore { .. })
    };
    assert!(ended && opened.used == wire.len(), "{opened:?}");
    if is_raw(&request) {
        assert_eq!(opened.payloads.concat(), payloads.concat());
    } else {
        assert_eq!(opened.payloads, payloads);
    }
    if request.security != Security::None && !wire.is_empty() {
        let mut damage = Source(data);
        let at = damage.below(wire.len());
        wire[at] ^= damage.byte().max(1);
        damaged_body_stops(&request, direction, &wire, at, &chunks, &payloads);
    }
}

/// The tag's length.
fn tail_of(request: &Request) -> usize {
    if request.security == Security::None { 0 } else { 16 }
}

/// `wire` is damaged `at`; `chunks` are where its chunks lie, without their padding.
fn damaged_body_stops(
    request: &Request,
    direction: Direction,
    wire: &[u8],
    at: usize,
    chunks: &[(usize, usize)],
    payloads: &[Vec<u8>],
) {
    let Some(opened) = open_every_way(request, direction, wire, &mut Source(&[])) else { return };
    let hit = chunks.iter().position(|&(start, end)| (start..end).contains(&at));
    let Some(hit) = hit else {
        assert_eq!(opened.payloads, payloads, "damaged padding matters");
        return;
    };
    assert_eq!(opened.payloads, payloads[..hit], "a payload after damage");
    // A size that has become larger makes the opener wait, in vain.
    let in_size = at - chunks[hit].0 < 2 && !request.options.contains(Options::AUTHENTICATED_LENGTH);
    let waits = in_size && matches!(opened.progress, Progress::NeedMore { .. });
    assert!(waits || matches!(opened.progress, Progress::Damaged(_)), "{opened:?}");
}
