//! What holds for the frames of Mux.Cool.

use super::Source;
use crate::{FrameReader, MuxError, MuxEvent, MuxHead, MuxKind, Step};

/// Any bytes as frames: reading never panics, takes no more than there is, gives the same heads and data in one piece
/// and however cut, and what it gives can be written and read again to the same.
pub fn mux_frames_read_alike_however_cut(data: &[u8]) {
    let mut source = Source(data);
    let seed = usize::from(source.byte());
    let input = source.0;
    let whole = read(input, &[input.len()]);
    let cuts: Vec<usize> = (0..input.len()).map(|n| 1 + (n * 7 + seed) % 13).collect();
    assert_eq!(whole, read(input, &cuts), "cutting changed the result");
    assert_eq!(whole, read(input, &vec![1; input.len()]), "reading byte by byte changed the result");
    for (head, _) in &whole.0 {
        let mut wire = Vec::new();
        head.encode(&mut wire);
        let again = Ok(Step::Done { used: wire.len(), value: head.clone() });
        assert_eq!(MuxHead::parse(&wire), again, "writing and reading is no identity");
        assert!(!matches!(head.kind, MuxKind::KeepAlive) || wire.len() <= 8, "an address in a keep alive");
    }
}

type Frames = (Vec<(MuxHead, Vec<u8>)>, Option<MuxError>);

/// Reads `input` as it comes in pieces of these lengths.
fn read(input: &[u8], lengths: &[usize]) -> Frames {
    let (mut reader, mut frames, mut at, mut end) = (FrameReader::new(), Vec::new(), 0, 0);
    for length in lengths {
        end = (end + length).min(input.len());
        loop {
            match reader.next(&input[at..end]) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Done { used, value: MuxEvent::Head(head) }) => {
                    frames.push((head, Vec::new()));
                    at += used;
                }
                Ok(Step::Done { used, value: MuxEvent::Data { left } }) => {
                    assert!(used > 0 && used + left <= crate::MAX_MUX_DATA, "data of no frame");
                    if let Some((_, data)) = frames.last_mut() {
                        data.extend_from_slice(&input[at..at + used]);
                    }
                    at += used;
                }
                Err(error) => return (frames, Some(error)),
            }
            assert!(at <= end, "took more than there was");
        }
    }
    (frames, None)
}
