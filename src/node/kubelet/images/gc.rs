//! Which images go when the disk fills: those unused for longest, never pinned ones, never those in use.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cri::{Image, ImageId};
use env::Timestamp;

/// When images are collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcPolicy {
    /// Percent of the disk in use that starts a collection.
    pub high_percent: u64,
    /// Percent that a collection aims at.
    pub low_percent: u64,
    /// A younger image stays.
    pub min_age: Duration,
}

impl Default for GcPolicy {
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            min_age: Duration::from_mins(2),
        }
    }
}

/// When each image was first seen and last used.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageGc {
    seen: BTreeMap<ImageId, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Timestamp,
    used: Timestamp,
}

impl ImageGc {
    /// Notes what is there and what is in use now.
    pub(crate) fn observe(&mut self, images: &[Image], used: &BTreeSet<ImageId>, now: Timestamp) {
        self.seen
            .retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let seen = self.seen.entry(image.id.clone()).or_insert(Seen {
                first: now,
                used: Timestamp::UNIX_EPOCH,
            });
            if used.contains(&image.id) {
                seen.used = now;
            }
        }
    }

    fn of(&self, id: &ImageId) -> Option<Seen> {
        self.seen.get(id).copied()
    }
}

/// How full the images' disk is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
}

/// The images to remove, in order; empty while the disk is below the high mark.
pub(crate) fn plan_image_gc(
    images: &[Image],
    used: &BTreeSet<ImageId>,
    gc: &ImageGc,
    disk: Disk,
    policy: GcPolicy,
    now: Timestamp,
) -> Vec<ImageId> {
    if disk.capacity == 0
        || (disk.capacity - disk.available.min(disk.capacity)) * 100
            < disk.capacity * policy.high_percent
    {
        return Vec::new();
    }
    let target = disk.capacity / 100 * (100 - policy.low_percent);
    let mut missing = target.saturating_sub(disk.available);
    let mut free: Vec<(&Image, Seen)> = images
        .iter()
        .filter(|image| !image.pinned && !used.contains(&image.id))
        .filter_map(|image| Some((image, gc.of(&image.id)?)))
        .filter(|(_, seen)| now.saturating_since(seen.first) >= policy.min_age)
        .collect();
    free.sort_by(|left, right| {
        (left.1.used, left.1.first, &left.0.id).cmp(&(right.1.used, right.1.first, &right.0.id))
    });
    let mut remove = Vec::new();
    for (image, _) in free {
        if missing == 0 {
            break;
        }
        missing = missing.saturating_sub(image.size_bytes);
        remove.push(image.id.clone());
    }
    remove
}

/// Every image that nobody uses, for a node short of disk.
pub(crate) fn unused_images(images: &[Image], used: &BTreeSet<ImageId>) -> Vec<ImageId> {
    images
        .iter()
        .filter(|image| !image.pinned && !used.contains(&image.id))
        .map(|image| image.id.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, pinned: bool) -> Image {
        Image {
            id: ImageId(name.to_owned()),
            repo_tags: vec![],
            repo_digests: vec![],
            size_bytes: 4,
            config: cri::ImageConfig::default(),
            pinned,
        }
    }

    #[test]
    fn the_longest_unused_go_first_and_pinned_or_used_ones_never() {
        let at = Timestamp::from_unix_seconds;
        let images = [
            image("old", false),
            image("new", false),
            image("pinned", true),
            image("used", false),
        ];
        let mut gc = ImageGc::default();
        gc.observe(&images, &[ImageId("new".into())].into(), at(100));
        let used = [ImageId("used".into())].into();
        gc.observe(&images, &used, at(500));
        let disk = Disk {
            capacity: 100,
            available: 14,
        };
        let plan = |disk| plan_image_gc(&images, &used, &gc, disk, GcPolicy::default(), at(500));
        assert_eq!(plan(disk), [ImageId("old".into()), ImageId("new".into())]);
        assert!(
            plan(Disk {
                capacity: 100,
                available: 16
            })
            .is_empty()
        );
    }
}
