//! What this process may use of the machine it runs on.

use std::fs;

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory that this process may use: the machine's, or less if its control group has less.
/// 4 GiB where neither can be told.
pub fn memory_bytes() -> usize {
    let read = |path: &str| fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| total_of(&text));
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|path| read(path)?.trim().parse().ok());
    limits.chain(total).min().unwrap_or(4 << 30)
}

/// Working memory that one run may use where nothing says otherwise, in bytes: a quarter, as others
/// run beside it and replies are made of its results.
pub fn default_run_memory() -> usize {
    memory_bytes() / 4
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_of(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_its_unit() {
        let text = "MemFree:         100 kB\nMemTotal:       24601228 kB\nSwapTotal: 0 kB\n";
        assert_eq!(total_of(text), Some(24_601_228 * 1024));
        assert_eq!(total_of("MemTotal: many kB"), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory_bytes() > 64 << 20, "{}", memory_bytes());
    }
}
