//! What the demonstration tries, as an application behind the SOCKS5 port.

use std::{net::SocketAddr, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Failure, STEP_TIMEOUT,
    origin::{COUNT, ECHO},
};

/// What came of it.
pub(super) struct Tried {
    pub(super) first_byte_ms: f64,
    pub(super) tunnels: usize,
    pub(super) mebibytes: u32,
    pub(super) mebibytes_per_second: f64,
    pub(super) after_fin: usize,
}

/// Payload of the trial each way.
const MEBIBYTES: u32 = 256;

const TUNNELS: usize = 9;

/// Tries everything through the proxy.
pub(super) async fn run(proxy: SocketAddr, origin: SocketAddr) -> Result<Tried, Failure> {
    let mut waits = Vec::new();
    for _ in 0..TUNNELS {
        waits.push(timeout(STEP_TIMEOUT, first_byte(proxy, origin)).await??);
    }
    waits.sort_by(f64::total_cmp);
    let seconds = timeout(STEP_TIMEOUT, bulk(proxy, origin)).await??;
    let after_fin = timeout(STEP_TIMEOUT, half_close(proxy, origin)).await??;
    Ok(Tried {
        first_byte_ms: waits[TUNNELS / 2],
        tunnels: TUNNELS,
        mebibytes: MEBIBYTES,
        mebibytes_per_second: f64::from(MEBIBYTES) / seconds,
        after_fin,
    })
}

/// SOCKS5 without a password (RFC 1928) to an IPv4 target.
async fn connect(proxy: SocketAddr, origin: SocketAddr) -> Result<TcpStream, Failure> {
    let SocketAddr::V4(origin) = origin else { return Err("the origin has no IPv4 address".into()) };
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[5, 1, 0]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;
    let mut request = vec![5, 1, 0, 1];
    request.extend_from_slice(&origin.ip().octets());
    request.extend_from_slice(&origin.port().to_be_bytes());
    stream.write_all(&request).await?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await?;
    if method != [5, 0] || reply[1] != 0 {
        return Err(format!("the proxy refused: {method:?} {reply:?}").into());
    }
    Ok(stream)
}

/// Milliseconds from a new connection to the first byte of the page, which is checked.
async fn first_byte(proxy: SocketAddr, origin: SocketAddr) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut stream = connect(proxy, origin).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n").await?;
    let mut page = vec![stream.read_u8().await?];
    let waited = started.elapsed();
    stream.read_to_end(&mut page).await?;
    if !page.starts_with(b"HTTP/1.1 200") || !page.ends_with(b"TLS.\n") {
        return Err("the page came damaged".into());
    }
    Ok(waited.as_secs_f64() * 1000.0)
}

/// Seconds for [`MEBIBYTES`] up and the same down, at once; every byte is compared.
async fn bulk(proxy: SocketAddr, origin: SocketAddr) -> Result<f64, Failure> {
    let mut stream = connect(proxy, origin).await?;
    stream.write_all(ECHO).await?;
    let block: Vec<u8> = (0..=250).cycle().take(BLOCK).collect();
    let started = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let send = async {
        for _ in 0..MEBIBYTES {
            writer.write_all(&block).await?;
        }
        writer.shutdown().await?;
        Ok::<_, Failure>(())
    };
    let receive = async {
        let mut got = vec![0; BLOCK];
        for n in 0..MEBIBYTES {
            reader.read_exact(&mut got).await?;
            if got != block {
                return Err(format!("MiB {n} came damaged").into());
            }
        }
        if reader.read(&mut got).await? != 0 {
            return Err("more came back than was sent".into());
        }
        Ok::<_, Failure>(())
    };
    tokio::try_join!(send, receive)?;
    Ok(started.elapsed().as_secs_f64())
}

/// One mebibyte; the pattern in it repeats after 251 bytes, so that a block that is shifted is not taken for whole.
const BLOCK: usize = 1 << 20;

/// Sends, says that it was all, and reads the answer to that; its length.
async fn half_close(proxy: SocketAddr, origin: SocketAddr) -> Result<usize, Failure> {
    let mut stream = connect(proxy, origin).await?;
    stream.write_all(COUNT).await?;
    stream.write_all(&[7; 1000]).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer != "1000 bytes before your FIN" {
        return Err(format!("after our FIN came {answer:?}").into());
    }
    Ok(answer.len())
}
