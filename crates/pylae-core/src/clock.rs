// SPDX-License-Identifier: Apache-2.0
//! What time is it? The only source of wall-clock time, and of its texts.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Year, month 1–12, day, hour, minute, second, weekday 0 = Sunday, of seconds since the epoch.
fn civil(seconds: i64) -> (i64, u32, u32, u32, u32, u32, u32) {
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400) as u32;
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day, rest / 3600, rest / 60 % 60, rest % 60, (days + 4).rem_euclid(7) as u32)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Texts of the current second, made once a second.
pub struct Clock {
    second: std::cell::Cell<u64>,
    texts: std::cell::RefCell<Texts>,
    /// Seconds east of Greenwich, for the logs.
    offset_s: i64,
}

#[derive(Default, Clone)]
struct Texts {
    http: String,
    access: String,
    error: String,
}

impl Clock {
    /// `offset_s`: seconds east of Greenwich, for the logs.
    pub fn new(offset_s: i64) -> Self {
        Clock { second: std::cell::Cell::new(u64::MAX), texts: std::cell::RefCell::default(), offset_s }
    }

    fn refresh(&self) {
        let second = now_ms() / 1000;
        if second == self.second.replace(second) {
            return;
        }
        let (year, month, day, hour, minute, s, weekday) = civil(second as i64);
        let http = format!("{}, {day:02} {} {year} {hour:02}:{minute:02}:{s:02} GMT", DAYS[weekday as usize], MONTHS[month as usize - 1]);
        let (year, month, day, hour, minute, s, _) = civil(second as i64 + self.offset_s);
        let sign = if self.offset_s < 0 { '-' } else { '+' };
        let offset = self.offset_s.unsigned_abs() / 60;
        let access = format!(
            "{day:02}/{}/{year}:{hour:02}:{minute:02}:{s:02} {sign}{:02}{:02}",
            MONTHS[month as usize - 1],
            offset / 60,
            offset % 60
        );
        let error = format!("{year}/{month:02}/{day:02} {hour:02}:{minute:02}:{s:02}");
        *self.texts.borrow_mut() = Texts { http, access, error };
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
    pub fn with_http_date<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        self.refresh();
        f(&self.texts.borrow().http)
    }

    /// `22/Nov/2026:23:47:20 +0000`.
    pub fn with_access_time<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        self.refresh();
        f(&self.texts.borrow().access)
    }

    /// `2026/11/22 23:46:15`.
    pub fn error_time(&self) -> String {
        self.refresh();
        self.texts.borrow().error.clone()
    }
}

/// `2026-11-22T23:46:15.123Z` (RFC 3339).
pub fn rfc3339_ms(at_ms: u64) -> String {
    let (year, month, day, hour, minute, second, _) = civil((at_ms / 1000) as i64);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", at_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_civil_dates() {
        assert_eq!(civil(0), (1970, 1, 1, 0, 0, 0, 4));
        assert_eq!(civil(784_111_777), (1994, 11, 6, 8, 49, 37, 0));
        assert_eq!(civil(1_709_164_800), (2024, 2, 29, 0, 0, 0, 4));
        assert_eq!(rfc3339_ms(784_111_777_123), "1994-11-06T08:49:37.123Z");
    }
}
