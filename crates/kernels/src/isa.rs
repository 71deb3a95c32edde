//! Which instruction sets this machine has, and the tokens that prove it.

use std::fmt;

use thiserror::Error;

use crate::CacheSizes;

/// Instruction set levels of x86-64 and of AArch64; [`Isa::includes`] says which contain which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Scalar code, the slow twin of every kernel.
    Reference,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AVX-512 with VNNI (8-bit dot products).
    Vnni,
    /// AVX-512 with BF16, and AMX tiles with products of bytes and of bf16.
    Amx,
    /// Advanced SIMD, which every AArch64 processor has.
    Neon,
    /// Advanced SIMD with 8-bit dot products of equal signs (FEAT_DotProd).
    Dotprod,
    /// Advanced SIMD with 8-bit dot products of mixed signs too (FEAT_I8MM).
    I8mm,
}

/// Why an instruction set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IsaError {
    /// The name is not one of ours.
    #[error(
        "unknown instruction set `{name}`: expected reference, avx2, avx512, vnni, amx, neon, \
         dotprod or i8mm"
    )]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// This machine lacks instructions that the level needs.
    #[error("`{isa}` needs {missing}, which this machine lacks; the best it offers is `{best}`")]
    Missing {
        /// The level asked for.
        isa: Isa,
        /// What was not found, comma-separated: CPU features, or a permission.
        missing: String,
        /// The best level available.
        best: Isa,
    },
}

impl Isa {
    /// All levels, those of one architecture lowest first.
    pub const ALL: [Isa; 8] = [
        Isa::Reference,
        Isa::Avx2,
        Isa::Avx512,
        Isa::Vnni,
        Isa::Amx,
        Isa::Neon,
        Isa::Dotprod,
        Isa::I8mm,
    ];

    /// Whether a processor of this level has all instructions of `other`.
    pub fn includes(self, other: Isa) -> bool {
        match other {
            Isa::Reference => true,
            Isa::Avx2 => matches!(self, Isa::Avx2 | Isa::Avx512 | Isa::Vnni | Isa::Amx),
            Isa::Avx512 => matches!(self, Isa::Avx512 | Isa::Vnni | Isa::Amx),
            Isa::Vnni => matches!(self, Isa::Vnni | Isa::Amx),
            Isa::Neon => matches!(self, Isa::Neon | Isa::Dotprod | Isa::I8mm),
            Isa::Dotprod => matches!(self, Isa::Dotprod | Isa::I8mm),
            Isa::Amx | Isa::I8mm => self == other,
        }
    }

    /// The level's name, as `LANDFALL_ISA` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Reference => "reference",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Vnni => "vnni",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::Dotprod => "dotprod",
            Isa::I8mm => "i8mm",
        }
    }

    /// The level of that name, if this machine has it; otherwise what is missing.
    pub fn from_name(name: &str) -> Result<Isa, IsaError> {
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        let isa = isa.ok_or_else(|| IsaError::Unknown { name: name.to_owned() })?;
        Cpu::with_isa(isa).map(|cpu| cpu.isa)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An instruction set that was found on this machine. Holding one proves that its instructions
/// exist: only detection makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    isa: Isa,
    avx_vnni: bool,
    bf16: bool,
    bf16_in_tiles: bool,
    caches: CacheSizes,
}

impl Cpu {
    /// The best level of this machine.
    pub fn detect() -> Cpu {
        let available = |isa: &Isa| missing_features(*isa).is_empty();
        let isa = Isa::ALL.into_iter().rev().find(available).unwrap_or(Isa::Reference);
        Cpu::proved(isa)
    }

    /// A level at or below this machine's best.
    pub fn with_isa(isa: Isa) -> Result<Cpu, IsaError> {
        let missing = missing_features(isa);
        if missing.is_empty() {
            return Ok(Cpu::proved(isa));
        }
        Err(IsaError::Missing { isa, missing: missing.join(", "), best: Cpu::detect().isa })
    }

    /// Every level that this machine has, lowest first.
    pub fn available() -> impl Iterator<Item = Cpu> {
        Isa::ALL.into_iter().filter_map(|isa| Cpu::with_isa(isa).ok())
    }

    /// The scalar twin of [`Isa::Amx`], which every machine has: [`Isa::Reference`], but sums of
    /// products in bf16 are formed in the order of AMX.
    pub fn amx_twin() -> Cpu {
        Cpu { bf16_in_tiles: true, ..Cpu::proved(Isa::Reference) }
    }

    /// Every level that tests can run: those of this machine, and AMX emulated where it has only
    /// what else the level needs.
    #[cfg(test)]
    pub(crate) fn tested() -> impl Iterator<Item = Cpu> {
        Cpu::available().chain(Cpu::emulated_amx())
    }

    #[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
    fn emulated_amx() -> Option<Cpu> {
        let best = Cpu::detect();
        (best.isa == Isa::Vnni && best.bf16).then(|| {
            crate::amx::emulator::install();
            Cpu::proved(Isa::Amx)
        })
    }

    #[cfg(all(test, not(all(target_arch = "x86_64", target_os = "linux"))))]
    fn emulated_amx() -> Option<Cpu> {
        None
    }

    /// The level.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Whether 256-bit VNNI (the VEX encoding, separate from AVX-512's) may be used.
    pub fn has_avx_vnni(self) -> bool {
        self.avx_vnni
    }

    /// What measurements on this processor hold for: its maker, family, model and stepping, the
    /// level in use with what is beside it, and the cache sizes, such as
    /// `AuthenticAMD-25-17-1-vnni-bf16-32K-1024K`; on AArch64 the identification register stands
    /// for the first four, if the system shows it.
    pub fn signature(self) -> String {
        let (processor, CacheSizes { l1_bytes, l2_bytes }) = (processor(), self.caches);
        let beside = [(self.avx_vnni, "-avxvnni"), (self.bf16, "-bf16")];
        let beside: String = beside.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        format!("{processor}-{}{beside}-{}K-{}K", self.isa, l1_bytes >> 10, l2_bytes >> 10)
    }

    /// Whether AVX512_BF16 (dot products of bf16 pairs) may be used; never below [`Isa::Vnni`].
    pub fn has_bf16(self) -> bool {
        self.bf16
    }

    /// Whether sums of products in bf16 are formed in the order of AMX.
    pub(crate) fn sums_bf16_in_tiles(self) -> bool {
        self.bf16_in_tiles
    }

    /// Cache sizes of one core.
    pub fn caches(self) -> CacheSizes {
        self.caches
    }

    fn proved(isa: Isa) -> Cpu {
        let avx_vnni = isa.includes(Isa::Avx2) && has_avx_vnni();
        let bf16 = isa.includes(Isa::Vnni) && has_avx512_bf16();
        let bf16_in_tiles = isa.includes(Isa::Amx);
        Cpu { isa, avx_vnni, bf16, bf16_in_tiles, caches: CacheSizes::detect() }
    }
}

/// Maker, family, model and stepping, as CPUID leaves 0 and 1 tell.
#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    use std::arch::x86_64::__cpuid;

    let (maker, version) = (__cpuid(0), __cpuid(1).eax);
    let letters = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).concat();
    let maker = String::from_utf8_lossy(&letters).replace(|c: char| !c.is_alphanumeric(), "");
    let (family, model, stepping) = ((version >> 8) & 15, (version >> 4) & 15, version & 15);
    let model = if family == 6 || family == 15 { ((version >> 12) & 0xf0) | model } else { model };
    let family = if family == 15 { family + ((version >> 20) & 0xff) } else { family };
    format!("{maker}-{family}-{model}-{stepping}")
}

/// Implementer, variant, part and revision of the first core, as MIDR_EL1 encodes them, from where
/// Linux shows that register.
#[cfg(target_arch = "aarch64")]
fn processor() -> String {
    let path = "/sys/devices/system/cpu/cpu0/regs/identification/midr_el1";
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match u32::from_str_radix(text.trim().trim_start_matches("0x"), 16) {
        Ok(midr) => format!("aarch64-{midr:08x}"),
        Err(_) => "aarch64".to_owned(),
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}

#[cfg(target_arch = "x86_64")]
fn missing_features(isa: Isa) -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected as has;

    let mut features = Vec::new();
    if isa.includes(Isa::Neon) {
        features.push(("an AArch64 processor", false));
    }
    if isa.includes(Isa::Avx2) {
        features.extend([("avx2", has!("avx2")), ("fma", has!("fma"))]);
    }
    if isa.includes(Isa::Avx512) {
        features.extend([("avx512f", has!("avx512f")), ("avx512bw", has!("avx512bw"))]);
        features.extend([("avx512vl", has!("avx512vl")), ("avx512dq", has!("avx512dq"))]);
    }
    if isa.includes(Isa::Vnni) {
        features.push(("avx512vnni", has!("avx512vnni")));
    }
    if isa.includes(Isa::Amx) {
        features.push(("avx512bf16", has!("avx512bf16")));
        features.extend(crate::amx::features());
    }
    features.into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn missing_features(isa: Isa) -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as has;

    let mut features = Vec::new();
    if isa.includes(Isa::Avx2) {
        features.push(("an x86-64 processor", false));
    }
    if isa.includes(Isa::Neon) {
        features.push(("neon", has!("neon")));
    }
    if isa.includes(Isa::Dotprod) {
        features.push(("dotprod", has!("dotprod")));
    }
    if isa.includes(Isa::I8mm) {
        features.push(("i8mm", has!("i8mm")));
    }
    features.into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn missing_features(isa: Isa) -> Vec<&'static str> {
    if isa == Isa::Reference { Vec::new() } else { vec!["an x86-64 or AArch64 processor"] }
}

#[cfg(target_arch = "x86_64")]
fn has_avx_vnni() -> bool {
    std::arch::is_x86_feature_detected!("avxvnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx_vnni() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn has_avx512_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_named() {
        for (i, isa) in Isa::ALL.into_iter().enumerate() {
            assert!(isa.includes(isa) && isa.includes(Isa::Reference));
            assert!(Isa::ALL[..i].iter().all(|lower| !lower.includes(isa)), "{isa} is not higher");
        }
        assert!(Isa::Vnni.includes(Isa::Avx2) && Isa::I8mm.includes(Isa::Neon));
        assert!(!Isa::Vnni.includes(Isa::Neon) && !Isa::I8mm.includes(Isa::Avx2));
        assert_eq!(Isa::from_name("reference"), Ok(Isa::Reference));
        let error = Isa::from_name("sse9").unwrap_err().to_string();
        assert!(error.contains("sse9") && error.contains("avx2"), "{error}");
        let amx = Isa::from_name("amx");
        assert!(amx == Ok(Isa::Amx) || amx.unwrap_err().to_string().contains("`amx` needs"));
    }

    #[test]
    fn a_signature_names_processor_level_and_caches() {
        for cpu in Cpu::available() {
            let signature = cpu.signature();
            assert!(signature.contains(&format!("-{}-", cpu.isa())), "{signature}");
            assert!(signature.ends_with('K') && !signature.contains(' '), "{signature}");
        }
    }

    #[test]
    fn a_level_is_granted_exactly_when_its_features_exist() {
        let best = Cpu::detect().isa();
        for isa in Isa::ALL {
            match Cpu::with_isa(isa) {
                Ok(cpu) => assert!(cpu.isa() == isa && best.includes(isa)),
                Err(error) => {
                    assert!(!best.includes(isa) && !missing_features(isa).is_empty(), "{error}");
                }
            }
        }
    }
}
