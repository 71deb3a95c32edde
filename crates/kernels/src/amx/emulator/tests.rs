//! Instructions as the assembler makes them.

use std::arch::asm;

#[repr(C, align(64))]
struct Lines([[u8; 64]; 16]);

fn lines(seed: u8) -> Lines {
    Lines(std::array::from_fn(|i| std::array::from_fn(|j| (i * 77 + j * 31) as u8 ^ seed)))
}

fn configuration() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    for tile in 0..8 {
        (bytes[16 + 2 * tile], bytes[48 + tile]) = (64, 16);
    }
    bytes
}

/// Loads from one address and stores to another, by instructions that name registers and a
/// displacement.
macro_rules! copy {
    ($base:tt, $index:tt, $scale:tt, $offset:tt) => {{
        let (from, mut to) = (lines(1), lines(2));
        // SAFETY: whoever has no AMX has it emulated; rows are 64 bytes apart in both memories.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                concat!("tileloadd tmm5, [", $base, "+", $index, "*", $scale, "+", $offset, "]"),
                concat!("mov ", $base, ", {to}"),
                concat!("tilestored [", $base, "+", $index, "*", $scale, "], tmm5"),
                "tilerelease",
                configuration = in(reg) &configuration(),
                to = in(reg) &raw mut to,
                inlateout($base) (&raw const from).cast::<u8>().wrapping_sub($offset) => _,
                in($index) 64usize / $scale,
                options(nostack),
            );
        }
        assert_eq!(from.0, to.0, "{} {} {} {}", $base, $index, $scale, $offset);
    }};
}

#[test]
fn addresses_of_every_form_are_understood() {
    if !crate::Cpu::tested().any(|cpu| cpu.isa() == crate::Isa::Amx) {
        return;
    }
    copy!("rax", "rcx", 1, 0);
    copy!("rdx", "rsi", 2, 8);
    copy!("rdi", "r8", 4, 4096);
    copy!("r9", "r10", 8, 127);
    copy!("r11", "r12", 1, 128);
    copy!("r12", "r13", 1, 0);
    copy!("r13", "r14", 1, 0);
    copy!("r14", "r15", 2, 1);
    copy!("r15", "rax", 4, 0);
}

/// The product of bytes 3 and 0xff, both ways, by an instruction of that name.
macro_rules! product {
    ($name:literal) => {{
        let (mut left, mut right, mut sums) = (lines(0), lines(0), lines(0));
        (left.0, right.0, sums.0) = ([[0; 64]; 16], [[0; 64]; 16], [[0; 64]; 16]);
        (left.0[2][0], left.0[3][0]) = (3, 0xff);
        (right.0[0][20], right.0[0][24]) = (3, 0xff);
        // SAFETY: whoever has no AMX has it emulated; all memory is tiles.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                "tilezero tmm1",
                "tileloadd tmm7, [{left} + {stride}]",
                "tileloadd tmm2, [{right} + {stride}]",
                concat!($name, " tmm1, tmm7, tmm2"),
                "tilestored [{sums} + {stride}], tmm1",
                "tilerelease",
                configuration = in(reg) &configuration(),
                left = in(reg) &left,
                right = in(reg) &right,
                sums = in(reg) &mut sums,
                stride = in(reg) 64usize,
                options(nostack),
            );
        }
        [(2, 20), (2, 24), (3, 20), (3, 24)]
            .map(|(row, at)| i32::from_le_bytes(sums.0[row][at..at + 4].try_into().unwrap()))
    }};
}

#[test]
fn products_are_told_apart() {
    if !crate::Cpu::tested().any(|cpu| cpu.isa() == crate::Isa::Amx) {
        return;
    }
    assert_eq!(product!("tdpbssd"), [9, -3, -3, 1]);
    assert_eq!(product!("tdpbsud"), [9, 765, -3, -255]);
    assert_eq!(product!("tdpbusd"), [9, -3, 765, -255]);
    assert_eq!(product!("tdpbuud"), [9, 765, 765, 65025]);
    // As bf16 all of them are subnormal.
    assert_eq!(product!("tdpbf16ps"), [0; 4]);
}
