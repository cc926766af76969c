//! Schedules of cron jobs: five fields, or a name for a common one. Errors are those of the parser that upstream uses.

use std::time::Duration;

use env::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A schedule that names no moment within this many days names none (29 February comes within eight years).
const DAYS_SEARCHED: u32 = 8 * 366;

/// When a cron job starts: which minutes, hours, days and months, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// `@every`: seconds from one start to the next, at least one.
    Every(u64),
}

/// Bit `n` stands for the value `n`; days of the month start at 1, of the week at Sunday with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub minutes: u64,
    pub hours: u64,
    pub days_of_month: u64,
    pub months: u64,
    pub days_of_week: u64,
    /// Whether the field was a star. If neither is, a day that fits one of them fits.
    pub any_day_of_month: bool,
    pub any_day_of_week: bool,
}

impl Schedule {
    /// The first moment after `after`, by the clocks of `zone`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Fields(fields) => fields.next(after, zone),
            Self::Every(seconds) => {
                let whole = after.to_jiff().as_second();
                let whole = jiff::Timestamp::from_second(whole).ok()?;
                Some(Timestamp::from_jiff(whole).saturating_add(Duration::from_secs(*seconds)))
            }
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_jiff().to_zoned(zone.clone());
        let mut date = start.date();
        let mut hour = start.hour();
        for _ in 0..DAYS_SEARCHED {
            if self.fits_day(date)
                && let Some(found) = self.first_in_day(date, hour, after, zone)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
            hour = 0;
        }
        None
    }

    fn fits_day(&self, date: Date) -> bool {
        let day = has(self.days_of_month, date.day());
        let weekday = has(self.days_of_week, date.weekday().to_sunday_zero_offset());
        // A restricted day of month and a restricted weekday are alternatives.
        let fits = if self.any_day_of_month || self.any_day_of_week {
            day && weekday
        } else {
            day || weekday
        };
        fits && has(self.months, date.month())
    }

    fn first_in_day(
        &self,
        date: Date,
        from_hour: i8,
        after: Timestamp,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        for hour in (from_hour..24).filter(|hour| has(self.hours, *hour)) {
            for minute in (0..60).filter(|minute| has(self.minutes, *minute)) {
                let zoned = date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?;
                // A time that the clocks skip does not happen; one they repeat happens once.
                let is_real = zoned.hour() == hour && zoned.minute() == minute;
                let found = Timestamp::from_jiff(zoned.timestamp());
                if is_real && found > after {
                    return Some(found);
                }
            }
        }
        None
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits & (1 << value) != 0
}

struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
    /// The value of the first name.
    first: u32,
}

const MINUTES: Bounds = Bounds {
    low: 0,
    high: 59,
    names: &[],
    first: 0,
};
const HOURS: Bounds = Bounds {
    low: 0,
    high: 23,
    names: &[],
    first: 0,
};
const DAYS: Bounds = Bounds {
    low: 1,
    high: 31,
    names: &[],
    first: 0,
};
const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
    first: 1,
};
const WEEKDAYS: Bounds = Bounds {
    low: 0,
    high: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    first: 0,
};

/// Reads a schedule. A time zone in front (`TZ=… `) is skipped: it is told apart in the cron job.
pub fn parse(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let text = without_zone(text);
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    };
    Ok(Schedule::Fields(Fields {
        minutes: field(minutes, &MINUTES)?,
        hours: field(hours, &HOURS)?,
        days_of_month: field(days, &DAYS)?,
        months: field(months, &MONTHS)?,
        days_of_week: field(weekdays, &WEEKDAYS)?,
        any_day_of_month: has_star(days),
        any_day_of_week: has_star(weekdays),
    }))
}

fn without_zone(text: &str) -> &str {
    match text
        .strip_prefix("TZ=")
        .or_else(|| text.strip_prefix("CRON_TZ="))
    {
        Some(rest) => rest.split_once(' ').map_or("", |(_, rest)| rest.trim()),
        None => text,
    }
}

fn descriptor(text: &str) -> Result<Schedule, String> {
    if let Some(duration) = text.strip_prefix("@every ") {
        let seconds = go_duration_seconds(duration).ok_or_else(|| {
            format!("failed to parse duration {text}: time: invalid duration {duration:?}")
        })?;
        return Ok(Schedule::Every(seconds.max(1)));
    }
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return Err(format!("unrecognized descriptor: {text}")),
    };
    parse(fields)
}

/// Whole seconds of a duration as Go writes it: `1h30m`.
fn go_duration_seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits =
            rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    // A duration that is too long for this is longer than any cluster lives.
    Some(
        std::time::Duration::try_from_secs_f64(seconds)
            .ok()?
            .as_secs(),
    )
}

fn has_star(field: &str) -> bool {
    field.split(',').any(|range| {
        let (low, step) = range.split_once('/').unwrap_or((range, "1"));
        matches!(low.split('-').next(), Some("*" | "?")) && matches!(step, "1" | "")
    })
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let mut bits = 0;
    for range in text.split(',').filter(|range| !range.is_empty()) {
        bits |= bits_of_range(range, bounds)?;
    }
    Ok(bits)
}

fn bits_of_range(range: &str, bounds: &Bounds) -> Result<u64, String> {
    let parts: Vec<&str> = range.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end) = match ends.as_slice() {
        ["*" | "?", ..] => (bounds.low, bounds.high),
        [only] => {
            let value = value(only, bounds)?;
            (value, value)
        }
        [low, high] => (value(low, bounds)?, value(high, bounds)?),
        _ => return Err(format!("too many hyphens: {range}")),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            // "N/step" means from N on.
            if ends.len() == 1 {
                end = bounds.high;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {range}")),
    };
    let Bounds { low, high, .. } = *bounds;
    if start < low {
        return Err(format!(
            "beginning of range ({start}) below minimum ({low}): {range}"
        ));
    }
    if end > high {
        return Err(format!(
            "end of range ({end}) above maximum ({high}): {range}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    if step == 0 {
        return Err(format!(
            "step of range should be a positive number: {range}"
        ));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    Ok((start..=end)
        .step_by(step)
        .fold(0, |bits, value| bits | 1 << value))
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds
        .names
        .iter()
        .zip(bounds.first..)
        .find(|(name, _)| **name == lower)
    {
        Some((_, value)) => Ok(value),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let number = text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                "value out of range"
            }
            _ => "invalid syntax",
        };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    })?;
    if number < 0 {
        return Err(format!("negative number ({number}) not allowed: {text}"));
    }
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lists_of_ranges_with_steps() {
        let Ok(Schedule::Fields(fields)) = parse("*/15 8-10 1 jan,MAR sun") else {
            panic!("a schedule")
        };
        assert_eq!(fields.minutes, 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(fields.hours, 0b111 << 8);
        assert_eq!(fields.months, 0b1010);
        assert!(!fields.any_day_of_month);
        assert_eq!(parse("@every 90s"), Ok(Schedule::Every(90)));
    }

    fn next(schedule: &str, zone: &str, after: &str) -> String {
        let zone = crate::time_zones::find(zone).expect("a zone");
        let after = Timestamp::parse(after).expect("a time");
        let next = parse(schedule).expect("a schedule").next(after, &zone);
        next.expect("a moment").to_seconds_string()
    }

    #[test]
    fn schedules_name_moments() {
        for (schedule, after, expected) in [
            (
                "*/1 * * * *",
                "2026-01-01T00:00:30Z",
                "2026-01-01T00:01:00Z",
            ),
            (
                "15,45 8-10 * * *",
                "2026-01-01T08:45:00Z",
                "2026-01-01T09:15:00Z",
            ),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            (
                "0 12 * * MON",
                "2026-01-01T00:00:00Z",
                "2026-01-05T12:00:00Z",
            ),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
        ] {
            assert_eq!(next(schedule, "UTC", after), expected, "{schedule}");
        }
    }

    #[test]
    fn a_schedule_follows_the_clocks_of_its_zone() {
        let berlin = |schedule, after| next(schedule, "Europe/Berlin", after);
        // Winter and summer time.
        assert_eq!(
            berlin("0 8 * * *", "2026-01-01T00:00:00Z"),
            "2026-01-01T07:00:00Z"
        );
        assert_eq!(
            berlin("0 8 * * *", "2026-07-01T00:00:00Z"),
            "2026-07-01T06:00:00Z"
        );
        // At two o'clock it is three: half past two comes on the day after.
        assert_eq!(
            berlin("30 2 * * *", "2026-03-29T00:00:00Z"),
            "2026-03-30T00:30:00Z"
        );
        assert_eq!(
            next("0 0 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z"),
            "2026-01-01T18:30:00Z"
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused_as_upstream_refuses_it() {
        assert_eq!(
            parse("every day"),
            Err("expected exactly 5 fields, found 2: [every day]".to_owned())
        );
        assert_eq!(
            parse("60 * * * *"),
            Err("end of range (60) above maximum (59): 60".to_owned())
        );
        assert_eq!(
            parse("x * * * *"),
            Err(
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"
                    .to_owned()
            )
        );
    }
}
