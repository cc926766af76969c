//! What the node has and what pods may use of it.

use apimachinery::Quantity;
use semantics::resources::Amounts;

use crate::config::Config;

/// Measured once when the kubelet starts.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    pub capacity: Amounts,
    pub allocatable: Amounts,
}

impl Capacity {
    /// Reads /proc, /sys and the file system of the root directory.
    pub fn measure(config: &Config) -> linux::Result<Self> {
        let memory = linux::system::memory_info()?;
        let disk = linux::system::disk_info(&config.root_directory)
            .or_else(|_| linux::system::disk_info(std::path::Path::new("/")))?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let bytes = |bytes: u64| Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut capacity: Amounts = [
            (
                "cpu",
                Quantity::from_units(i64::try_from(cores).unwrap_or(i64::MAX)),
            ),
            (
                "memory",
                Quantity::parse(&format!("{}Ki", memory.total_bytes / 1024))
                    .unwrap_or(bytes(memory.total_bytes)),
            ),
            (
                "ephemeral-storage",
                Quantity::parse(&format!("{}Ki", disk.total_bytes / 1024))
                    .unwrap_or(bytes(disk.total_bytes)),
            ),
            ("pods", Quantity::from_units(i64::from(config.pods_max))),
        ]
        .map(|(name, amount)| (name.to_owned(), amount))
        .into();
        capacity.extend(huge_pages());
        Ok(Self {
            allocatable: allocatable(&capacity, config),
            capacity,
        })
    }

    pub(crate) fn memory_capacity(&self) -> i64 {
        self.capacity
            .get("memory")
            .map_or(i64::MAX, |bytes| bytes.units())
    }
}

fn allocatable(capacity: &Amounts, config: &Config) -> Amounts {
    let huge: i64 = capacity
        .iter()
        .filter(|(name, _)| name.starts_with("hugepages-"))
        .map(|(_, bytes)| bytes.units())
        .sum();
    let mut allocatable = capacity.clone();
    let mut keep_back = |name: &str, amount: Quantity| {
        if let Some(left) = allocatable.get_mut(name) {
            *left = left.saturating_sub(amount);
            if left.is_negative() {
                *left = Quantity::ZERO;
            }
        }
    };
    keep_back("cpu", Quantity::from_millis(config.reserved_cpu_millis));
    // Huge pages are taken from memory and cannot be used as such.
    keep_back(
        "memory",
        Quantity::from_bytes(
            config.reserved_memory_bytes + huge + config.eviction.memory_available_bytes,
        ),
    );
    let disk = capacity
        .get("ephemeral-storage")
        .map_or(0, |bytes| bytes.units());
    let evicted_at =
        disk / 100 * i64::try_from(config.eviction.nodefs_available_percent).unwrap_or(0);
    keep_back("ephemeral-storage", Quantity::from_bytes(evicted_at));
    allocatable
}

/// `hugepages-2Mi` and so on, by the kernel's directories.
fn huge_pages() -> Amounts {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Amounts::new();
    };
    let mut found = Amounts::new();
    for size in sizes.flatten() {
        let name = size.file_name().to_string_lossy().into_owned();
        let kilobytes = name
            .strip_prefix("hugepages-")
            .and_then(|rest| rest.strip_suffix("kB"))
            .and_then(|kb| kb.parse::<i64>().ok());
        let count = std::fs::read_to_string(size.path().join("nr_hugepages"))
            .ok()
            .and_then(|text| text.trim().parse::<i64>().ok());
        if let (Some(kilobytes), Some(count)) = (kilobytes, count) {
            let page = Quantity::from_bytes(kilobytes * 1024);
            found.insert(
                format!("hugepages-{page}"),
                Quantity::from_bytes(kilobytes * 1024 * count),
            );
        }
    }
    found
}
