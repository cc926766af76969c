//! The cells that come from metadata alone.

use env::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// How long an object has lived, as `kubectl` writes it: `5m`, `3d4h`.
pub(crate) fn age(metadata: &ObjectMeta, now: Timestamp) -> Value {
    match &metadata.creation_timestamp {
        Some(created) => human_duration(
            now.saturating_since(Timestamp::from_jiff(created.0))
                .as_secs(),
        )
        .into(),
        None => "<unknown>".into(),
    }
}

pub(crate) fn created_at(metadata: &ObjectMeta) -> Value {
    match &metadata.creation_timestamp {
        Some(created) => Timestamp::from_jiff(created.0).to_seconds_string().into(),
        None => "<unknown>".into(),
    }
}

/// A duration with two or three significant digits, as upstream's `duration.HumanDuration` rounds it.
pub fn human_duration(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_shows_what_matters_at_its_size() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (900, "15m"),
            (11_000, "3h3m"),
            (100_000, "27h"),
            (300_000, "3d11h"),
        ] {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
