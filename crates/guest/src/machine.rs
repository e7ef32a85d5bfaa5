//! What this machine can carry, and how large a pool that makes.
//!
//! A pool reserves address space and mappings when the process starts, and keeps memory warm while it runs. Too large, it does
//! not start in a small container or takes memory from the guests; too small, it refuses calls the machine could answer. So it
//! is made from what the machine says.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::engine::{self, PoolSize};

/// Of x86-64 and 64-bit ARM with four levels of page tables.
const ADDRESS_SPACE_BYTES: u64 = 1 << 47;

/// What Linux allows where nothing else is said.
const MAPPINGS: u64 = 65_530;

/// What one place in a pool reserves: a linear memory with its guard, a stack, and tables.
const RESERVED_BYTES: u64 = (4 << 30) + (64 << 20);

/// Mappings of one place: a stack and its guard page, and four of a sandbox: its memory in front of what is in it from the start,
/// that, the memory behind it, and what cannot be used.
const MAPPINGS_PER_PLACE: u64 = 2 + 4;

/// Mappings of the process itself: its libraries, heap and threads, and room for sandboxes of modules that take turns in one place and
/// leave it in more pieces.
const MAPPINGS_OF_PROCESS: u64 = 1024;

/// Of the mappings, so many parts are for the code of modules that are loaded: a thousand modules of an ordinary machine.
const CODE_PARTS: u64 = 3;
const PARTS: u64 = 64;

/// Mappings of a loaded module: what is only read of its code, what runs, and what is written once.
const MAPPINGS_PER_MODULE: u64 = 3;

/// Memory that a small guest takes with all that is made for it.
const GUEST_BYTES: u64 = 256 << 10;

/// Ten thousand calls at once, and what is kept aside: an ordinary machine carries that. More only when asked for, since a pool's stacks
/// are mapped when it is made, a microsecond each.
const PLACES_MAX: u64 = 10_000 + engine::SPARE_MAX as u64 + engine::LATE_MAX as u64 + engine::RESTING_MAX as u64;

/// Of each engine of a server that may be one of several in a process: they share its address space and its mappings.
const PLACES_OF_SEVERAL_MAX: u64 = 4096;

/// Fewer make no server.
const PLACES_MIN: u64 = 16;

/// What the operating system and the container allow this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Threads it can run at once.
    pub processors: usize,
    /// Memory: the machine's, or what the control group allows.
    pub memory_bytes: u64,
    /// Whether something can be swapped out.
    pub swap: bool,
    /// Mappings of address space a process may have.
    pub mappings: u64,
    /// Address space a process may have.
    pub address_space_bytes: u64,
    /// Files and sockets this process may have open.
    pub open_files: u64,
    /// Whether the kernel can say which pages of a sandbox are dirty (`PAGEMAP_SCAN`, Linux 6.7).
    pub page_scan: bool,
}

impl Machine {
    /// Asks the operating system. What it does not say is assumed to be as on an ordinary Linux machine.
    pub fn read() -> Self {
        let groups = control_groups();
        let memory_limit = groups.iter().filter_map(|group| group.memory_limit()).min();
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: total_memory().min(memory_limit.unwrap_or(u64::MAX)),
            swap: has_swap() && !groups.iter().any(ControlGroup::forbids_swap),
            mappings: number_in("/proc/sys/vm/max_map_count").unwrap_or(MAPPINGS),
            address_space_bytes: getrlimit(Resource::As).current.map_or(ADDRESS_SPACE_BYTES, |at| at.min(ADDRESS_SPACE_BYTES)),
            open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            page_scan: engine::pagemap_scan_is_available(),
        }
    }

    /// Whether a sandbox's dirty pages are found by the kernel.
    ///
    /// In this version of wasmtime a dirty page that was swapped out is not reported by `PAGEMAP_SCAN` and would not be reset:
    /// the next guest would see it. So that way is taken only where nothing can be swapped out.
    pub fn scans_pages(&self) -> bool {
        self.page_scan && !self.swap
    }

    /// The pool this machine carries, for a server that has a process to itself.
    pub fn pool(&self) -> PoolSize {
        let (places, _) = self.places_and_bound();
        let places = saturating_u32(places);
        PoolSize { guests: places, each: places, warm: self.warm().min(places) }
    }

    /// The same for one of several in a process.
    pub fn pool_of_several(&self) -> PoolSize {
        let (places, _) = self.places_and_bound();
        let each = saturating_u32((places / 2).clamp(PLACES_MIN, PLACES_OF_SEVERAL_MAX));
        PoolSize { warm: self.warm().min(each), ..PoolSize::of(each) }
    }

    /// Sandboxes of one engine that may keep their memory when nobody uses them.
    fn warm(&self) -> u32 {
        let kept = if self.scans_pages() { engine::KEEP_RESIDENT_SCANNED_BYTES } else { engine::KEEP_RESIDENT_CLEARED_BYTES };
        // A quarter of the memory, shared by two engines, may lie in sandboxes that nobody uses.
        saturating_u32(self.memory_bytes / 8 / kept as u64).max(1)
    }

    /// Memory that guests may have together, beyond what each has for nothing, and those of one tenant.
    pub fn guest_memory_bytes(&self) -> u64 {
        self.memory_bytes / 2
    }

    /// Of that kind each of so many tenants has its part in any case, whatever the others have: together an eighth of the memory.
    pub fn tenant_floor_bytes(&self, tenants: usize) -> u64 {
        self.memory_bytes / 8 / u64::try_from(tenants.max(1)).unwrap_or(u64::MAX)
    }

    /// What each guest of such a pool may have for nothing: all of them together a quarter of the memory. Most need no more, and what is
    /// not touched is not there.
    pub fn free_memory_bytes(&self, pool: PoolSize) -> u64 {
        self.memory_bytes / 4 / u64::from(pool.guests.max(1))
    }

    /// Modules whose code may be in memory at once.
    pub fn modules_loaded(&self) -> u32 {
        saturating_u32((self.mappings_of_code() / MAPPINGS_PER_MODULE).max(PLACES_MIN))
    }

    fn mappings_of_code(&self) -> u64 {
        self.mappings / PARTS * CODE_PARTS
    }

    /// What keeps the pool from having more places.
    pub fn bound(&self) -> Bound {
        self.places_and_bound().1
    }

    fn mappings_of_pool(&self) -> u64 {
        self.mappings.saturating_sub(self.mappings_of_code() + MAPPINGS_OF_PROCESS)
    }

    fn places_and_bound(&self) -> (u64, Bound) {
        let candidates = [
            (PLACES_MAX, Bound::Enough),
            (self.memory_bytes / 2 / GUEST_BYTES, Bound::Memory),
            (self.mappings_of_pool() / MAPPINGS_PER_PLACE, Bound::Mappings),
            (self.address_space_bytes / 4 * 3 / RESERVED_BYTES, Bound::AddressSpace),
        ];
        let (places, bound) = candidates.into_iter().min_by_key(|(places, _)| *places).unwrap_or((PLACES_MIN, Bound::Enough));
        (places.max(PLACES_MIN), bound)
    }
}

/// What bounds a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Nothing: it has as many places as are of use.
    Enough,
    /// Memory.
    Memory,
    /// `vm.max_map_count`.
    Mappings,
    /// Address space: `ulimit -v`.
    AddressSpace,
}

fn saturating_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn number_in(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn total_memory() -> u64 {
    fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_total(&text)).unwrap_or(1 << 30)
}

/// `MemTotal:  24646308 kB`
fn memory_total(meminfo: &str) -> Option<u64> {
    let kib: u64 =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Whether there is anything to swap to; when in doubt, yes.
fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |text| text.lines().count() > 1)
}

/// A control group this process is in, or one above it: each may limit it.
struct ControlGroup {
    folder: PathBuf,
    unified: bool,
}

impl ControlGroup {
    fn memory_limit(&self) -> Option<u64> {
        number_in(self.folder.join(if self.unified { "memory.max" } else { "memory.limit_in_bytes" }))
    }

    fn forbids_swap(&self) -> bool {
        self.unified && number_in(self.folder.join("memory.swap.max")) == Some(0)
    }
}

fn control_groups() -> Vec<ControlGroup> {
    fs::read_to_string("/proc/self/cgroup").map_or_else(|_| Vec::new(), |text| groups_of(&text))
}

/// A line is `number:controllers:path`; the unified hierarchy's has no controllers. In a container the path may be the host's, so
/// the top is always among them.
fn groups_of(text: &str) -> Vec<ControlGroup> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        let top = Path::new(if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" });
        let below = path.trim_start_matches('/');
        groups.extend(Path::new(below).ancestors().map(|below| ControlGroup { folder: top.join(below), unified }));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            processors: 2,
            memory_bytes: 16 << 30,
            swap: false,
            mappings: MAPPINGS,
            address_space_bytes: ADDRESS_SPACE_BYTES,
            open_files: 1 << 20,
            page_scan: true,
        }
    }

    #[test]
    fn the_scarcest_thing_bounds_the_pool() {
        let ordinary = machine();
        assert_eq!((ordinary.pool().places_alone(), ordinary.pool().places_each()), (10_000, 4952));
        assert_eq!((ordinary.pool().warm, ordinary.bound(), ordinary.modules_loaded()), (512, Bound::Enough, 1023));
        assert_eq!(ordinary.pool_of_several(), PoolSize { guests: 8192, each: 4096, warm: 512 });
        let few = Machine { mappings: 8192, ..machine() };
        assert_eq!((few.pool().guests, few.bound()), (1130, Bound::Mappings));
        let container = Machine { memory_bytes: 256 << 20, ..machine() };
        assert_eq!((container.pool().guests, container.pool().warm, container.bound()), (512, 8, Bound::Memory));
        let bounded = Machine { address_space_bytes: 1 << 40, ..machine() };
        assert_eq!((bounded.pool().guests, bounded.bound()), (189, Bound::AddressSpace));
        let tiny = Machine { memory_bytes: 0, ..machine() };
        assert_eq!(tiny.pool(), PoolSize { guests: 16, each: 16, warm: 1 });
        let swapping = Machine { swap: true, ..machine() };
        assert_eq!(swapping.pool().warm, 8192, "little is kept of each, so many may be");
    }

    #[test]
    fn both_pools_fit_the_mappings_whatever_comes_first() {
        for mappings in [1 << 13, MAPPINGS, 1 << 18] {
            let machine = Machine { mappings, ..machine() };
            let pool = machine.pool();
            let most = u64::from(pool.guests) * MAPPINGS_PER_PLACE + u64::from(machine.modules_loaded()) * MAPPINGS_PER_MODULE;
            assert!(most + MAPPINGS_OF_PROCESS <= mappings, "{machine:?}");
        }
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(memory_total("MemTotal:       24646308 kB\nMemFree: 1 kB\n"), Some(24_646_308 << 10));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        let folders = |text| groups_of(text).into_iter().map(|group| group.folder.display().to_string()).collect::<Vec<_>>();
        assert_eq!(folders("0::/a/b\n"), ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"]);
        assert_eq!(folders("5:devices:/\n4:memory:/x\n"), ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory/"]);
        assert_eq!(folders("nonsense"), Vec::<String>::new());
        let read = Machine::read();
        assert!(read.processors > 0 && read.memory_bytes > 0 && read.open_files > 0, "{read:?}");
    }
}
