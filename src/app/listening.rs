//! Opening what a configuration listens on, and saying why it cannot be had.

use std::{io, net::SocketAddr};

use wsray_config::{Diagnostic, Listen, ListenAt, Place, SocketOptions, Transparent, UnixAddress};

use super::running::ListenOn;
use crate::{
    inbound::{BindUnixError, Listener, SocketFile, bind, bind_unix, dokodemo::bind_packets},
    transport::options::{OptionError, direct, stream_socket},
};

/// Listens on `on`, which `listen` asks for; with its file, if it has one.
pub(super) fn open(
    listen: &Listen,
    on: &ListenOn,
    options: &SocketOptions,
) -> Result<(Listener, Option<SocketFile>), Diagnostic> {
    match on {
        ListenOn::Tcp(address) => match bind(*address, options) {
            Ok(listener) => Ok((listener, None)),
            Err(error) => Err(cannot_listen(&listen.place, *address, options, &error)),
        },
        ListenOn::Udp(address) => match bind_packets(*address, options) {
            Ok(listener) => Ok((Listener::Udp(listener), None)),
            Err(error) => Err(cannot_listen(&listen.place, *address, options, &error)),
        },
        ListenOn::Unix(address) => {
            let address = if let ListenAt::Unix(with_mode) = &listen.at { with_mode } else { address };
            bind_unix(address).map_err(|error| cannot_listen_on_unix(&listen.place, address, &error))
        }
    }
}

/// Why the packets of a listener that stays open cannot take the way that `options` want.
pub(super) fn cannot_direct(listen: &Listen, on: &ListenOn, options: &SocketOptions) -> Option<Diagnostic> {
    let (ListenOn::Tcp(address) | ListenOn::Udp(address)) = on else { return None };
    let tried = stream_socket(options, *address).map(|socket| direct(options, &socket));
    let error = io::Error::other(tried.ok()?.err()?);
    Some(cannot_listen(&listen.place, *address, options, &error))
}

pub(super) fn cannot_listen(
    place: &Place,
    address: SocketAddr,
    options: &SocketOptions,
    error: &io::Error,
) -> Diagnostic {
    let help = match error.kind() {
        _ if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<OptionError>) => {
            "correct or remove it in streamSettings.sockopt"
        }
        io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another port",
        io::ErrorKind::PermissionDenied if options.transparent == Transparent::Tproxy => {
            "tproxy needs root or the capability CAP_NET_ADMIN"
        }
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
