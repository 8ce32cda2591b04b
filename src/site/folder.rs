//! A folder of files as a web site: GET and HEAD over HTTP/1.1.

use std::{
    fmt::Write as _,
    fs::{self, File, Metadata},
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, timeout, timeout_at};
use wsray_ws::{BodyLength, Request, RequestError};

use super::{
    HEAD_LIMIT, NEXT_REQUEST, Visit, VisitError, goodbye,
    page::{self, Body, Connection},
    range::{self, Part},
};
use crate::transport::{Acceptor, Channel, HandshakeError, Judged, Visitor};

/// A folder.
#[derive(Debug)]
pub(super) struct Folder {
    /// Without symbolic links.
    root: PathBuf,
}

/// What is shown of a folder.
const INDEX: &str = "index.html";

/// What is shown where there is nothing, if the site has it.
const NOT_FOUND_PAGE: &str = "404.html";

/// The only hidden name that is served (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// What is read from a file at once.
const BLOCK: usize = 64 * 1024;

/// How long a visitor may take to take a block, as nginx's `send_timeout`
/// (nginx `src/http/ngx_http_core_module.c`).
const TAKE_LIMIT: Duration = Duration::from_mins(1);

/// The most of a request's body that is read, to be thrown away.
const MOST_BODY: u64 = 64 * 1024;

/// What a request gets.
#[derive(Debug)]
enum Answer {
    /// A file, with what its name says it holds.
    File(File, Metadata, &'static str),
    /// It stands under another path, with a slash at its end.
    Moved(String),
    /// There is no such thing; the page of the site that says so.
    Missing(Option<(File, Metadata)>),
    /// Something nobody asks by following links.
    Bad,
}

impl Folder {
    /// # Errors
    /// When it is none, or cannot be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(path)?;
        fs::read_dir(&root)?;
        Ok(Self { root })
    }

    /// Answers one request after the other.
    pub(super) async fn visit(&self, acceptor: &Acceptor, visitor: Visitor) -> Result<Visit, VisitError> {
        let Visitor { mut channel, request: mut bytes, who, .. } = visitor;
        let mut head_limit = None;
        loop {
            match acceptor.judge(&bytes) {
                Judged::Incomplete => {
                    let (what, limit) = if bytes.is_empty() {
                        ("the next request", Instant::now() + NEXT_REQUEST)
                    } else {
                        // However it is cut, a head has one limit from its first byte on.
                        ("a request", *head_limit.get_or_insert_with(|| Instant::now() + HEAD_LIMIT))
                    };
                    if read(&mut channel, &mut bytes, what, limit).await? == 0 {
                        return Ok(Visit::Over);
                    }
                }
                Judged::Tunnel(upgrade) => {
                    bytes.drain(..upgrade.used);
                    let accepted = acceptor.upgrade(Box::new(channel), upgrade, bytes, who).await?;
                    return Ok(Visit::Tunnel(Box::new(accepted)));
                }
                Judged::Other { used, request, .. } => {
                    head_limit = None;
                    bytes.drain(..used);
                    let skipped = skip_body(&mut channel, &mut bytes, &request).await?;
                    let stays = skipped && request.keeps_alive();
                    let connection = if stays { Connection::Stays } else { Connection::Closes };
                    self.answer(&mut channel, &request, connection).await?;
                    if !stays {
                        break;
                    }
                }
                Judged::Garbage(error) => {
                    let answer = page::error(status_of(&error), Connection::Closes, Body::Sent);
                    write(&mut channel, &answer).await?;
                    break;
                }
            }
        }
        goodbye(channel).await;
        Ok(Visit::Over)
    }

    async fn answer(
        &self,
        channel: &mut Channel,
        request: &Request,
        connection: Connection,
    ) -> Result<(), VisitError> {
        let body = if request.method() == "HEAD" { Body::Omitted } else { Body::Sent };
        if !matches!(request.method(), "GET" | "HEAD") {
            let allow = [("Allow", "GET, HEAD")];
            let answer = page::with_page("405 Method Not Allowed", &allow, connection, body);
            return write(channel, &answer).await;
        }
        let (root, path) = (self.root.clone(), request.path());
        let found = tokio::task::spawn_blocking(move || find(&root, &path)).await.unwrap_or(Answer::Bad);
        let answer = match found {
            Answer::File(file, metadata, kind) => {
                let tag = entity_tag(&metadata);
                let modified = metadata.modified().map(httpdate::fmt_http_date).unwrap_or_default();
                if is_known(request, &tag, &modified) {
                    let headers = [("Last-Modified", modified.as_str()), ("ETag", tag.as_str())];
                    page::head("304 Not Modified", &headers, connection)
                } else {
                    let part = part_of(request, &metadata, &tag, &modified);
                    let more = [("Last-Modified", modified.as_str()), ("ETag", tag.as_str())];
                    return serve(channel, (file, metadata.len()), part, (kind, &more), connection, body)
                        .await;
                }
            }
            Answer::Missing(Some((file, metadata))) => {
                let head = file_head("404 Not Found", metadata.len(), "text/html", &[], connection);
                return send(channel, head, file, metadata.len(), body).await;
            }
            Answer::Missing(None) => page::error("404 Not Found", connection, body),
            Answer::Moved(to) => {
                page::with_page("301 Moved Permanently", &[("Location", to.as_str())], connection, body)
            }
            Answer::Bad => page::error("400 Bad Request", connection, body),
        };
        write(channel, &answer).await
    }
}

/// The part that is wanted, if the visitor's earlier parts are of the same file (RFC 9110 section 13.1.5).
fn part_of(request: &Request, metadata: &Metadata, tag: &str, modified: &str) -> Part {
    let is_same = request.header("If-Range").is_none_or(|known| known == tag || known == modified);
    match request.header("Range").filter(|_| is_same && request.method() == "GET") {
        Some(value) => range::part(value.as_bytes(), metadata.len()),
        None => Part::Whole,
    }
}

/// Sends a part of a file of so many bytes, with what it holds and these headers.
async fn serve(
    channel: &mut Channel,
    (mut file, length): (File, u64),
    part: Part,
    (kind, more): (&str, &[(&str, &str)]),
    connection: Connection,
    body: Body,
) -> Result<(), VisitError> {
    let with = |name, value| [more, &[(name, value)]].concat();
    match part {
        Part::Whole => {
            let head = file_head("200 OK", length, kind, &with("Accept-Ranges", "bytes"), connection);
            send(channel, head, file, length, body).await
        }
        Part::Bytes { first, last } => {
            let range = format!("bytes {first}-{last}/{length}");
            let count = last - first + 1;
            let headers = with("Content-Range", &range);
            let head = file_head("206 Partial Content", count, kind, &headers, connection);
            file.seek(io::SeekFrom::Start(first)).map_err(HandshakeError::Io)?;
            send(channel, head, file, count, body).await
        }
        Part::Missing => {
            let range = format!("bytes */{length}");
            let headers = [("Content-Range", range.as_str())];
            write(channel, &page::with_page("416 Range Not Satisfiable", &headers, connection, body)).await
        }
    }
}

fn file_head(
    status: &str,
    length: u64,
    kind: &str,
    more: &[(&str, &str)],
    connection: Connection,
) -> Vec<u8> {
    let length = length.to_string();
    let mut headers = vec![("Content-Type", kind), ("Content-Length", length.as_str())];
    headers.extend(more);
    page::head(status, &headers, connection)
}

/// The file behind a decoded path. Blocks.
fn find(root: &Path, path: &[u8]) -> Answer {
    let Some(names) = names(path) else { return Answer::Bad };
    let missing = || {
        let page = root.join(NOT_FOUND_PAGE);
        Answer::Missing(open_inside(root, &page).filter(|(_, metadata)| metadata.is_file()))
    };
    let is_hidden = |name: &&str| name.starts_with('.') && name.as_bytes() != WELL_KNOWN;
    if names.iter().any(is_hidden) {
        return missing();
    }
    let mut wanted = names.iter().fold(root.to_owned(), |path, name| path.join(name));
    let ends_with_slash = path.ends_with(b"/");
    let is_folder = fs::metadata(&wanted).is_ok_and(|metadata| metadata.is_dir());
    match (is_folder, ends_with_slash) {
        (true, true) => wanted.push(INDEX),
        // Only of a folder inside: what stands outside is not even told to exist.
        (true, false) if fs::canonicalize(&wanted).is_ok_and(|real| real.starts_with(root)) => {
            return Answer::Moved(location(&names));
        }
        (false, false) => {}
        _ => return missing(),
    }
    let kind = wanted.file_name().and_then(|name| name.to_str()).map_or("", page::content_type);
    match open_inside(root, &wanted) {
        Some((file, metadata)) => Answer::File(file, metadata, kind),
        None => missing(),
    }
}

/// The names a path is made of, empty ones and `.` left out; `None` for what no link says: a way up, a backslash, a
/// byte 0, or what is no UTF-8.
fn names(path: &[u8]) -> Option<Vec<&str>> {
    let path = if path.is_empty() { b"/" } else { path };
    let path = std::str::from_utf8(path).ok()?.strip_prefix('/')?;
    let is_odd = |name: &str| name == ".." || name.contains(['\0', '\\']);
    let names: Vec<_> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    (!names.iter().any(|name| is_odd(name))).then_some(names)
}

/// The path of a folder, fit for a header.
fn location(names: &[&str]) -> String {
    let mut text = String::from("/");
    for name in names {
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text.push('/');
    }
    text
}

/// A regular file whose real place is inside `root`. Looked at before it is opened: opening a pipe would wait.
fn open_inside(root: &Path, path: &Path) -> Option<(File, Metadata)> {
    let real = fs::canonicalize(path).ok().filter(|real| real.starts_with(root))?;
    fs::metadata(&real).ok().filter(Metadata::is_file)?;
    let file = File::open(&real).ok()?;
    let metadata = file.metadata().ok()?;
    Some((file, metadata))
}

/// Made of time and length, as most web servers do.
fn entity_tag(metadata: &Metadata) -> String {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let seconds = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("\"{seconds:x}-{:x}\"", metadata.len())
}

/// Whether the visitor has it already (RFC 9110 section 13.1).
fn is_known(request: &Request, tag: &str, modified: &str) -> bool {
    let mut tags = request.values("If-None-Match").peekable();
    if tags.peek().is_some() {
        let same = |known: &[u8]| {
            let known = known.trim_ascii();
            known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes()
        };
        return tags.flat_map(|line| line.split(|&byte| byte == b',')).any(same);
    }
    request.header("If-Modified-Since").is_some_and(|since| since == modified && !since.is_empty())
}

fn status_of(error: &RequestError) -> &'static str {
    match error {
        RequestError::Version => "505 HTTP Version Not Supported",
        RequestError::HeadTooLarge { .. } | RequestError::TooManyHeaders { .. } => {
            "431 Request Header Fields Too Large"
        }
        _ => "400 Bad Request",
    }
}

/// Sends a head, and so many bytes of a file behind it.
async fn send(
    channel: &mut Channel,
    head: Vec<u8>,
    mut file: File,
    length: u64,
    body: Body,
) -> Result<(), VisitError> {
    write(channel, &head).await?;
    let mut left = if body == Body::Sent { length } else { 0 };
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let reading = tokio::task::spawn_blocking(move || {
            let mut block = vec![0; most];
            let read = file.read(&mut block)?;
            block.truncate(read);
            Ok::<_, io::Error>((file, block))
        });
        let failed = |error: io::Error| VisitError::Connection(HandshakeError::Io(error));
        let (same, block) = reading.await.map_err(io::Error::other).and_then(|read| read).map_err(failed)?;
        if block.is_empty() {
            // It has become shorter: only a reset says that the rest is missing.
            channel.socket().reset_unless_complete();
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        write(channel, &block).await?;
        left -= block.len() as u64;
        file = same;
    }
    Ok(())
}

async fn write(channel: &mut Channel, bytes: &[u8]) -> Result<(), VisitError> {
    let late = |_| VisitError::Slow { what: "taking a page" };
    Ok(timeout(TAKE_LIMIT, channel.write_all(bytes)).await.map_err(late)??)
}

/// Reads more; 0: the visitor has left.
async fn read(
    channel: &mut Channel,
    bytes: &mut Vec<u8>,
    what: &'static str,
    limit: Instant,
) -> Result<usize, VisitError> {
    let late = |_| VisitError::Slow { what };
    Ok(timeout_at(limit, channel.read_some(bytes)).await.map_err(late)??)
}

/// Reads a body and throws it away; `false` when it is too long, when nobody knows how long, or when it is not on its way.
async fn skip_body(
    channel: &mut Channel,
    bytes: &mut Vec<u8>,
    request: &Request,
) -> Result<bool, VisitError> {
    let BodyLength::Bytes(length) = request.body() else { return Ok(false) };
    if length > MOST_BODY {
        return Ok(false);
    }
    let length = usize::try_from(length).unwrap_or(0);
    // Who waits to be told to go on is told the answer instead (RFC 9110 section 10.1.1).
    let waits = request.header("Expect").is_some_and(|expects| expects.eq_ignore_ascii_case("100-continue"));
    if waits && bytes.len() < length {
        return Ok(false);
    }
    let limit = Instant::now() + HEAD_LIMIT;
    while bytes.len() < length {
        if read(channel, bytes, "a request", limit).await? == 0 {
            return Ok(false);
        }
    }
    bytes.drain(..length);
    Ok(true)
}
