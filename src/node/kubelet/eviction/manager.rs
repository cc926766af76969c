//! Looks at the node now and then, tells what it is short of, frees what nobody needs, and evicts one pod at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cri::{ContainerFilter, ImageId};
use k8s_openapi::api::core::v1::Pod;

use crate::events::Severity;
use crate::eviction::measure::{Measures, Shortage, shortages};
use crate::eviction::rank::{PodUsage, explain, rank};
use crate::images::{Disk, ImageGc, plan_image_gc, unused_images};
use crate::node::{Pressure, PressureState};
use crate::pods::facts::uid;
use crate::pods::{Eviction, PodHandle};
use crate::services::Services;

/// The kernel has no event for most of what is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// A shortage is told this long after it was seen last, so that pods do not come back at once.
const PRESSURE_KEPT: Duration = Duration::from_mins(5);
/// An evicted pod has this long to go before the next is chosen.
const EVICTED_GOES_IN: Duration = Duration::from_secs(30);
const IMAGES_EVERY: Duration = Duration::from_mins(5);

pub(crate) struct EvictionManager {
    services: Arc<Services>,
    pressure: Arc<PressureState>,
    seen: BTreeMap<Pressure, Duration>,
    /// The pod that was evicted last, and when.
    evicted: Option<(String, Duration)>,
    images: ImageGc,
    images_checked: Option<Duration>,
}

impl EvictionManager {
    pub(crate) fn new(services: Arc<Services>, pressure: Arc<PressureState>) -> Self {
        Self {
            services,
            pressure,
            seen: BTreeMap::new(),
            evicted: None,
            images: ImageGc::default(),
            images_checked: None,
        }
    }

    /// Runs until its caller ends it.
    pub(crate) async fn run(mut self) {
        loop {
            self.look().await;
            env::sleep(MEASURE_EVERY).await;
        }
    }

    async fn look(&mut self) {
        let images = self
            .services
            .images
            .fs_info()
            .await
            .map(|info| info.images.mountpoint)
            .unwrap_or_default();
        self.collect_images(&images).await;
        let found = self.measure(&images);
        self.tell(&found);
        let Some(first) = found.first() else { return };
        if first.pressure == Pressure::Disk {
            self.free_disk().await;
            if self
                .measure(&images)
                .iter()
                .all(|shortage| shortage.pressure != Pressure::Disk)
            {
                return;
            }
        }
        if !self.is_waiting_for_the_last() {
            self.evict_one(first).await;
        }
    }

    fn measure(&self, images: &std::path::Path) -> Vec<Shortage> {
        shortages(
            &Measures::take(&self.services.config.root_directory, images),
            &self.services.config.eviction,
        )
    }

    fn tell(&mut self, found: &[Shortage]) {
        let now = self.services.clock.monotonic();
        for shortage in found {
            self.seen.insert(shortage.pressure, now);
        }
        self.seen
            .retain(|_, at| now.saturating_sub(*at) < PRESSURE_KEPT);
        let pressure: BTreeSet<Pressure> = self.seen.keys().copied().collect();
        self.pressure.set(pressure);
    }

    fn is_waiting_for_the_last(&self) -> bool {
        let Some((uid, at)) = &self.evicted else {
            return false;
        };
        let is_active = self
            .services
            .pods_table
            .get(uid)
            .is_some_and(|pod| pod.is_active());
        is_active && self.services.clock.monotonic().saturating_sub(*at) < EVICTED_GOES_IN
    }

    async fn evict_one(&mut self, shortage: &Shortage) {
        let node = &self.services.config.node_name;
        let text = format!("Attempting to reclaim {}", shortage.resource);
        self.services
            .events
            .node(node, Severity::Warning, "EvictionThresholdMet", text);
        let pods = self.usage().await;
        let Some((pod, usage)) = rank(shortage.pressure, &pods).first().copied() else {
            return;
        };
        let message = format!(
            "The node was low on resource: {}. Threshold quantity: {}, available: {}. {}",
            shortage.resource,
            shortage.threshold,
            shortage.available,
            explain(shortage.pressure, pod, usage)
        );
        self.services
            .events
            .pod(pod, Severity::Warning, "Evicted", message.clone());
        if let Some(handle) = self.services.pods_table.get(uid(pod)) {
            handle.inputs.evict(Eviction {
                reason: "Evicted".to_owned(),
                message,
                grace_seconds: Some(0),
                disruption: Some("TerminationByKubelet"),
            });
        }
        self.evicted = Some((uid(pod).to_owned(), self.services.clock.monotonic()));
    }

    /// The active pods with what they use.
    async fn usage(&self) -> Vec<(Pod, PodUsage)> {
        let runtime = &self.services.runtime;
        let sandboxes = runtime.list_pod_sandboxes().await.unwrap_or_default();
        let stats = runtime
            .list_pod_sandbox_stats()
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "the runtime does not tell what pods use");
                Vec::new()
            });
        let usage_of = |uid: &str| {
            let own = sandboxes.iter().filter(|sandbox| sandbox.pod.uid == uid);
            let own = own.filter_map(|sandbox| stats.iter().find(|stats| stats.id == sandbox.id));
            own.fold(PodUsage::default(), |mut usage, stats| {
                usage.memory += stats.memory.working_set_bytes;
                usage.processes += stats.processes.count;
                for container in &stats.containers {
                    usage.disk += container.writable_layer.used_bytes;
                    usage.containers.push((
                        container.name.clone(),
                        container.memory.working_set_bytes,
                        container.writable_layer.used_bytes,
                    ));
                }
                usage
            })
        };
        let active = self
            .services
            .pods_table
            .all()
            .into_iter()
            .filter(PodHandle::is_active);
        active
            .filter_map(|pod| pod.pod())
            .map(|pod| {
                let usage = usage_of(uid(&pod));
                (pod, usage)
            })
            .collect()
    }

    async fn images_in_use(&self) -> Option<BTreeSet<ImageId>> {
        match self
            .services
            .runtime
            .list_containers(&ContainerFilter::default())
            .await
        {
            Ok(containers) => Some(
                containers
                    .into_iter()
                    .map(|container| container.image_id)
                    .collect(),
            ),
            Err(error) => {
                // Without the list nothing may be removed.
                tracing::warn!(%error, "the runtime does not tell which images are in use");
                None
            }
        }
    }

    async fn collect_images(&mut self, mountpoint: &std::path::Path) {
        let now = self.services.clock.monotonic();
        if self
            .images_checked
            .is_some_and(|at| now.saturating_sub(at) < IMAGES_EVERY)
        {
            return;
        }
        self.images_checked = Some(now);
        let (Some(used), Ok(images)) = (
            self.images_in_use().await,
            self.services.images.list_images().await,
        ) else {
            return;
        };
        let wall = self.services.clock.now();
        self.images.observe(&images, &used, wall);
        let Ok(disk) = linux::system::disk_info(mountpoint) else {
            return;
        };
        let disk = Disk {
            capacity: disk.total_bytes,
            available: disk.available_bytes,
        };
        self.remove(plan_image_gc(
            &images,
            &used,
            &self.images,
            disk,
            self.services.config.image_gc,
            wall,
        ))
        .await;
    }

    async fn free_disk(&self) {
        let (Some(used), Ok(images)) = (
            self.images_in_use().await,
            self.services.images.list_images().await,
        ) else {
            return;
        };
        self.remove(unused_images(&images, &used)).await;
    }

    async fn remove(&self, images: Vec<ImageId>) {
        for image in images {
            match self.services.images.remove_image(&image).await {
                Ok(()) => tracing::info!(%image, "an image that nobody uses is removed"),
                Err(error) => {
                    let text = format!("failed to remove image {image}: {error}");
                    self.services.events.node(
                        &self.services.config.node_name,
                        Severity::Warning,
                        "FreeDiskSpaceFailed",
                        text,
                    );
                }
            }
        }
    }
}
