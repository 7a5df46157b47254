//! The date, for the names of folders and the heads of reports.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in UTC, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    seconds_since_1970: u64,
}

impl Moment {
    pub fn now() -> Self {
        Self { seconds_since_1970: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()) }
    }

    /// As `20260131-235959`: names that sort by time.
    pub fn compact(self) -> String {
        let (year, month, day) = civil_date(self.seconds_since_1970 / 86_400);
        let (hour, minute, second) = self.time_of_day();
        format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
    }

    /// As `2026-01-31 23:59`, for people.
    pub fn readable(self) -> String {
        let (year, month, day) = civil_date(self.seconds_since_1970 / 86_400);
        let (hour, minute, _) = self.time_of_day();
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }

    fn time_of_day(self) -> (u64, u64, u64) {
        let in_day = self.seconds_since_1970 % 86_400;
        (in_day / 3600, in_day / 60 % 60, in_day % 60)
    }
}

/// Days since 1970-01-01 as (year, month, day).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let is_leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_513), (2026, 3, 1));
        assert_eq!(civil_date(20_453), (2025, 12, 31));
    }

    #[test]
    fn a_moment_is_written_in_two_ways() {
        let moment = Moment { seconds_since_1970: 20_513 * 86_400 + 7 * 3600 + 5 * 60 + 9 };
        assert_eq!(moment.compact(), "20260301-070509");
        assert_eq!(moment.readable(), "2026-03-01 07:05");
    }
}
