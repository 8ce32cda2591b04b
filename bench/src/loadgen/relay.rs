//! Two hops that only copy, 64 KiB at a time, to see what a process in user space costs without any protocol. The
//! first takes SOCKS 5 and passes the target on in six bytes; the second reads them.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::{Arguments, endpoint::serve};

const CALL: usize = 64 * 1024;

pub(crate) fn run(arguments: &Arguments) -> io::Result<String> {
    let listener = TcpListener::bind(arguments.needed::<SocketAddr>("listen")?)?;
    let next = arguments.optional("to")?;
    serve(&listener, move |near| hop(near, next));
    Ok("{}".to_owned())
}

fn hop(mut near: TcpStream, next: Option<SocketAddr>) -> io::Result<()> {
    let mut target = [0; 6];
    if next.is_some() {
        near.read_exact(&mut [0; 3])?;
        near.write_all(&[5, 0])?;
        let mut request = [0; 10];
        near.read_exact(&mut request)?;
        target.copy_from_slice(&request[4..]);
    } else {
        near.read_exact(&mut target)?;
    }
    let [a, b, c, d, high, low] = target;
    let target_at = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into();
    let mut far = TcpStream::connect(next.unwrap_or(target_at))?;
    far.set_nodelay(true)?;
    if next.is_some() {
        far.write_all(&target)?;
        near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    }
    let (from, to) = (near.try_clone()?, far.try_clone()?);
    let up = thread::Builder::new().stack_size(CALL + 64 * 1024).spawn(move || copy(from, to))?;
    copy(far, near);
    let _ = up.join();
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buf = vec![0; CALL];
    while let Ok(read @ 1..) = from.read(&mut buf) {
        if to.write_all(&buf[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
