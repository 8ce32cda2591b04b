use super::*;
use crate::{
    UserId,
    vectors::{bytes, number, protection, secrets, text, vectors},
};
use serde_json::Value;

/// The user and the time of all header vectors.
const ID: &str = "b831381d-6324-4d53-ad4f-8cda48b30811";
const TIME: u64 = 1_700_000_000;

fn id() -> UserId {
    ID.parse().unwrap()
}

fn users() -> Users {
    Users::new([UserId::from_bytes([0; 16]), id()])
}

fn entropy(case: &Value) -> HeaderEntropy {
    let given = bytes(&case["padding"]);
    let mut padding = [0; 15];
    padding[..given.len()].copy_from_slice(&given);
    HeaderEntropy {
        auth_random: [0xde, 0xad, 0xbe, 0xef],
        nonce: bytes(&case["connection_nonce"]).try_into().unwrap(),
        padding_len: given.len().try_into().unwrap(),
        padding,
    }
}

fn request(case: &Value) -> Request {
    let (security, options) = protection(case).unwrap();
    let target =
        |case: &Value| Target { address: text(&case["host"]).parse().unwrap(), port: number(&case["port"]) };
    let command = match case["command"].as_u64().unwrap() {
        1 => Command::Tcp(target(case)),
        2 => Command::Udp(target(case)),
        3 => Command::Mux,
        other => panic!("command {other}"),
    };
    Request { secrets: secrets(case), options, security, command }
}

#[test]
fn requests_are_the_vectors_at_every_split() {
    for case in vectors("headers")["request_header"].as_array().unwrap() {
        let request = request(case);
        let sealed = bytes(&case["sealed"]);
        let made = seal_request(&CmdKey::new(&id()), &request, &entropy(case), TIME).unwrap();
        assert_eq!(made, sealed, "{}", case["name"]);

        let (users, mut replay, mut opener) = (users(), Replay::new(), RequestOpener::new());
        for cut in 0..sealed.len() {
            let step = opener.open(&sealed[..cut], &users, &mut replay, TIME);
            assert_eq!(step, Ok(Step::NeedMore), "{} {cut}", case["name"]);
        }
        assert!(replay.is_empty());
        let longer = [sealed.as_slice(), &[1; 9]].concat();
        let done = Step::Done { used: sealed.len(), value: (UserIndex(1), request) };
        assert_eq!(opener.open(&longer, &users, &mut replay, TIME), Ok(done));
        assert_eq!(replay.len(), 1);
        assert_eq!(open_request(&longer, &users, &mut replay, TIME), Err(HeaderError::Replay));
    }
}
