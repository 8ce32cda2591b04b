//! Unix sockets that are listened on, and their files.
//!
//! A file belongs to whoever holds a lock on the file beside it, named like V2Ray's, so that neither takes the
//! other's socket (v2fly/v2ray-core `transport/internet/system_listener.go`, `filelocker_other.go`). A program that
//! was killed leaves both files behind: its lock is gone then, and nobody answers.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    os::fd::OwnedFd,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use wsray_config::{Padding, UnixAddress};

use super::{BACKLOG, Listener};

/// Why nothing listens on a unix socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindUnixError {
    /// Somebody answers there, or holds the lock.
    #[error("another program listens there")]
    InUse,
    /// The path is taken by a file that is no socket.
    #[error("a file that is no socket stands there")]
    NoSocket,
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The file of a socket that is listened on, and the lock beside it. Both are removed when it is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, as somebody may have put another file in its place.
    identity: (u64, u64),
    _lock: Lock,
}

impl SocketFile {
    /// Changes who may connect. What is not ours any more is left alone.
    pub fn set_mode(&self, mode: u32) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Its owner may.
            let _ = fs::set_permissions(&self.path, Permissions::from_mode(mode));
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Who may not remove it leaves it to the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a unix socket. The file of a dead program is replaced.
///
/// # Errors
/// [`BindUnixError`].
pub fn bind_unix(address: &UnixAddress) -> Result<(Listener, Option<SocketFile>), BindUnixError> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = match address {
        UnixAddress::Abstract { name, padding } => {
            socket.bind(&abstract_name(name, *padding)?)?;
            None
        }
        UnixAddress::File { path, mode } => Some(bind_file(&socket, Path::new(path), *mode)?),
    };
    socket.listen(BACKLOG)?;
    let socket = UnixListener::from_std(socket.into())?;
    Ok((Listener::Unix { socket, name: address.to_string() }, file))
}

/// A name begins with a zero (unix(7)).
fn abstract_name(name: &str, padding: Padding) -> io::Result<SockAddr> {
    let mut bytes = [b"\0", name.as_bytes()].concat();
    if padding == Padding::Full {
        bytes.resize(UnixAddress::MAX_BYTES + 1, 0);
    }
    SockAddr::unix(OsStr::from_bytes(&bytes))
}

fn bind_file(socket: &Socket, path: &Path, mode: Option<u32>) -> Result<SocketFile, BindUnixError> {
    let lock = Lock::take(path)?;
    remove_stale(path)?;
    bind_no_wider(socket, path, mode)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)?, _lock: lock };
    if let Some(mode) = mode {
        // The umask may have taken something. Nobody can connect before we listen, so nobody is late.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(file)
}

/// Makes the file with no more permissions than these, from its first moment: it gets those of the socket, less the umask
/// (Linux `net/unix/af_unix.c`, `unix_bind_bsd`).
fn bind_no_wider(socket: &Socket, path: &Path, mode: Option<u32>) -> io::Result<()> {
    if let Some(mode) = mode {
        File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(Permissions::from_mode(mode))?;
    }
    socket.bind(&SockAddr::unix(path)?)
}

/// Removes a socket on which nobody listens.
fn remove_stale(path: &Path) -> Result<(), BindUnixError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(BindUnixError::NoSocket);
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Ok(_) => Err(BindUnixError::InUse),
        Err(error) => Err(error.into()),
    }
}

/// Who holds it may bind the socket beside it, and nobody else. Its file is removed when it is dropped.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    /// Locked as long as it is open.
    _file: File,
}

/// A lock's file is removed at exit: one that was removed while we opened it protects nothing, and we try again.
const LOCK_ATTEMPTS: usize = 8;

impl Lock {
    fn take(socket: &Path) -> Result<Self, BindUnixError> {
        let mut path = socket.to_owned();
        path.as_mut_os_string().push(".lock");
        for _ in 0..LOCK_ATTEMPTS {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(BindUnixError::InUse),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Ok(()) => {}
            }
            let held = file.metadata()?;
            if identity(&path).is_ok_and(|identity| identity == (held.dev(), held.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
        Err(BindUnixError::InUse)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held: nobody else has one of this name.
        let _ = fs::remove_file(&self.path);
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wsray-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn file(path: &Path, mode: Option<u32>) -> UnixAddress {
        UnixAddress::File { path: path.to_str().unwrap().into(), mode }
    }

    #[tokio::test]
    async fn socket_file_has_its_mode_and_goes_with_its_listener() {
        let folder = folder("mode");
        let path = folder.join("a.sock");
        for mode in [0o600, 0o666] {
            let bound = bind_unix(&file(&path, Some(mode))).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            UnixStream::connect(&path).unwrap();
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "the socket and its lock");
            drop(bound);
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn file_is_never_open_to_more_than_its_mode_says() {
        let folder = folder("first");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let path = folder.join("a.sock");
        bind_no_wider(&socket, &path, Some(0o600)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn live_socket_is_refused_and_a_dead_one_replaced() {
        let folder = folder("stale");
        let path = folder.join("a.sock");
        let ours = bind_unix(&file(&path, None)).unwrap();
        assert!(matches!(bind_unix(&file(&path, None)), Err(BindUnixError::InUse)), "ours");
        drop(ours);
        // A program that knows nothing of the lock.
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(bind_unix(&file(&path, None)), Err(BindUnixError::InUse)), "another's");
        UnixStream::connect(&path).unwrap();
        drop(other);
        fs::write(folder.join("a.sock.lock"), "").unwrap();
        assert!(path.exists());
        drop(bind_unix(&file(&path, None)).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind_unix(&file(&path, None)), Err(BindUnixError::NoSocket)));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn file_in_the_place_of_ours_is_left_alone() {
        let folder = folder("moved");
        let path = folder.join("a.sock");
        let bound = bind_unix(&file(&path, None)).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(bound);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn abstract_name_is_padded_only_with_two_signs() {
        let name = format!("wsray-test-{}", std::process::id());
        for padding in [Padding::None, Padding::Full] {
            let address = UnixAddress::Abstract { name: name.clone(), padding };
            let (listener, file) = bind_unix(&address).unwrap();
            assert!(file.is_none());
            let bytes = match padding {
                Padding::None => format!("\0{name}").into_bytes(),
                Padding::Full => format!("\0{name:\0<107}").into_bytes(),
            };
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.connect(&SockAddr::unix(OsStr::from_bytes(&bytes)).unwrap()).unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            drop(client);
            let super::super::Accepted::Unix(mut accepted) = accepted else { panic!("TCP") };
            assert_eq!(accepted.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
