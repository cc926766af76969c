//! A node that has a pod's images already starts it sooner.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PodSpec;

use super::{SCORE_MAX, Snapshot, images_of};
use crate::node::{NodeFacts, NodeInfo};

/// Sums of image sizes below this are as good as none, in bytes.
const SIZE_MIN: i64 = 23 << 20;
/// The sum above which more is no better, for each container, in bytes.
const SIZE_MAX_PER_CONTAINER: i64 = 1000 << 20;

pub(super) fn score(
    spec: &PodSpec,
    nodes: &[(&Arc<NodeFacts>, &NodeInfo)],
    total: usize,
    snapshot: &Snapshot<'_>,
) -> Vec<i64> {
    let images: Vec<String> = images_of(spec).into_iter().map(normal).collect();
    let spread: Vec<i64> = images
        .iter()
        .map(|image| {
            let having = snapshot
                .cluster
                .nodes()
                .filter(|(facts, _)| facts.images.contains_key(image))
                .count();
            i64::try_from(having).unwrap_or(i64::MAX)
        })
        .collect();
    let total = i64::try_from(total).unwrap_or(1).max(1);
    let largest = SIZE_MAX_PER_CONTAINER * i64::try_from(images.len()).unwrap_or(1).max(1);
    let score = |(facts, _): &(&Arc<NodeFacts>, &NodeInfo)| {
        // An image on few nodes counts less, so that one node does not draw everything.
        let sizes = images
            .iter()
            .zip(&spread)
            .filter_map(|(image, having)| Some(facts.images.get(image)? * having / total));
        let sum: i64 = sizes.sum();
        (sum.clamp(SIZE_MIN, largest) - SIZE_MIN) * SCORE_MAX / (largest - SIZE_MIN)
    };
    nodes.iter().map(score).collect()
}

/// An image without a tag means `latest`.
fn normal(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}
