//! A program that listens.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::task::JoinSet;
use wsray_config::{Diagnostic, ListenAt, Place, UnixAddress};

use super::App;
use crate::inbound::{BindUnixError, Inbound, Listener, SocketFile, bind, bind_unix, serve};

/// A program that listens: its ports and unix sockets are bound.
#[derive(Debug)]
pub struct Listening {
    listeners: Vec<(Listener, Arc<Inbound>)>,
    /// Removed when it listens no more.
    files: Vec<SocketFile>,
}

impl App {
    /// Binds all ports and unix sockets.
    ///
    /// # Errors
    /// All addresses that cannot be had; nothing listens then.
    pub fn bind(self) -> Result<Listening, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        let mut listening = Listening { listeners: Vec::new(), files: Vec::new() };
        for (listen, inbound) in &self.inbounds {
            match &listen.at {
                ListenAt::Ports { address, ports } => {
                    for port in ports.iter() {
                        let address = SocketAddr::new(*address, port);
                        match bind(address) {
                            Ok(listener) => listening.listeners.push((listener, Arc::clone(inbound))),
                            Err(error) => wrong.push(cannot_listen(&listen.place, address, &error)),
                        }
                    }
                }
                ListenAt::Unix(address) => match bind_unix(address) {
                    Ok((listener, file)) => {
                        listening.listeners.push((listener, Arc::clone(inbound)));
                        listening.files.extend(file);
                    }
                    Err(error) => wrong.push(cannot_listen_on_unix(&listen.place, address, &error)),
                },
            }
        }
        if wrong.is_empty() { Ok(listening) } else { Err(wrong) }
    }
}

impl Listening {
    /// What it listens on, in the configuration's order.
    pub fn addresses(&self) -> impl Iterator<Item = String> {
        self.listeners.iter().map(|(listener, _)| listener.to_string())
    }

    /// Serves until dropped; all sessions end with it.
    pub async fn serve(self) {
        let Self { listeners, files: _files } = self;
        let mut serving = JoinSet::new();
        for (listener, inbound) in listeners {
            serving.spawn(serve(listener, inbound));
        }
        while serving.join_next().await.is_some() {}
        // A configuration without inbounds waits to be stopped, as V2Ray does.
        std::future::pending::<()>().await;
    }
}

fn cannot_listen(place: &Place, address: SocketAddr, error: &io::Error) -> Diagnostic {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "listen must be an address of this machine, or 0.0.0.0 for all",
        _ => "check listen and port",
    };
    Diagnostic::at(place, format!("cannot listen on {address}: {error}")).help(help)
}

fn cannot_listen_on_unix(place: &Place, address: &UnixAddress, error: &BindUnixError) -> Diagnostic {
    let help = match error {
        BindUnixError::InUse => "stop the program that listens there, or choose another path",
        BindUnixError::NoSocket => "choose another path, or remove the file if nobody needs it",
        BindUnixError::Io(error) => match error.kind() {
            io::ErrorKind::NotFound => "make the folder, or let systemd do so (RuntimeDirectory=)",
            io::ErrorKind::PermissionDenied => {
                "give the user that wsray runs as the right to write into the folder"
            }
            io::ErrorKind::AddrInUse => "stop the program that listens there, or choose another name",
            _ => "check the path",
        },
    };
    Diagnostic::at(place, format!("cannot listen on {address}: {error}")).help(help)
}
