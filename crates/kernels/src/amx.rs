//! AMX tiles: blocks of up to 32 rows by 32 columns of a matrix product.
//!
//! A tile is 16 rows of 64 bytes. The packed right operands of 8-bit and of bf16 products lie as
//! such tiles already: 16 columns of four bytes, or of two bf16, for each row. A block is up to two
//! tiles of left rows and two of right columns, each used twice: four tiles of sums. It runs in one
//! piece of assembly, since tiles have no stable intrinsics, and neither compiler nor operating
//! system is told of them; it takes sums from memory and puts them back there, because tiles have
//! no other way to vector registers.
//!
//! A configuration says how many rows tiles have. Loading one takes as long as a small block, so a
//! [`Tiles`] keeps its own until another number of rows is asked for, and shorter blocks may
//! compute rows too many. It gives the tiles up at the end: a context switch saves 8 KiB more while
//! a thread holds some.
//!
//! No processor with AMX was at hand. Tests run these kernels with instructions that are emulated
//! as Intel's manual describes them (`emulator.rs`); how long they take on hardware is not
//! measured, and detection has only been seen to find none. So tiles must first pass a check
//! (`check.rs`).

#[cfg(target_os = "linux")]
mod check;
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod emulator;
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::arch::asm;
#[cfg(target_os = "linux")]
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::mem::offset_of;
#[cfg(target_os = "linux")]
use std::sync::OnceLock;

use crate::{Cpu, Isa};

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Bytes of a row of a tile.
pub(crate) const TILE_BYTES: usize = 64;
/// Most rows of a block.
pub(crate) const BLOCK_ROWS: usize = 2 * TILE_ROWS;
/// Bytes from one row of a block's sums to the next.
pub(crate) const SUMS_STRIDE: usize = 2 * TILE_BYTES;

/// Proof that AMX tiles with products of bytes and bf16 exist and may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amx(());

impl Amx {
    pub(crate) fn prove(cpu: Cpu) -> Option<Amx> {
        cpu.isa().includes(Isa::Amx).then_some(Amx(()))
    }
}

/// What [`Isa::Amx`] needs beyond AVX-512, and whether it is there.
#[cfg(target_os = "linux")]
pub(crate) fn features() -> Vec<(&'static str, bool)> {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    static RIGHT: OnceLock<bool> = OnceLock::new();

    let leaf = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).edx } else { 0 };
    let names = [("amx-tile", 24), ("amx-int8", 25), ("amx-bf16", 22)];
    let mut features = names.map(|(name, bit)| (name, leaf >> bit & 1 == 1)).to_vec();
    if features.iter().all(|(_, present)| *present) {
        let permitted = *PERMITTED.get_or_init(|| saves_tiles() && permit());
        features.push(("the operating system's permission to use amx tiles", permitted));
        let is_right = permitted && *RIGHT.get_or_init(|| check::tiles_are_right(Amx(())));
        features.push(("amx tiles that compute what they must", is_right));
    }
    features
}

/// Only Linux's way to permit tiles is known here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn features() -> Vec<(&'static str, bool)> {
    vec![("amx on Linux", false)]
}

/// Whether the operating system keeps the configuration and the data of tiles.
#[cfg(target_os = "linux")]
fn saves_tiles() -> bool {
    const TILES: u64 = 3 << 17;

    // SAFETY: a system that uses XSAVE lets the register 0 be read.
    let enabled = || unsafe { _xgetbv(0) };
    is_x86_feature_detected!("xsave") && enabled() & TILES == TILES
}

/// Asks for the state that holds the data of tiles, for all threads of this process.
#[cfg(target_os = "linux")]
fn permit() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;

    let result: isize;
    // SAFETY: the call takes no pointers; it clobbers what is named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Some depth of a block whose operands lie at one distance.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Stretch {
    /// The first left row; the others follow at the block's stride.
    pub(crate) left: *const u8,
    /// The first row of both columns of right tiles; the others follow.
    pub(crate) right: [*const u8; 2],
    /// Rows of 64 bytes of the left operand, tiles of the right one.
    pub(crate) tiles: usize,
}

/// One block.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Block<'a> {
    stretches: *const Stretch,
    stretch_count: usize,
    /// Bytes from one left row to the next.
    left_stride: usize,
    /// What the sums begin with.
    from: *const u8,
    /// Bytes from one of its rows to the next; 0 if all rows begin with the same.
    from_stride: usize,
    /// Rows of [`SUMS_STRIDE`] bytes.
    sums: *mut u8,
    borrows: std::marker::PhantomData<&'a Stretch>,
}

impl<'a> Block<'a> {
    pub(crate) fn new(
        stretches: &'a [Stretch],
        left_stride: usize,
        (from, from_stride): (*const u8, usize),
        sums: *mut u8,
    ) -> Block<'a> {
        let (start, stretch_count) = (stretches.as_ptr(), stretches.len());
        let borrows = std::marker::PhantomData;
        Block { stretches: start, stretch_count, left_stride, from, from_stride, sums, borrows }
    }
}

/// What a block multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    /// Unsigned left bytes and signed right ones, sums in i32.
    Bytes,
    /// Pairs of bf16, sums in f32.
    Bf16,
}

/// The configuration of palette 1.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// Blocks of `rows` rows: tiles 0 and 1 are the sums of the first 16, tiles 2 and 3 those of
    /// the others, 4 and 5 the left rows, 6 and 7 the right columns.
    fn of(rows: usize) -> Configuration {
        let (first, second) = (rows.min(TILE_ROWS) as u8, rows.saturating_sub(TILE_ROWS) as u8);
        let tile = TILE_ROWS as u8;
        let mut of = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        of.rows[..8].copy_from_slice(&[first, first, second, second, first, second, tile, tile]);
        let bytes = |rows: u8| if rows > 0 { TILE_BYTES as u16 } else { 0 };
        of.row_bytes = of.rows.map(bytes);
        of
    }
}

/// The tiles of this thread, given up when dropped.
pub(crate) struct Tiles {
    /// Of the blocks that they are configured for.
    rows: usize,
}

impl Tiles {
    pub(crate) fn new(_: Amx) -> Tiles {
        Tiles { rows: 0 }
    }

    /// Prepares for blocks of `rows` rows, 1 to 32.
    pub(crate) fn configure(&mut self, rows: usize) {
        assert!((1..=BLOCK_ROWS).contains(&rows), "a block of {rows} rows");
        if self.rows != rows {
            let configuration = Configuration::of(rows);
            // SAFETY: whoever made `self` proved that tiles exist; the configuration is a valid one
            // of palette 1.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const configuration,
                    options(nostack, readonly, preserves_flags));
            }
            self.rows = rows;
        }
    }

    /// Computes a block of as many rows as configured and of one or two tiles of columns.
    ///
    /// # Safety
    /// All rows and tiles that the block names are readable, its sums writable.
    #[inline(always)]
    pub(crate) unsafe fn multiply(&mut self, operands: Operands, columns: usize, b: &Block<'_>) {
        assert!(self.rows > 0, "tiles are not configured");
        let tiles = (self.rows.div_ceil(TILE_ROWS), columns);
        // SAFETY: by the caller's promise; tiles are configured.
        unsafe {
            match (operands, tiles) {
                (Operands::Bytes, (1, 1)) => bytes_1x1(b),
                (Operands::Bytes, (1, 2)) => bytes_1x2(b),
                (Operands::Bytes, (2, 1)) => bytes_2x1(b),
                (Operands::Bytes, (2, 2)) => bytes_2x2(b),
                (Operands::Bf16, (1, 1)) => bf16_1x1(b),
                (Operands::Bf16, (1, 2)) => bf16_1x2(b),
                (Operands::Bf16, (2, 1)) => bf16_2x1(b),
                (Operands::Bf16, (2, 2)) => bf16_2x2(b),
                _ => unreachable!("a block of {tiles:?} tiles"),
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        if self.rows > 0 {
            // SAFETY: whoever made `self` proved that tiles exist.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
        }
    }
}

/// An instruction of blocks that have a second tile of rows (or of columns), nothing elsewhere.
macro_rules! second {
    (2, $instruction:expr) => {
        $instruction
    };
    (1, $instruction:expr) => {
        ""
    };
}

/// An instruction of blocks that have two tiles of both.
macro_rules! fourth {
    (2, 2, $instruction:expr) => {
        $instruction
    };
    ($rows:tt, $columns:tt, $instruction:expr) => {
        ""
    };
}

macro_rules! block {
    ($name:ident, $dot:literal, $rows:tt, $columns:tt) => {
        /// # Safety
        /// See [`Tiles::multiply`]; tiles are configured.
        unsafe fn $name(block: &Block<'_>) {
            // SAFETY: by the caller's promise. Tiles are nothing that the compiler knows of; all
            // else that changes is named.
            unsafe {
                asm!(
                    "mov {a}, [{block} + {from}]",
                    "mov {stride}, [{block} + {from_stride}]",
                    second!($rows, "mov {c}, {stride}"),
                    second!($rows, "shl {c}, 4"),
                    second!($rows, "add {c}, {a}"),
                    "tileloadd tmm0, [{a} + {stride}*1]",
                    second!($columns, "tileloadd tmm1, [{a} + {stride}*1 + 64]"),
                    second!($rows, "tileloadd tmm2, [{c} + {stride}*1]"),
                    fourth!($rows, $columns, "tileloadd tmm3, [{c} + {stride}*1 + 64]"),
                    "mov {stride}, [{block} + {left_stride}]",
                    "mov {stretch}, [{block} + {stretches}]",
                    "mov {count}, [{block} + {stretch_count}]",
                    "mov {line:e}, 64",
                    "test {count}, {count}",
                    "jz 4f",
                    "2:",
                    "mov {a}, [{stretch} + {left}]",
                    "mov {b}, [{stretch} + {right}]",
                    second!($columns, "mov {d}, [{stretch} + {right} + 8]"),
                    "mov {tiles}, [{stretch} + {tile_count}]",
                    "test {tiles}, {tiles}",
                    "jz 5f",
                    second!($rows, "mov {c}, {stride}"),
                    second!($rows, "shl {c}, 4"),
                    second!($rows, "add {c}, {a}"),
                    "3:",
                    "tileloadd tmm4, [{a} + {stride}*1]",
                    "tileloadd tmm6, [{b} + {line}*1]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    second!($rows, "tileloadd tmm5, [{c} + {stride}*1]"),
                    second!($rows, concat!($dot, " tmm2, tmm5, tmm6")),
                    second!($columns, "tileloadd tmm7, [{d} + {line}*1]"),
                    second!($columns, concat!($dot, " tmm1, tmm4, tmm7")),
                    fourth!($rows, $columns, concat!($dot, " tmm3, tmm5, tmm7")),
                    "add {a}, 64",
                    "add {b}, 1024",
                    second!($rows, "add {c}, 64"),
                    second!($columns, "add {d}, 1024"),
                    "dec {tiles}",
                    "jnz 3b",
                    "5:",
                    "add {stretch}, {stretch_bytes}",
                    "dec {count}",
                    "jnz 2b",
                    "4:",
                    "mov {a}, [{block} + {sums}]",
                    "mov {stride:e}, {sums_stride}",
                    "tilestored [{a} + {stride}*1], tmm0",
                    second!($columns, "tilestored [{a} + {stride}*1 + 64], tmm1"),
                    second!($rows, "tilestored [{a} + {stride}*1 + 16*{sums_stride}], tmm2"),
                    fourth!(
                        $rows,
                        $columns,
                        "tilestored [{a} + {stride}*1 + 16*{sums_stride} + 64], tmm3"
                    ),
                    "/* {c} {d} */",
                    block = in(reg) block,
                    a = out(reg) _,
                    b = out(reg) _,
                    c = out(reg) _,
                    d = out(reg) _,
                    stride = out(reg) _,
                    stretch = out(reg) _,
                    count = out(reg) _,
                    tiles = out(reg) _,
                    line = out(reg) _,
                    from = const offset_of!(Block<'_>, from),
                    from_stride = const offset_of!(Block<'_>, from_stride),
                    left_stride = const offset_of!(Block<'_>, left_stride),
                    stretches = const offset_of!(Block<'_>, stretches),
                    stretch_count = const offset_of!(Block<'_>, stretch_count),
                    sums = const offset_of!(Block<'_>, sums),
                    left = const offset_of!(Stretch, left),
                    right = const offset_of!(Stretch, right),
                    tile_count = const offset_of!(Stretch, tiles),
                    stretch_bytes = const size_of::<Stretch>(),
                    sums_stride = const SUMS_STRIDE,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

block!(bytes_1x1, "tdpbusd", 1, 1);
block!(bytes_1x2, "tdpbusd", 1, 2);
block!(bytes_2x1, "tdpbusd", 2, 1);
block!(bytes_2x2, "tdpbusd", 2, 2);
block!(bf16_1x1, "tdpbf16ps", 1, 1);
block!(bf16_1x2, "tdpbf16ps", 1, 2);
block!(bf16_2x1, "tdpbf16ps", 2, 1);
block!(bf16_2x2, "tdpbf16ps", 2, 2);
