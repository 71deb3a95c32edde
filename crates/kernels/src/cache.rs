//! Cache sizes, read once from CPUID, or from what Linux tells of a core on AArch64; blocking of
//! matrix products is computed from them.

use std::sync::OnceLock;

/// Data cache sizes in bytes, as one core sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSizes {
    /// Level 1 data cache.
    pub l1_bytes: usize,
    /// Level 2 cache.
    pub l2_bytes: usize,
}

const DEFAULT: CacheSizes = CacheSizes { l1_bytes: 32 << 10, l2_bytes: 512 << 10 };

impl CacheSizes {
    /// The sizes of this machine; 32 KiB and 512 KiB where the processor does not tell.
    pub fn detect() -> CacheSizes {
        static SIZES: OnceLock<CacheSizes> = OnceLock::new();
        *SIZES.get_or_init(read)
    }
}

/// Deterministic cache parameters: Intel leaf 4 and AMD leaf 0x8000001D share one format.
#[cfg(target_arch = "x86_64")]
fn read() -> CacheSizes {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    let mut sizes = DEFAULT;
    let highest = __cpuid(0).eax;
    let highest_extended = __cpuid(0x8000_0000).eax;
    let amd = __cpuid(0).ebx == u32::from_le_bytes(*b"Auth");
    let leaf = match amd {
        true if highest_extended >= 0x8000_001d => 0x8000_001d,
        false if highest >= 4 => 4,
        _ => return sizes,
    };
    for index in 0..8 {
        let r = __cpuid_count(leaf, index);
        let (kind, level) = (r.eax & 31, (r.eax >> 5) & 7);
        if kind == 0 {
            break;
        }
        let ways = (r.ebx >> 22) as usize + 1;
        let partitions = ((r.ebx >> 12) & 0x3ff) as usize + 1;
        let line = (r.ebx & 0xfff) as usize + 1;
        let bytes = ways * partitions * line * (r.ecx as usize + 1);
        match (kind, level) {
            (1 | 3, 1) => sizes.l1_bytes = bytes,
            (1 | 3, 2) => sizes.l2_bytes = bytes,
            _ => {}
        }
    }
    sizes
}

/// What Linux tells of the first core. Cores of other kinds may have more or less.
#[cfg(target_arch = "aarch64")]
fn read() -> CacheSizes {
    let mut sizes = DEFAULT;
    for index in 0..8 {
        let text = |name: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
            std::fs::read_to_string(path).ok()
        };
        let (Some(level), Some(kind), Some(size)) = (text("level"), text("type"), text("size"))
        else {
            continue;
        };
        let Some(bytes) = parse_size(size.trim()) else { continue };
        match (level.trim(), kind.trim()) {
            ("1", "Data" | "Unified") => sizes.l1_bytes = bytes,
            ("2", "Data" | "Unified") => sizes.l2_bytes = bytes,
            _ => {}
        }
    }
    sizes
}

/// Bytes of `64K` or `1M`; `None` if there are none or it is neither.
#[cfg(any(test, target_arch = "aarch64"))]
fn parse_size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => (text.strip_suffix('M')?, 1 << 20),
    };
    digits.parse().ok().filter(|&n: &usize| n > 0)?.checked_mul(unit)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> CacheSizes {
    DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_size("64K"), Some(65_536));
        assert_eq!(parse_size("2M"), Some(2 << 20));
        for text in ["", "K", "0K", "64", "-1K", "99999999999999999999K"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_plausible() {
        let sizes = CacheSizes::detect();
        assert!((8 << 10..=1 << 20).contains(&sizes.l1_bytes), "{sizes:?}");
        assert!(sizes.l2_bytes >= sizes.l1_bytes, "{sizes:?}");
    }
}
