//! The table of events at the end of a description.

use env::Timestamp;
use serde_json::Value;

use super::text::{Text, text};
use crate::times::age;

pub(super) fn table(events: &[Value], now: Timestamp, out: &mut Text) {
    if events.is_empty() {
        return out.field(0, "Events", "<none>");
    }
    out.line(0, "Events:");
    out.line(1, "Type\tReason\tAge\tFrom\tMessage");
    out.line(1, "----\t------\t----\t----\t-------");
    for event in events {
        let from = match text(&event["source"]["component"]) {
            empty if empty.is_empty() => text(&event["reportingComponent"]),
            component => component,
        };
        out.line(
            1,
            format!(
                "{}\t{}\t{}\t{from}\t{}",
                text(&event["type"]),
                text(&event["reason"]),
                seen(event, now),
                text(&event["message"]).trim()
            ),
        );
    }
}

/// When an event was last seen, whichever form it has.
pub(super) fn last_seen(event: &Value) -> &str {
    let moments = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["firstTimestamp"],
        &event["metadata"]["creationTimestamp"],
    ];
    moments
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
}

/// `5s`, or `5s (x3 over 2m)` for what came several times.
fn seen(event: &Value, now: Timestamp) -> String {
    let last = age(last_seen(event), now);
    let series = event["series"]["count"].as_i64();
    let count = series.or(event["count"].as_i64()).unwrap_or(1);
    let first = event["firstTimestamp"]
        .as_str()
        .or(event["eventTime"].as_str())
        .unwrap_or_default();
    if count > 1 {
        format!("{last} (x{count} over {})", age(first, now))
    } else {
        last
    }
}
