//! Spans and moments as people read and write them.

use std::time::Duration;

use env::Timestamp;

use crate::error::{Error, Result};

/// `5s`, `1m30s`, `2h`: a Go duration; a plain number are seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let nanoseconds = schema::parse_duration(text).map_err(|_| {
        Error::usage(format!(
            "invalid argument {text:?}: time: invalid duration {text:?}"
        ))
    })?;
    u64::try_from(nanoseconds)
        .map(Duration::from_nanos)
        .map_err(|_| {
            Error::usage(format!(
                "invalid argument {text:?}: the duration is negative"
            ))
        })
}

/// How long ago a moment was, in one or two units: `5s`, `3m20s`, `2d`.
pub(crate) fn age(moment: &str, now: Timestamp) -> String {
    match Timestamp::parse(moment) {
        None => "<unknown>".to_owned(),
        Some(moment) => human(now.saturating_since(moment)),
    }
}

/// A span in the two greatest units that say something, as tables show it.
pub(crate) fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |major: u64, unit: char, minor: u64, small: char| match minor {
        0 => format!("{major}{unit}"),
        minor => format!("{major}{unit}{minor}{small}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// `Mon, 02 Jan 2006 15:04:05 +0000`, the form of `describe`.
pub(crate) fn long(moment: &str) -> String {
    match Timestamp::parse(moment) {
        None => "<unset>".to_owned(),
        Some(moment) => moment
            .to_jiff()
            .strftime("%a, %d %b %Y %H:%M:%S +0000")
            .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_units_that_matter() {
        let human = |seconds| human(Duration::from_secs(seconds));
        assert_eq!(human(119), "119s");
        assert_eq!(human(130), "2m10s");
        assert_eq!(human(700), "11m");
        assert_eq!(human(3 * 3600 + 60), "3h1m");
        assert_eq!(human(3 * 86_400), "3d");
        assert_eq!(human(100 * 86_400), "100d");
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(
            parse_duration("1m30s").expect("a duration"),
            Duration::from_secs(90)
        );
        assert_eq!(
            parse_duration("30").expect("seconds"),
            Duration::from_secs(30)
        );
        assert!(parse_duration("x").is_err());
        assert_eq!(
            long("2026-11-24T11:00:00Z"),
            "Tue, 24 Nov 2026 11:00:00 +0000"
        );
    }
}
