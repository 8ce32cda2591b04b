//! The demonstration's web server: a page, an echo, and the length of what was sent.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{Failure, STEP_TIMEOUT};

/// What a client asks for first, in as many bytes.
pub(super) const ECHO: &[u8; 5] = b"ECHO ";
pub(super) const COUNT: &[u8; 5] = b"COUNT";

const PAGE: &str = "wsray works: this page came through VMess, WebSocket and TLS.\n";

/// Serves until dropped.
pub(super) async fn serve(listener: TcpListener) {
    while let Ok((client, _)) = listener.accept().await {
        // A client that goes away in the middle is the client's business.
        tokio::spawn(async move { drop(timeout(STEP_TIMEOUT, answer(client)).await) });
    }
}

async fn answer(mut client: TcpStream) -> Result<(), Failure> {
    let mut verb = [0; 5];
    client.read_exact(&mut verb).await?;
    match &verb {
        ECHO => {
            let (mut reader, mut writer) = client.split();
            copy(&mut reader, &mut writer).await?;
        }
        COUNT => {
            let mut rest = Vec::new();
            (&mut client).take(1 << 20).read_to_end(&mut rest).await?;
            client.write_all(format!("{} bytes before your FIN", rest.len()).as_bytes()).await?;
        }
        _ => {
            let mut head = verb.to_vec();
            while !head.ends_with(b"\r\n\r\n") && head.len() < 16 * 1024 {
                head.push(client.read_u8().await?);
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PAGE}",
                PAGE.len()
            );
            client.write_all(answer.as_bytes()).await?;
        }
    }
    client.shutdown().await?;
    Ok(())
}
