use super::*;
use crate::vectors::{bytes, text, vectors};

fn tcp(text: &str, port: u16) -> MuxKind {
    let target = Target { address: text.parse().unwrap(), port };
    MuxKind::New { network: Network::Tcp, target, global_id: None }
}

fn resolver() -> Target {
    Target { address: "127.0.0.1".parse().unwrap(), port: 53 }
}

fn udp(global_id: Option<[u8; 8]>) -> MuxKind {
    MuxKind::New { network: Network::Udp, target: resolver(), global_id }
}

/// What the name of a vector says.
fn meaning(name: &str) -> (MuxHead, &'static [u8]) {
    let head = |id, kind, data| MuxHead { id, kind, data };
    match name {
        "new tcp 1 example.com:80 with data 'hi'" => (head(1, tcp("example.com", 80), Some(2)), b"hi"),
        "new tcp 1 without data" => (head(1, tcp("example.com", 80), None), b""),
        "keep 1 data 'hi'" => (head(1, MuxKind::Keep { peer: None }, Some(2)), b"hi"),
        "end 1" => (head(1, MuxKind::End(MuxEnd::Complete), None), b""),
        "end 1 with error" => (head(1, MuxKind::End(MuxEnd::Cut), None), b""),
        "keepalive" => (head(0, MuxKind::KeepAlive, None), b""),
        "keepalive with data to discard" => (head(0, MuxKind::KeepAlive, Some(3)), b"pad"),
        "new udp 2 127.0.0.1:53 data" => (head(2, udp(None), Some(1)), b"q"),
        "xudp new sid 0" => (head(0, udp(None), Some(1)), b"q"),
        "xudp new sid 0 + global id (Xray)" => (head(0, udp(Some([1, 2, 3, 4, 5, 6, 7, 8])), Some(1)), b"q"),
        "xudp keep sid 0 with address" => (head(0, MuxKind::Keep { peer: Some(resolver()) }, Some(1)), b"q"),
        other => panic!("a vector without a meaning: {other}"),
    }
}

#[test]
fn frames_are_the_vectors() {
    let cases = vectors("mux")["mux_frames"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let (head, data) = meaning(text(&case["name"]));
        let wire = bytes(&case["frame"]);
        let mut out = Vec::new();
        head.encode(&mut out);
        out.extend_from_slice(data);
        assert_eq!(out, wire, "{case}");
        let used = wire.len() - data.len();
        assert_eq!(MuxHead::parse(&wire), Ok(Step::Done { used, value: head }), "{case}");
        for cut in 0..used {
            assert_eq!(MuxHead::parse(&wire[..cut]), Ok(Step::NeedMore), "{case} cut at {cut}");
        }
    }
}

#[test]
fn data_are_given_as_they_come() {
    let mut reader = FrameReader::new();
    let head = MuxHead { id: 1, kind: MuxKind::Keep { peer: None }, data: Some(5) };
    let step = reader.next(b"\0\x04\0\x01\x02\x01\0\x05he");
    assert_eq!(step, Ok(Step::Done { used: 8, value: MuxEvent::Head(head) }));
    assert!(!reader.is_between_frames());
    assert_eq!(reader.next(b"he"), Ok(Step::Done { used: 2, value: MuxEvent::Data { left: 3 } }));
    assert_eq!(reader.next(b""), Ok(Step::NeedMore));
    assert_eq!(
        reader.next(b"llo\0\x04\0\x01\x03\0"),
        Ok(Step::Done { used: 3, value: MuxEvent::Data { left: 0 } })
    );
    let end = MuxHead { id: 1, kind: MuxKind::End(MuxEnd::Complete), data: None };
    assert_eq!(reader.next(b"\0\x04\0\x01\x03\0"), Ok(Step::Done { used: 6, value: MuxEvent::Head(end) }));
    assert!(reader.is_between_frames());
}

#[test]
fn what_is_no_frame_is_refused() {
    assert_eq!(MuxHead::parse(b"\0\x03"), Err(MuxError::MetaLength { found: 3 }));
    assert_eq!(MuxHead::parse(b"\x02\x01"), Err(MuxError::MetaLength { found: 513 }));
    assert_eq!(MuxHead::parse(b"\x02\0"), Ok(Step::NeedMore));
    for found in [0, 5, 255] {
        assert_eq!(MuxHead::parse(&[0, 4, 0, 1, found, 0]), Err(MuxError::Status { found }));
    }
    for found in [0, 3] {
        let frame = [0, 12, 0, 1, 1, 0, found, 0, 53, 1, 127, 0, 0, 1];
        assert_eq!(MuxHead::parse(&frame), Err(MuxError::Network { found }));
    }
    assert_eq!(MuxHead::parse(b"\0\x04\0\x01\x01\0"), Err(MuxError::Target(TargetError::Short)));
    assert_eq!(MuxHead::parse(b"\0\x05\0\x01\x02\0\x02"), Err(MuxError::Target(TargetError::Short)));
}

#[test]
fn meta_that_is_not_known_is_left_unread() {
    let keep = MuxHead { id: 1, kind: MuxKind::Keep { peer: None }, data: None };
    assert_eq!(MuxHead::parse(b"\0\x06\0\x01\x02\0\x01\xff"), Ok(Step::Done { used: 8, value: keep }));
    let end = MuxHead { id: 1, kind: MuxKind::End(MuxEnd::Complete), data: None };
    assert_eq!(MuxHead::parse(b"\0\x05\0\x01\x03\0\xff"), Ok(Step::Done { used: 7, value: end }));
}
