//! The heads and small pages of a site of files. Pure.
//!
//! They name no program: whoever wants to look like a certain web server puts that one behind the inbound.

use std::{fmt::Write as _, time::SystemTime};

/// Whether the connection stays open behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Stays,
    Closes,
}

/// Whether the body follows the head; it does not for HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Sent,
    Omitted,
}

/// A head with these headers, Date and Connection beside them.
pub(super) fn head(status: &str, headers: &[(&str, &str)], connection: Connection) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\n");
    for (name, value) in headers {
        // Writing to a String cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let connection = if connection == Connection::Stays { "keep-alive" } else { "close" };
    let _ = write!(head, "Connection: {connection}\r\n\r\n");
    head.into_bytes()
}

/// A whole answer that says no.
pub(super) fn error(status: &str, connection: Connection, body: Body) -> Vec<u8> {
    with_page(status, &[], connection, body)
}

/// A whole answer with the status as its page.
pub(super) fn with_page(status: &str, more: &[(&str, &str)], connection: Connection, body: Body) -> Vec<u8> {
    let page = format!(
        "<!DOCTYPE html>\n<html>\n<head><title>{status}</title></head>\n<body>\n<h1>{status}</h1>\n</body>\n</html>\n"
    );
    let length = page.len().to_string();
    let mut headers = vec![("Content-Type", "text/html"), ("Content-Length", length.as_str())];
    headers.extend(more);
    let mut answer = head(status, &headers, connection);
    if body == Body::Sent {
        answer.extend_from_slice(page.as_bytes());
    }
    answer
}

/// What a file holds, by the end of its name (the usual ones of <https://www.iana.org/assignments/media-types>).
pub(super) fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "js" | "mjs" => "text/javascript",
        "txt" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "xml" => "text/xml",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "rss" => "application/rss+xml",
        "atom" => "application/atom+xml",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/vnd.microsoft.icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}
