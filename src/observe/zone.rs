//! Local time, as V2Ray's log lines have it.

use tz::{DateTime, TimeZone};

/// The time zone of log lines. It is read as data, in safe code, and so gives the right time in a program
/// of many threads, summer time included.
#[derive(Clone, Debug)]
pub struct Zone {
    /// What `TZ` says; absent: the system's zone.
    name: Option<String>,
    zone: TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self { name: Some(String::new()), zone: TimeZone::utc() }
    }

    /// The zone that the environment variable `TZ` names, which is the argument; `None` where it is not
    /// set: the system's (`/etc/localtime`). What cannot be read means UTC, as Go has it (`time` package,
    /// `Location`).
    pub fn from_tz(tz: Option<&str>) -> Self {
        let zone = match tz {
            None => TimeZone::local(),
            Some("") => Ok(TimeZone::utc()),
            Some(name) => TimeZone::from_posix_tz(name),
        };
        Self { name: tz.map(Into::into), zone: zone.unwrap_or_else(|_| TimeZone::utc()) }
    }

    /// Reads the zone again, as the system's may have changed.
    pub(super) fn reload(&mut self) {
        *self = Self::from_tz(self.name.as_deref());
    }

    /// `2006/01/02 15:04:05` for seconds since 1970.
    pub(super) fn format(&self, unix_secs: i64) -> String {
        let Ok(t) = DateTime::from_timespec(unix_secs, 0, self.zone.as_ref()) else {
            return unix_secs.to_string();
        };
        let (year, month, day) = (t.year(), t.month(), t.month_day());
        format!("{year:04}/{month:02}/{day:02} {:02}:{:02}:{:02}", t.hour(), t.minute(), t.second())
    }
}

#[cfg(test)]
mod tests {
    use super::Zone;

    #[test]
    fn times_are_those_of_the_zone() {
        // `date -d @1136239445 '+%Y/%m/%d %H:%M:%S'` with each TZ; Go's reference time.
        for (tz, expected) in [
            ("", "2006/01/02 22:04:05"),
            ("CST-8", "2006/01/03 06:04:05"),
            ("MST7", "2006/01/02 15:04:05"),
            ("no such zone", "2006/01/02 22:04:05"),
        ] {
            assert_eq!(Zone::from_tz(Some(tz)).format(1_136_239_445), expected, "{tz:?}");
        }
    }

    #[test]
    fn summer_time_is_in_the_zone() {
        let zone = Zone::from_tz(Some("CET-1CEST,M3.5.0,M10.5.0/3"));
        assert_eq!(zone.format(1_767_225_600), "2026/01/01 01:00:00");
        assert_eq!(zone.format(1_782_864_000), "2026/07/01 02:00:00");
    }
}
