//! Which images the kubelet removes when the disk fills up: pure.

use std::time::Duration;

use cri::ImageId;
use env::Timestamp;

/// The kubelet's thresholds (`imageGCHighThresholdPercent`, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GarbagePolicy {
    /// Collection starts when the disk is fuller than this, 0 to 100; 100 never.
    pub high_threshold_percent: u8,
    /// And frees down to this.
    pub low_threshold_percent: u8,
    /// Younger images stay.
    pub minimum_age: Duration,
    /// Images unused for longer go at once, however empty the disk; zero never.
    pub maximum_age: Duration,
}

impl Default for GarbagePolicy {
    fn default() -> Self {
        Self {
            high_threshold_percent: 85,
            low_threshold_percent: 80,
            minimum_age: Duration::from_secs(120),
            maximum_age: Duration::ZERO,
        }
    }
}

/// The disk that holds the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    pub capacity_bytes: u64,
    pub available_bytes: u64,
}

/// One image as the kubelet has watched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    pub id: ImageId,
    pub size_bytes: u64,
    pub pinned: bool,
    /// A container, running or not, was made of it.
    pub in_use: bool,
    pub first_detected: Timestamp,
    pub last_used: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbagePlan {
    /// Least recently used first.
    pub remove: Vec<ImageId>,
    /// What had to be freed to reach the low threshold.
    pub wanted_bytes: u64,
    /// What the removed images take; layers they share with others stay.
    pub freed_bytes: u64,
}

pub fn plan_garbage(
    images: &[ImageUse],
    disk: DiskUsage,
    policy: GarbagePolicy,
    now: Timestamp,
) -> GarbagePlan {
    let mut candidates: Vec<&ImageUse> = images
        .iter()
        .filter(|image| !image.pinned && !image.in_use)
        .collect();
    candidates.sort_by_key(|image| (image.last_used, image.first_detected, image.id.clone()));
    let mut plan = GarbagePlan {
        wanted_bytes: wanted_bytes(disk, policy),
        ..GarbagePlan::default()
    };
    for image in candidates {
        let too_old = !policy.maximum_age.is_zero()
            && now.saturating_since(image.last_used) > policy.maximum_age;
        let old_enough = image.last_used < now
            && now.saturating_since(image.first_detected) >= policy.minimum_age;
        if too_old || (old_enough && plan.freed_bytes < plan.wanted_bytes) {
            plan.freed_bytes += image.size_bytes;
            plan.remove.push(image.id.clone());
        }
    }
    plan
}

fn wanted_bytes(disk: DiskUsage, policy: GarbagePolicy) -> u64 {
    if disk.capacity_bytes == 0 || policy.high_threshold_percent >= 100 {
        return 0;
    }
    let percent = |bytes: u64| u128::from(bytes) * 100 / u128::from(disk.capacity_bytes);
    let used_percent = 100 - percent(disk.available_bytes.min(disk.capacity_bytes));
    if used_percent < u128::from(policy.high_threshold_percent) {
        return 0;
    }
    let keep_free = u128::from(disk.capacity_bytes)
        * u128::from(100 - policy.low_threshold_percent.min(100))
        / 100;
    u64::try_from(keep_free)
        .unwrap_or(u64::MAX)
        .saturating_sub(disk.available_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, last_used: i64) -> ImageUse {
        ImageUse {
            id: ImageId(name.to_owned()),
            size_bytes: 10,
            pinned: false,
            in_use: false,
            first_detected: Timestamp::from_unix_seconds(0),
            last_used: Timestamp::from_unix_seconds(last_used),
        }
    }

    fn removed(images: &[ImageUse], available_bytes: u64, policy: GarbagePolicy) -> Vec<String> {
        let disk = DiskUsage {
            capacity_bytes: 100,
            available_bytes,
        };
        let plan = plan_garbage(images, disk, policy, Timestamp::from_unix_seconds(1000));
        plan.remove.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn the_least_recently_used_go_until_the_low_threshold_is_reached() {
        let images = [image("new", 900), image("old", 100), image("middle", 500)];
        assert_eq!(
            removed(&images, 16, GarbagePolicy::default()),
            Vec::<String>::new()
        );
        assert_eq!(removed(&images, 15, GarbagePolicy::default()), ["old"]);
        assert_eq!(
            removed(&images, 5, GarbagePolicy::default()),
            ["old", "middle"]
        );
    }

    #[test]
    fn pinned_used_and_young_images_stay() {
        let images = [
            ImageUse {
                pinned: true,
                ..image("pinned", 1)
            },
            ImageUse {
                in_use: true,
                ..image("used", 1)
            },
            ImageUse {
                first_detected: Timestamp::from_unix_seconds(990),
                ..image("young", 1)
            },
            image("just used", 1000),
        ];
        assert_eq!(
            removed(&images, 0, GarbagePolicy::default()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_maximum_age_holds_on_an_empty_disk_too() {
        let policy = GarbagePolicy {
            maximum_age: Duration::from_secs(600),
            ..GarbagePolicy::default()
        };
        assert_eq!(
            removed(&[image("stale", 100), image("fresh", 900)], 100, policy),
            ["stale"]
        );
    }
}
