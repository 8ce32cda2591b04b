//! Ends, cuts, and what is still under way then.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener},
    thread,
    time::Duration,
};

use crate::{
    forwarding::{Forwarding, WITHOUT_STREAMS, check_reset, download},
    support::{
        apps,
        chromium::Chromium,
        config::Link,
        node::{Kind, Server},
        origin::{Origin, pattern},
    },
};

/// As on a direct connection (`tests/endings.rs`).
#[test]
fn ends_and_cuts_are_told_apart_behind_a_tab() {
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    for kind in [Kind::Wsray, Kind::V2Ray445, Kind::SingBox] {
        for script in ["", WITHOUT_STREAMS] {
            let link = Link::default();
            let mut server = Server::start(kind, &link);
            let forwarding = Forwarding::start(&link, server.port);
            let tab = forwarding.tab_with(&browser, script);
            // sing-box sends no end mark and leaves with its close frame. `WebSocketStream` shows that one has come. Without
            // it Chromium tells its page nothing but 1006 at times, as of a cut: then a reset is right.
            let may_be_reset = kind == Kind::SingBox && !script.is_empty();
            for length in [0, 1, 300_000].repeat(if kind == Kind::SingBox { 20 } else { 1 }) {
                let mut stream = forwarding.connect(&origin);
                stream.write_all(format!("give {length} 5\n").as_bytes()).unwrap();
                let mut answer = Vec::new();
                match stream.read_to_end(&mut answer) {
                    Err(error) if may_be_reset => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                    end => assert!(
                        end.is_ok() && answer == pattern(length, 5),
                        "{kind:?}, {script:?}, {length}: {end:?} after {} bytes",
                        answer.len()
                    ),
                }
            }
            if kind == Kind::Wsray {
                let mut stream = forwarding.connect(&origin);
                stream.write_all(b"late 500 1000\nquestion").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert_eq!(answer.len(), 1064, "{kind:?}, {script:?}: an answer after half-close");
            }
            let stream = download(&forwarding, &origin);
            server.node.kill();
            check_reset(stream, &format!("{kind:?}, {script:?}: the server is killed"));
            tab.close();
        }
    }
}

/// A browser forgets what its page has not read yet when a close frame comes.
#[test]
fn upload_that_is_still_under_way_when_the_application_has_ended_arrives_whole() {
    need_chromium!();
    let browser = Chromium::start();
    let (_server, forwarding) = Forwarding::with_server();
    let _tab = forwarding.tab(&browser);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // What the kernel holds would not be in the browser any more.
    socket2::SockRef::from(&listener).set_recv_buffer_size(64 * 1024).unwrap();
    let target = listener.local_addr().unwrap();
    let mut stream = apps::socks5(forwarding.client.socks, target.into(), None).unwrap();
    let sent = pattern(16_000_000, 3);
    thread::scope(|scope| {
        // Says nothing, and reads late and slowly.
        let reader = scope.spawn(|| {
            let mut target = listener.accept().unwrap().0;
            target.shutdown(Shutdown::Write).unwrap();
            let (mut received, mut block) = (Vec::new(), vec![0; 200_000]);
            loop {
                match target.read(&mut block) {
                    Ok(0) => return Ok(received),
                    Ok(read) => received.extend_from_slice(&block[..read]),
                    Err(error) => return Err((error, received.len())),
                }
                thread::sleep(Duration::from_millis(8));
            }
        });
        stream.write_all(&sent[..1]).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the target says nothing");
        stream.write_all(&sent[1..]).unwrap();
        drop(stream);
        let received = reader.join().unwrap();
        assert!(
            received.as_ref().is_ok_and(|bytes| *bytes == sent),
            "{:?}",
            received.map(|bytes| bytes.len())
        );
    });
}
