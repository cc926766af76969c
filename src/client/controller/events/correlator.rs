//! Which events are written, counted, combined or dropped. Limits are those of client-go's recorder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use env::Timestamp;

use super::Event;

/// Series, groups and objects remembered; the one seen longest ago makes room.
const REMEMBERED_MAX: usize = 256;
/// Events that differ in nothing but their message are combined beyond this many messages…
const SIMILAR_MAX: usize = 10;
/// … within this time.
const SIMILAR_WITHIN: Duration = Duration::from_mins(10);
/// Events about one object at once; afterwards one per `REFILL`.
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_mins(5);

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Drop,
    Create {
        key: String,
        message: String,
    },
    Count {
        key: String,
        name: String,
        count: u32,
        message: String,
    },
}

#[derive(Default)]
pub(super) struct Correlator {
    series: Remembered<Series>,
    groups: Remembered<Group>,
    objects: Remembered<Budget>,
}

/// An event that was written, and how often it happened.
struct Series {
    name: String,
    count: u32,
}

/// Events with the same object, type and reason.
struct Group {
    messages: BTreeSet<u64>,
    last: Timestamp,
}

struct Budget {
    left: u32,
    refilled: Timestamp,
}

impl Correlator {
    pub(super) fn judge(&mut self, event: &Event, now: Timestamp) -> Verdict {
        let object = format!(
            "{}/{}/{}",
            event.regarding.kind.as_deref().unwrap_or_default(),
            event.regarding.namespace.as_deref().unwrap_or_default(),
            event
                .regarding
                .uid
                .as_deref()
                .or(event.regarding.name.as_deref())
                .unwrap_or_default(),
        );
        let field = event.regarding.field_path.as_deref().unwrap_or_default();
        let group = format!(
            "{object}/{field}/{}/{}",
            event.event_type.as_str(),
            event.reason
        );
        let (key, message) = if self.combine(&group, &event.message, now) {
            (
                group,
                format!("(combined from similar events): {}", event.message),
            )
        } else {
            (format!("{group}/{}", event.message), event.message.clone())
        };
        if !self.afford(&object, now) {
            return Verdict::Drop;
        }
        match self.series.get_mut(&key, now) {
            Some(series) => {
                series.count += 1;
                Verdict::Count {
                    key,
                    name: series.name.clone(),
                    count: series.count,
                    message,
                }
            }
            None => Verdict::Create { key, message },
        }
    }

    /// The event of this key is in the API under this name.
    pub(super) fn written(&mut self, key: &str, name: String, now: Timestamp) {
        self.series.insert(key, Series { name, count: 1 }, now);
    }

    fn combine(&mut self, group: &str, message: &str, now: Timestamp) -> bool {
        let fingerprint = fingerprint(message);
        match self.groups.get_mut(group, now) {
            Some(known) if now.saturating_since(known.last) <= SIMILAR_WITHIN => {
                known.last = now;
                if known.messages.len() < SIMILAR_MAX {
                    known.messages.insert(fingerprint);
                    return false;
                }
                !known.messages.contains(&fingerprint)
            }
            _ => {
                let messages = BTreeSet::from([fingerprint]);
                self.groups.insert(
                    group,
                    Group {
                        messages,
                        last: now,
                    },
                    now,
                );
                false
            }
        }
    }

    fn afford(&mut self, object: &str, now: Timestamp) -> bool {
        let Some(budget) = self.objects.get_mut(object, now) else {
            self.objects.insert(
                object,
                Budget {
                    left: BURST - 1,
                    refilled: now,
                },
                now,
            );
            return true;
        };
        let earned = now.saturating_since(budget.refilled).as_secs() / REFILL.as_secs();
        if earned > 0 {
            budget.left = budget
                .left
                .saturating_add(u32::try_from(earned).unwrap_or(BURST))
                .min(BURST);
            budget.refilled = now;
        }
        let is_affordable = budget.left > 0;
        budget.left = budget.left.saturating_sub(1);
        is_affordable
    }
}

/// FNV-1a: texts are told apart, not protected.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Remembered<T>(BTreeMap<Box<str>, (Timestamp, T)>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Remembered<T> {
    fn get_mut(&mut self, key: &str, now: Timestamp) -> Option<&mut T> {
        let (used, value) = self.0.get_mut(key)?;
        *used = now;
        Some(value)
    }

    fn insert(&mut self, key: &str, value: T, now: Timestamp) {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(key) {
            let oldest = self
                .0
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(key.into(), (now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventType;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn event(message: &str) -> Event {
        let regarding = ObjectReference {
            uid: Some("u".into()),
            ..ObjectReference::default()
        };
        Event {
            regarding,
            event_type: EventType::Normal,
            reason: "Reason".into(),
            message: message.into(),
        }
    }

    #[test]
    fn the_same_event_is_counted() {
        let now = Timestamp::UNIX_EPOCH;
        let mut correlator = Correlator::default();
        let Verdict::Create { key, .. } = correlator.judge(&event("m"), now) else {
            panic!("a first event")
        };
        correlator.written(&key, "e.1".into(), now);
        assert!(matches!(
            correlator.judge(&event("m"), now),
            Verdict::Count { count: 2, .. }
        ));
        assert!(matches!(
            correlator.judge(&event("other"), now),
            Verdict::Create { .. }
        ));
    }

    #[test]
    fn many_similar_events_are_combined() {
        let now = Timestamp::UNIX_EPOCH;
        let mut correlator = Correlator::default();
        for number in 0..SIMILAR_MAX {
            correlator.judge(&event(&number.to_string()), now);
        }
        let Verdict::Create { message, .. } = correlator.judge(&event("more"), now) else {
            panic!("a first one")
        };
        assert_eq!(message, "(combined from similar events): more");
    }

    #[test]
    fn an_object_with_too_many_events_is_cut_off_for_a_while() {
        let now = Timestamp::UNIX_EPOCH;
        let mut correlator = Correlator::default();
        let verdicts: Vec<_> = (0..=BURST)
            .map(|_| correlator.judge(&event("m"), now))
            .collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Drop));
        assert_ne!(
            correlator.judge(&event("m"), now.saturating_add(REFILL)),
            Verdict::Drop
        );
    }
}
