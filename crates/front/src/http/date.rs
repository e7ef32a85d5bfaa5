//! Dates as log files and programs write them.

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `06/Nov/1994:08:49:37 +0000`, as Apache writes them.
pub(crate) fn apache(time: SystemTime) -> String {
    let [day, month, year, clock] = parts(time);
    format!("{day}/{month}/{year}:{clock} +0000")
}

/// `1994-11-06T08:49:37Z` (RFC 3339).
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let [day, month, year, clock] = parts(time);
    let month = MONTHS.iter().position(|name| *name == month).map_or(1, |index| index + 1);
    format!("{year}-{month:02}-{day}T{clock}Z")
}

/// Day, month, year and time of an HTTP date, which has them at fixed places.
fn parts(time: SystemTime) -> [String; 4] {
    /// 9999-12-31: later ones have no form, and no clock that is right says one.
    const LAST: Duration = Duration::from_secs(253_402_214_400);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LAST);
    let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    [5..7, 8..11, 12..16, 17..25].map(|place| text[place].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_their_forms() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(apache(time), "06/Nov/1994:08:49:37 +0000");
        assert_eq!(rfc3339(time), "1994-11-06T08:49:37Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40)), "9999-12-31T00:00:00Z");
    }
}
