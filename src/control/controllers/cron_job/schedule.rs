//! Cron schedules: five fields, names, steps, ranges, and the `@` short forms.

use env::Timestamp;
use k8s_openapi::jiff::{self, ToSpan as _, tz::TimeZone};

/// A schedule that names no moment within this many days names none (29 February comes within eight years).
const DAYS_SEARCHED: u32 = 8 * 366;

/// Bits of the allowed values of each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A restricted day of month and a restricted weekday are alternatives.
    is_any_day: bool,
    is_any_weekday: bool,
    zone: TimeZone,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// `zone` is a name of the time zone database; empty: UTC, as the control plane's own.
    pub(super) fn parse(text: &str, zone: &str) -> Option<Self> {
        let zone = if zone.is_empty() {
            TimeZone::UTC
        } else {
            TimeZone::get(zone).ok()?
        };
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return None;
        };
        Some(Self {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            // Seven is Sunday as well.
            weekdays: field(weekdays, 0, 7, &WEEKDAYS).map(|bits| (bits | (bits >> 7)) & 0x7f)?,
            is_any_day: days.starts_with(['*', '?']),
            is_any_weekday: weekdays.starts_with(['*', '?']),
            zone,
        })
    }

    /// The first moment of the schedule after `after`.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let start = after.to_jiff().to_zoned(self.zone.clone());
        let start = start.checked_add(1.minute()).ok()?;
        let mut date = start.date();
        let mut from = (i64::from(start.hour()), i64::from(start.minute()));
        for _ in 0..DAYS_SEARCHED {
            if self.fits_day(date)
                && let Some(found) = self.first_in_day(date, from, after)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
            from = (0, 0);
        }
        None
    }

    fn fits_day(&self, date: jiff::civil::Date) -> bool {
        let has = |bits: u64, value: i64| bits & (1 << value) != 0;
        let day = has(self.days, i64::from(date.day()));
        let weekday = has(
            self.weekdays,
            i64::from(date.weekday().to_sunday_zero_offset()),
        );
        let fits = match (self.is_any_day, self.is_any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        fits && has(self.months, i64::from(date.month()))
    }

    fn first_in_day(
        &self,
        date: jiff::civil::Date,
        from: (i64, i64),
        after: Timestamp,
    ) -> Option<Timestamp> {
        let hours = (from.0..24).filter(|hour| self.hours & (1 << hour) != 0);
        for hour in hours {
            let first = if hour == from.0 { from.1 } else { 0 };
            for minute in (first..60).filter(|minute| self.minutes & (1 << minute) != 0) {
                let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
                let zoned = date
                    .at(hour, minute, 0, 0)
                    .to_zoned(self.zone.clone())
                    .ok()?;
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

fn field(text: &str, min: u32, max: u32, names: &[&str]) -> Option<u64> {
    text.split(',')
        .try_fold(0, |bits, part| Some(bits | range(part, min, max, names)?))
}

fn range(text: &str, min: u32, max: u32, names: &[&str]) -> Option<u64> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0)?),
        None => (text, 1),
    };
    let (first, last) = match range.split_once('-') {
        _ if matches!(range, "*" | "?") => (min, max.min(if names.len() == 7 { 6 } else { max })),
        Some((first, last)) => (value(first, min, names)?, value(last, min, names)?),
        // A step after a single value means from there on.
        None if text.contains('/') => (value(range, min, names)?, max),
        None => (value(range, min, names)?, value(range, min, names)?),
    };
    if first < min || last > max || first > last {
        return None;
    }
    let steps = usize::try_from(step).ok()?;
    Some(
        (first..=last)
            .step_by(steps)
            .fold(0, |bits, value| bits | (1 << value)),
    )
}

fn value(text: &str, min: u32, names: &[&str]) -> Option<u32> {
    let lower = text.to_lowercase();
    let named = names
        .iter()
        .position(|name| *name == lower)
        .and_then(|at| u32::try_from(at).ok());
    named.map(|at| at + min).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let schedule = Schedule::parse(schedule, "").expect("a schedule");
        schedule
            .next(Timestamp::parse(after).expect("a time"))
            .expect("a moment")
            .to_seconds_string()
    }

    #[test]
    fn schedules_name_moments() {
        assert_eq!(
            next("*/1 * * * *", "2026-01-01T00:00:30Z"),
            "2026-01-01T00:01:00Z"
        );
        assert_eq!(
            next("15,45 8-10 * * *", "2026-01-01T08:45:00Z"),
            "2026-01-01T09:15:00Z"
        );
        assert_eq!(
            next("0 0 29 2 *", "2026-01-01T00:00:00Z"),
            "2028-02-29T00:00:00Z"
        );
        assert_eq!(
            next("0 12 * * MON", "2026-01-01T00:00:00Z"),
            "2026-01-05T12:00:00Z"
        );
        assert_eq!(
            next("0 0 13 * 5", "2026-01-01T00:00:00Z"),
            "2026-01-02T00:00:00Z"
        );
        assert_eq!(
            next("@hourly", "2026-01-01T00:00:00Z"),
            "2026-01-01T01:00:00Z"
        );
        assert!(Schedule::parse("61 * * * *", "").is_none());
        assert!(Schedule::parse("* * * *", "").is_none());
    }
}
