//! What the environment says.

use std::{
    env,
    ffi::OsString,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

/// What the environment says, read once at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `V2RAY_LOCATION_CONFIG`: where `config.json` may be.
    pub config_dir: Option<PathBuf>,
    /// `V2RAY_LOCATION_CONFDIR`: a directory of configuration files.
    pub confdir: Option<PathBuf>,
    /// `V2RAY_LOCATION_ASSET`: where `geoip.dat` and `geosite.dat` may be.
    pub asset_dir: Option<PathBuf>,
    /// `TZ`, for the times in the log.
    pub tz: Option<String>,
    /// Where the program itself is; V2Ray looks for `config.json` there, too.
    pub program_dir: Option<PathBuf>,
}

/// A listening socket that the process was started with (`sd_listen_fds(3)`).
#[derive(Debug)]
pub enum HandedOver {
    /// For TCP.
    Tcp(TcpListener),
    /// On a unix socket.
    Unix(UnixListener),
}

impl HandedOver {
    /// All of them; to be called once. Sockets of other kinds are left alone.
    pub fn all() -> Vec<Self> {
        let mut handed = listenfd::ListenFd::from_env();
        let count = handed.len();
        let take = |index| {
            if let Ok(Some(tcp)) = handed.take_tcp_listener(index) {
                return Some(Self::Tcp(tcp));
            }
            handed.take_unix_listener(index).ok().flatten().map(Self::Unix)
        };
        (0..count).filter_map(take).collect()
    }
}

impl Environment {
    /// Reads the process's environment.
    pub fn read() -> Self {
        let program = env::current_exe().ok();
        Self::from_lookup(|name| env::var_os(name), program.as_deref())
    }

    /// A variable that a configuration names (`env:NAME`); `None` if it is not set or no text.
    pub fn variable(name: &str) -> Option<String> {
        // Some names make the system's lookup panic.
        if name.is_empty() || name.contains(['=', '\0']) { None } else { env::var(name).ok() }
    }

    /// An environment where `lookup` gives the value of a variable and `program` is the program's file.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>, program: Option<&Path>) -> Self {
        // V2Ray reads both spellings, this one first (`common/platform/platform.go`). Empty means unset.
        let location = |what: &str| {
            let dotted = format!("v2ray.location.{what}");
            let upper = format!("V2RAY_LOCATION_{}", what.to_ascii_uppercase());
            let value = lookup(&dotted).filter(|value| !value.is_empty()).or_else(|| lookup(&upper));
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        Self {
            config_dir: location("config"),
            confdir: location("confdir"),
            asset_dir: location("asset"),
            tz: lookup("TZ").and_then(|value| value.into_string().ok()),
            program_dir: program.and_then(Path::parent).map(Path::to_owned),
        }
    }
}
