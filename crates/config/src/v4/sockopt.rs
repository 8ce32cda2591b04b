//! `sockopt`, in the spellings of V2Ray and Xray.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::values;
use crate::{
    BufferSizes, Family, FastOpen, HappyEyeballs, KeepAlive, SocketOptions, Transparent, keys,
    node::{Node, Parsed},
    object::Object,
};

/// Reads what both listeners and connections have.
pub(super) fn options(sockopt: Option<&Object<'_>>) -> Parsed<SocketOptions> {
    let Some(sockopt) = sockopt else { return Ok(SocketOptions::default()) };
    let mark = sockopt.number("mark", "a mark", 0..=u32::MAX);
    let device = sockopt.find_any(&["bindToDevice", "interface"]).map(|node| device(&node)).transpose();
    let fast_open = fast_open(sockopt);
    let fast_open_queue = fast_open_queue(sockopt);
    let multipath = [sockopt.flag("mptcp"), sockopt.flag("tcpMptcp")];
    let keep_alive = keep_alive(sockopt);
    let congestion = sockopt.text("tcpCongestion", "the name of a congestion control");
    let user_timeout = sockopt.number("tcpUserTimeout", "milliseconds", 0..=i32::MAX.unsigned_abs());
    let max_segment = sockopt.number("tcpMaxSeg", "bytes", 0..=32767);
    let buffers = buffers(sockopt);
    let only_v6 = sockopt.flag("V6Only");
    let transparent = transparent(sockopt);
    let millis = |millis: u32| Duration::from_millis(millis.into());
    let short = |bytes: u32| u16::try_from(bytes).ok().and_then(NonZeroU16::new).map(NonZeroU16::get);
    Ok(SocketOptions {
        place: Some(sockopt.node.place()),
        mark: mark?.and_then(NonZeroU32::new),
        device: device?.flatten(),
        fast_open: fast_open?,
        fast_open_queue: fast_open_queue?,
        multipath: multipath.into_iter().collect::<Parsed<Vec<_>>>()?.contains(&true),
        keep_alive: keep_alive?,
        congestion: congestion?.map(str::to_owned),
        user_timeout: user_timeout?.filter(|millis| *millis > 0).map(millis),
        max_segment: max_segment?.and_then(short),
        buffers: buffers?,
        only_v6: only_v6?,
        transparent: transparent?,
    })
}

fn device(node: &Node<'_>) -> Parsed<Option<String>> {
    /// `IFNAMSIZ` less the final zero byte (Linux `include/uapi/linux/if.h`).
    const LONGEST: usize = 15;
    let name = node.text("the name of a network device")?;
    if name.len() > LONGEST || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(node.expected(
            &format!("the name of a network device, of at most {LONGEST} bytes"),
            "write one that ip link shows, such as \"eth0\"",
        ));
    }
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

/// V2Ray's `true` and `false`, and Xray's length of the queue, below 0 for off.
fn fast_open(sockopt: &Object<'_>) -> Parsed<Option<FastOpen>> {
    let Some(node) = sockopt.find("tcpFastOpen") else { return Ok(None) };
    if node.is_negative() {
        return Ok(Some(FastOpen::Off));
    }
    if node.is_number() {
        let length = node.number(FAST_OPEN_QUEUE, 0..=u32::MAX)?;
        return Ok((length > 0).then_some(FastOpen::On));
    }
    Ok(Some(if node.flag()? { FastOpen::On } else { FastOpen::Off }))
}

/// V2Ray's own key, else Xray's number.
fn fast_open_queue(sockopt: &Object<'_>) -> Parsed<Option<NonZeroU32>> {
    let length = sockopt.number("tcpFastOpenQueueLength", FAST_OPEN_QUEUE, 0..=LONGEST_QUEUE)?;
    let number = sockopt.find("tcpFastOpen").filter(|node| node.is_number() && !node.is_negative());
    let number = number.map(|node| node.number(FAST_OPEN_QUEUE, 0..=u32::MAX)).transpose()?;
    let length = length.filter(|length| *length > 0).or(number);
    Ok(length.and_then(|length| NonZeroU32::new(length.min(LONGEST_QUEUE))))
}

const FAST_OPEN_QUEUE: &str = "the length of a queue";

/// What the kernel takes; it uses no more than the sysctl net.core.somaxconn (Linux `include/linux/tcp.h`).
const LONGEST_QUEUE: u32 = i32::MAX.unsigned_abs();

/// Xray switches probes off below 0.
fn keep_alive(sockopt: &Object<'_>) -> Parsed<KeepAlive> {
    let keys = ["tcpKeepAliveIdle", "tcpKeepAliveInterval"];
    if keys.iter().filter_map(|key| sockopt.find(key)).any(|node| node.is_negative()) {
        return Ok(KeepAlive::Off);
    }
    // What the kernel takes (Linux `include/net/tcp.h`).
    let [idle, interval] = keys.map(|key| sockopt.number(key, "seconds", 0..=32767));
    let seconds = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(seconds.into()));
    Ok(KeepAlive::On { idle: idle?.and_then(seconds), interval: interval?.and_then(seconds) })
}

fn buffers(sockopt: &Object<'_>) -> Parsed<BufferSizes> {
    let [receive, send] =
        ["rxBufSize", "txBufSize"].map(|key| sockopt.number(key, "bytes", 0..=i32::MAX.unsigned_abs()));
    let beyond_limit = sockopt.flag("forceBufSize")?;
    let positive = |bytes: &u32| *bytes > 0;
    Ok(BufferSizes { receive: receive?.filter(positive), send: send?.filter(positive), beyond_limit })
}

fn transparent(sockopt: &Object<'_>) -> Parsed<Transparent> {
    const MODES: values::Names = values::Names {
        what: "a kind of transparent proxy",
        known: &["off", "redirect", "tproxy"],
        foreign: &[],
        foreign_help: "",
    };
    let Some(node) = sockopt.find("tproxy") else { return Ok(Transparent::Off) };
    let name = node.text(MODES.what)?;
    match name.to_ascii_lowercase().as_str() {
        "" | "off" => Ok(Transparent::Off),
        "redirect" => Ok(Transparent::Redirect),
        "tproxy" => Ok(Transparent::Tproxy),
        _ => Err(MODES.unknown(&node, name)),
    }
}

/// Reads `happyEyeballs`. Where Xray's 0 stands for "one after the other", wsray keeps its own value.
pub(super) fn happy_eyeballs(sockopt: &Object<'_>) -> Parsed<HappyEyeballs> {
    let mut eyeballs = HappyEyeballs::default();
    let Some(node) = sockopt.find("happyEyeballs") else { return Ok(eyeballs) };
    let object = node.object(keys::HAPPY_EYEBALLS)?;
    let first = object.flag("prioritizeIPv6");
    let delay = object.number("tryDelayMs", "milliseconds", 0..=60_000);
    let interleave = object.number("interleave", "a number of addresses", 0..=u32::MAX);
    let at_once = object.number("maxConcurrentTry", "a number of attempts", 0..=u32::MAX);
    if first? {
        eyeballs.first = Some(Family::V6);
    }
    if let Some(millis) = delay?.filter(|millis| *millis > 0) {
        eyeballs.delay = Duration::from_millis(millis.into());
    }
    eyeballs.interleave = interleave?.and_then(NonZeroU32::new).unwrap_or(eyeballs.interleave);
    eyeballs.at_once = at_once?.and_then(NonZeroU32::new).unwrap_or(eyeballs.at_once);
    Ok(eyeballs)
}
