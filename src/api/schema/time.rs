//! Times and durations in the text forms of the API, read with Go's tolerance and written in the one canonical way.

use std::fmt::Write as _;

/// A point in time; `nanoseconds` counts forward, also before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime {
    pub seconds: i64,
    pub nanoseconds: u32,
}

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Seconds of 0001-01-01T00:00:00Z: Go's zero time, which the API writes as `null`.
pub const ZERO_TIME_SECONDS: i64 = -62_135_596_800;

impl UnixTime {
    /// Reads an RFC 3339 time; fractions of a second are legal and kept.
    pub fn parse(text: &str) -> Result<Self, String> {
        Reader {
            text,
            rest: text,
            layout: RFC3339,
        }
        .time()
    }

    /// Reads a `MicroTime`, which has to have exactly six decimals.
    pub fn parse_micro(text: &str) -> Result<Self, String> {
        Reader {
            text,
            rest: text,
            layout: RFC3339_MICRO,
        }
        .time()
    }

    pub fn is_zero(self) -> bool {
        self.seconds == ZERO_TIME_SECONDS && self.nanoseconds == 0
    }

    /// `2006-01-02T15:04:05Z`
    pub fn to_seconds_text(self) -> String {
        let mut text = self.date_and_time();
        text.push('Z');
        text
    }

    /// `2006-01-02T15:04:05.000000Z`
    pub fn to_micros_text(self) -> String {
        let mut text = self.date_and_time();
        write!(text, ".{:06}Z", self.nanoseconds / 1000).expect("a string takes all");
        text
    }

    fn date_and_time(self) -> String {
        let days = self.seconds.div_euclid(86_400);
        let second = self.seconds.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
            second % 60
        )
    }
}

/// The date of a day counted from 1970-01-01 in the proleptic Gregorian calendar.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn time(mut self) -> Result<UnixTime, String> {
        let year = self.digits(4, "2006")?;
        self.literal("-")?;
        let month = self.digits(2, "01")?;
        self.in_range(month, 1, 12, "month")?;
        self.literal("-")?;
        let day = self.digits(2, "02")?;
        self.literal("T")?;
        let hour = self.digits(2, "15")?;
        self.in_range(hour, 0, 23, "hour")?;
        self.literal(":")?;
        let minute = self.digits(2, "04")?;
        self.in_range(minute, 0, 59, "minute")?;
        self.literal(":")?;
        let second = self.digits(2, "05")?;
        self.in_range(second, 0, 59, "second")?;
        let nanoseconds = self.fraction()?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(format!(
                "parsing time {:?}: extra text: {:?}",
                self.text, self.rest
            ));
        }
        self.in_range(day, 1, days_in_month(year, month), "day")?;
        let days = days_from_civil(year, month, day);
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Ok(UnixTime {
            seconds,
            nanoseconds,
        })
    }

    fn cannot_parse(&self, rest: &str, element: &str) -> String {
        let (text, layout) = (self.text, self.layout);
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")
    }

    fn in_range(&self, value: i64, low: i64, high: i64, what: &str) -> Result<(), String> {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(format!("parsing time {:?}: {what} out of range", self.text))
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<i64, String> {
        let digits = self
            .rest
            .get(..count)
            .filter(|found| found.bytes().all(|b| b.is_ascii_digit()));
        let Some(digits) = digits else {
            return Err(self.cannot_parse(self.rest, element));
        };
        self.rest = &self.rest[count..];
        Ok(digits.parse().expect("these are digits"))
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.cannot_parse(self.rest, text)),
        }
    }

    fn fraction(&mut self) -> Result<u32, String> {
        let micro = self.layout == RFC3339_MICRO;
        let Some(after) = self.rest.strip_prefix(['.', ',']) else {
            if micro {
                return Err(self.cannot_parse(self.rest, ".000000"));
            }
            return Ok(0);
        };
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 || (micro && length != 6) {
            let element = if micro { ".000000" } else { "Z07:00" };
            return Err(self.cannot_parse(self.rest, element));
        }
        let mut nanoseconds = 0;
        for place in 0..9 {
            let digit = after.as_bytes()[..length]
                .get(place)
                .map_or(0, |byte| byte - b'0');
            nanoseconds = nanoseconds * 10 + u32::from(digit);
        }
        self.rest = &after[length..];
        Ok(nanoseconds)
    }

    fn offset(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let bytes = self.rest.as_bytes();
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let well_formed = matches!(bytes.first(), Some(b'+' | b'-'))
            && is_digit(1)
            && is_digit(2)
            && bytes.get(3) == Some(&b':')
            && is_digit(4)
            && is_digit(5);
        if !well_formed {
            return Err(self.cannot_parse(self.rest, "Z07:00"));
        }
        let two = |at: usize| i64::from(bytes[at] - b'0') * 10 + i64::from(bytes[at + 1] - b'0');
        let (hours, minutes) = (two(1), two(4));
        self.in_range(hours, 0, 24, "time zone offset hour")?;
        self.in_range(minutes, 0, 60, "time zone offset minute")?;
        let sign = if bytes[0] == b'-' { -1 } else { 1 };
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

/// Reads a Go duration such as `1h30m` or `-1.5s`, in nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .bytes()
            .take_while(|b| !b.is_ascii_digit() && *b != b'.')
            .count();
        let (unit, after) = after.split_at(unit_end);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some(nanoseconds) = unit_nanoseconds(unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let part = scaled(number, nanoseconds);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(invalid)?;
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total += i128::from(digit - b'0') * place;
    }
    Some(total)
}

/// Writes nanoseconds as Go prints a duration: `1h30m0s`, `1.5s`, `100ms`, `0s`.
pub fn format_duration(nanoseconds: i64) -> String {
    let magnitude = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    if magnitude == 0 {
        return "0s".to_owned();
    }
    for (unit, length) in [("ns", 1000), ("µs", 1_000_000), ("ms", 1_000_000_000)] {
        if magnitude < length {
            return format!("{sign}{}{unit}", decimal(magnitude, length / 1000));
        }
    }
    let seconds = magnitude / 1_000_000_000;
    let fraction = magnitude % 1_000_000_000;
    let last = decimal(seconds % 60 * 1_000_000_000 + fraction, 1_000_000_000);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{sign}{last}s"),
        (0, minutes) => format!("{sign}{minutes}m{last}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{last}s"),
    }
}

fn decimal(value: u64, unit: u64) -> String {
    let (whole, mut fraction, mut width) = (value / unit, value % unit, 0);
    let mut place = unit;
    while place > 1 {
        place /= 10;
        width += 1;
    }
    if fraction == 0 {
        return whole.to_string();
    }
    while fraction % 10 == 0 {
        fraction /= 10;
        width -= 1;
    }
    format!("{whole}.{fraction:0width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_seconds() {
        for (text, expected) in [
            ("2024-02-29T12:30:01Z", "2024-02-29T12:30:01Z"),
            (
                "2024-02-29T12:30:01.987654321+02:00",
                "2024-02-29T10:30:01Z",
            ),
            ("1969-12-31T23:59:59-00:30", "1970-01-01T00:29:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(UnixTime::parse(text).unwrap().to_seconds_text(), expected);
        }
        assert!(UnixTime::parse("0001-01-01T00:00:00Z").unwrap().is_zero());
        let micro = UnixTime::parse_micro("2024-01-01T00:00:00.000012Z").unwrap();
        assert_eq!(micro.to_micros_text(), "2024-01-01T00:00:00.000012Z");
    }

    #[test]
    fn a_wrong_time_is_refused_in_gos_words() {
        assert_eq!(
            UnixTime::parse("yesterday").unwrap_err(),
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": \
             cannot parse \"yesterday\" as \"2006\""
        );
        assert_eq!(
            UnixTime::parse("2023-02-29T00:00:00Z").unwrap_err(),
            "parsing time \"2023-02-29T00:00:00Z\": day out of range"
        );
    }

    #[test]
    fn durations_print_as_in_go() {
        for (text, expected) in [
            ("90m", "1h30m0s"),
            ("1.5s", "1.5s"),
            ("100ms", "100ms"),
            ("0", "0s"),
            ("-61s", "-1m1s"),
            ("1us", "1µs"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), expected);
        }
        assert_eq!(
            parse_duration("1").unwrap_err(),
            "time: missing unit in duration \"1\""
        );
    }
}
