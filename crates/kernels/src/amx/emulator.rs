//! AMX instructions for processors that lack them, so that tests can run the kernels: a handler of
//! SIGILL decodes those that the kernels use, executes them on tiles of the thread and goes on
//! behind them. Anything else, and any use that the hardware would refuse, ends the process.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, the pages of the
//! instructions (TILELOADD and so on) and chapter 2 for the VEX prefix and addresses.

mod tiles;

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::Once;

use libc::{greg_t, siginfo_t, ucontext_t};
use tiles::{Done, Product, Tiles};

/// Where general-purpose registers, by their numbers in instructions, lie in a signal's context.
const REGISTERS: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

thread_local! {
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(Tiles::RELEASED) };
}

/// From now on this process has AMX.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();

    INSTALLED.call_once(|| {
        // SAFETY: all zeros is a valid action; the handler has the form that SA_SIGINFO asks for
        // and calls nothing that handlers must not.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = handle;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut())
        };
        assert_eq!(result, 0, "no handler for SIGILL");
    });
}

extern "C" fn handle(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the context is the interrupted code's, and nothing else refers to it.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    // SAFETY: no instruction of the emulator raises SIGILL, so that this is the only reference to
    // the thread's tiles; the registers point to an instruction.
    let done = TILES.with(|tiles| unsafe { step(&mut *tiles.get(), registers) });
    if let Err(why) = done {
        for text in ["AMX emulator: ", why, "\n"] {
            // SAFETY: the text is readable, and handlers may call `write`.
            unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        }
        // SAFETY: handlers may call `abort`.
        unsafe { libc::abort() };
    }
}

/// Executes the instruction that the registers point to, and lets them point behind it.
///
/// # Safety
/// There is an instruction; the memory that it names is that of its program.
unsafe fn step(tiles: &mut Tiles, registers: &mut [greg_t]) -> Done {
    let mut code = Code(registers[libc::REG_RIP as usize] as *const u8);
    // SAFETY: by the caller's promise.
    let fields = unsafe { Fields::read(&mut code)? };
    // SAFETY: by the caller's promise.
    let address = unsafe { fields.address(&mut code, registers)? };
    // SAFETY: by the caller's promise.
    unsafe { execute(tiles, &fields, address)? };
    registers[libc::REG_RIP as usize] = code.0 as greg_t;
    Ok(())
}

/// # Safety
/// The memory at the address is the program's.
unsafe fn execute(tiles: &mut Tiles, fields: &Fields, address: Option<Address>) -> Done {
    let Fields { opcode, prefix, reg, rm, vvvv, .. } = *fields;
    match (opcode, prefix, address) {
        (0x49 | 0x4b, ..) if vvvv != 0 => Err("vvvv names an operand where there is none"),
        (0x49, Prefix::None, None) if (reg, rm) == (0, 0) => {
            tiles.release();
            Ok(())
        }
        (0x49, Prefix::None, Some(at)) if reg == 0 => {
            let start = at.start + at.index.unwrap_or(0);
            // SAFETY: by the caller's promise.
            tiles.configure(unsafe { &*(start as *const [u8; 64]) })
        }
        (0x49, Prefix::F2, None) if rm == 0 => tiles.zero(reg),
        (0x4b, Prefix::F2 | Prefix::Operand, Some(Address { start, index: Some(stride) })) => {
            // SAFETY: by the caller's promise.
            unsafe { tiles.load(reg, start as *const u8, stride as isize) }
        }
        (0x4b, Prefix::F3, Some(Address { start, index: Some(stride) })) => {
            // SAFETY: by the caller's promise.
            unsafe { tiles.store(reg, start as *mut u8, stride as isize) }
        }
        (0x5e, _, None) => {
            let (left_signed, right_signed) = match prefix {
                Prefix::F2 => (true, true),
                Prefix::F3 => (true, false),
                Prefix::Operand => (false, true),
                Prefix::None => (false, false),
            };
            tiles.multiply(Product::Bytes { left_signed, right_signed }, [reg, rm, vvvv])
        }
        (0x5c, Prefix::F3, None) => tiles.multiply(Product::Bf16, [reg, rm, vvvv]),
        _ => Err("an unknown instruction"),
    }
}

/// The bytes of an instruction.
struct Code(*const u8);

impl Code {
    /// # Safety
    /// The instruction has one more.
    unsafe fn byte(&mut self) -> u8 {
        // SAFETY: by the caller's promise.
        unsafe {
            let byte = *self.0;
            self.0 = self.0.add(1);
            byte
        }
    }
}

/// The prefix that a VEX prefix stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    /// 66.
    Operand,
    F3,
    F2,
}

/// A memory operand.
#[derive(Debug, Clone, Copy)]
struct Address {
    /// Base and displacement.
    start: i64,
    /// Scaled index, if there is one.
    index: Option<i64>,
}

/// What the VEX prefix of three bytes and the byte behind the opcode say.
struct Fields {
    prefix: Prefix,
    opcode: u8,
    /// How `rm` is meant: 3 is a register, others are addresses with 0, 1 or 4 bytes displacement.
    mode: u8,
    reg: usize,
    rm: usize,
    vvvv: usize,
    /// What the prefix adds to the number of an index register.
    index_high: usize,
}

impl Fields {
    /// # Safety
    /// `code` is an instruction.
    unsafe fn read(code: &mut Code) -> Result<Fields, &'static str> {
        // SAFETY: by the caller's promise; instructions with this prefix have five bytes or more.
        let [first, second, opcode, modrm] = unsafe {
            if code.byte() != 0xc4 {
                return Err("not an instruction with a VEX prefix of three bytes");
            }
            [(); 4].map(|()| code.byte())
        };
        // Maps other than 0F38, 64-bit operands, vectors of 256 bits.
        if first & 0x1f != 2 || second & 0x84 != 0 {
            return Err("not an AMX instruction");
        }
        let high = |bit: u8| usize::from(!first >> bit & 1) << 3;
        Ok(Fields {
            prefix: [Prefix::None, Prefix::Operand, Prefix::F3, Prefix::F2]
                [usize::from(second & 3)],
            opcode,
            mode: modrm >> 6,
            reg: usize::from(modrm >> 3 & 7) | high(7),
            rm: usize::from(modrm & 7) | high(5),
            vvvv: usize::from(!second >> 3 & 15),
            index_high: high(6),
        })
    }

    /// The memory operand, if `rm` is not a register.
    ///
    /// # Safety
    /// `code` is the rest of the instruction.
    unsafe fn address(
        &self,
        code: &mut Code,
        registers: &[greg_t],
    ) -> Result<Option<Address>, &'static str> {
        const NO_INDEX: usize = 4;

        let register = |number: usize| registers[REGISTERS[number] as usize];
        let (mut base, mut index) = (self.rm, None);
        match (self.mode, self.rm & 7) {
            (3, _) => return Ok(None),
            (0, 5) => return Err("an address relative to RIP"),
            (_, 4) => {
                // SAFETY: by the caller's promise: this form has a SIB byte.
                let sib = unsafe { code.byte() };
                base = (self.rm & 8) | usize::from(sib & 7);
                let number = self.index_high | usize::from(sib >> 3 & 7);
                index = (number != NO_INDEX).then(|| register(number) << (sib >> 6));
            }
            _ => {}
        }
        if self.mode == 0 && base & 7 == 5 {
            return Err("an address without a base");
        }
        // SAFETY: by the caller's promise: it is asked for as many bytes as this form has.
        let mut byte = || unsafe { code.byte() };
        let displacement = match self.mode {
            0 => 0,
            1 => i64::from(byte() as i8),
            _ => i32::from_le_bytes([(); 4].map(|()| byte())).into(),
        };
        Ok(Some(Address { start: register(base) + displacement, index }))
    }
}

#[cfg(test)]
mod tests;
