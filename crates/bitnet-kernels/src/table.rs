//! The table of kernels.

#[cfg(test)]
use crate::selftest::faulty::{self, Fault};
#[cfg(target_arch = "aarch64")]
use crate::{aarch64_dotprod, aarch64_i8mm, aarch64_neon};
use crate::{isa::Op, scalar};
#[cfg(target_arch = "x86_64")]
use crate::{x86_avx2, x86_avx512vnni, x86_avxvnni, x86_sse41};

/// Which module runs an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Sse41,
    #[cfg(target_arch = "aarch64")]
    I8mm,
    #[cfg(target_arch = "aarch64")]
    Dotprod,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
    #[cfg(test)]
    Faulty(Fault),
}

/// An instruction set's implementation of every operation. All kernels return the same bits.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    name: &'static str,
    short: &'static str,
    set: Set,
}

/// Best first; the last runs anywhere.
static TABLE: &[Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    Kernel { name: "x86_64-t2-i8-avx512vnni", short: "avx512vnni", set: Set::Avx512Vnni },
    #[cfg(target_arch = "x86_64")]
    Kernel { name: "x86_64-t2-i8-avxvnni", short: "avxvnni", set: Set::AvxVnni },
    #[cfg(target_arch = "x86_64")]
    Kernel { name: "x86_64-t2-i8-avx2", short: "avx2", set: Set::Avx2 },
    #[cfg(target_arch = "x86_64")]
    Kernel { name: "x86_64-t2-i8-sse41", short: "sse41", set: Set::Sse41 },
    #[cfg(target_arch = "aarch64")]
    Kernel { name: "aarch64-t2-i8-i8mm", short: "i8mm", set: Set::I8mm },
    #[cfg(target_arch = "aarch64")]
    Kernel { name: "aarch64-t2-i8-dotprod", short: "dotprod", set: Set::Dotprod },
    #[cfg(target_arch = "aarch64")]
    Kernel { name: "aarch64-t2-i8-neon", short: "neon", set: Set::Neon },
    Kernel { name: "generic-t2-i8-scalar", short: "scalar", set: Set::Scalar },
];

/// Why a kernel cannot be had here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// No kernel of this build has that name.
    #[error("no kernel is named '{name}'; this build has {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Names of this build's kernels, separated by commas.
        known: String,
    },
    /// The CPU lacks the instructions.
    #[error("kernel '{name}' needs instructions that this CPU does not report; available here: {available}")]
    Unsupported {
        /// The full name of the kernel that was asked for.
        name: &'static str,
        /// Names of the kernels that would run.
        available: String,
    },
    /// The CPU reports the instructions, yet they give wrong results (as some virtual machines do).
    #[error("kernel '{name}' fails its self-test on this CPU: {what} differs from the scalar reference")]
    SelfTest {
        /// The full name of the kernel that failed.
        name: &'static str,
        /// The operation whose result was wrong.
        what: &'static str,
    },
    /// There was no memory for the test.
    #[error("kernel '{name}' could not be tested: {why}")]
    Untested {
        /// The full name of the kernel that could not be tested.
        name: &'static str,
        /// What was missing: memory, for its inputs.
        why: String,
    },
}

/// Names of every kernel of this build, best first, whether or not this CPU can run it.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|kernel| kernel.name)
}

/// The kernels whose instructions this CPU reports, best first.
pub fn available() -> impl Iterator<Item = &'static Kernel> {
    TABLE.iter().filter(|kernel| kernel.supported())
}

/// The kernel of that full name (`x86_64-t2-i8-avx2`) or short name (`avx2`).
///
/// # Errors
/// [`KernelError::Unknown`], [`KernelError::Unsupported`].
pub fn by_name(name: &str) -> Result<&'static Kernel, KernelError> {
    let wanted = match name {
        "avx512" => "avx512vnni",
        other => other,
    };
    let kernel = TABLE.iter().find(|k| k.name == wanted || k.short == wanted);
    let kernel = kernel.ok_or_else(|| unknown(name))?;
    if kernel.supported() {
        Ok(kernel)
    } else {
        Err(KernelError::Unsupported { name: kernel.name, available: names(available()) })
    }
}

/// The error for a name that no kernel has.
pub(crate) fn unknown(name: &str) -> KernelError {
    KernelError::Unknown { name: name.into(), known: names(TABLE.iter()) }
}

/// The reference, the last of the table.
pub(crate) fn scalar() -> &'static Kernel {
    &TABLE[TABLE.len() - 1]
}

fn names<'a>(kernels: impl Iterator<Item = &'a Kernel>) -> String {
    let names: Vec<_> = kernels.map(|k| k.name).collect();
    names.join(", ")
}

impl Kernel {
    /// The scalar kernel with a fault.
    #[cfg(test)]
    pub(crate) fn faulty(fault: Fault) -> Self {
        Self { name: "faulty", short: "faulty", set: Set::Faulty(fault) }
    }

    /// Architecture, weight coding, activation type, instruction set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The instruction set's name alone.
    pub fn short_name(&self) -> &'static str {
        self.short
    }

    /// Whether this CPU reports the instructions.
    pub fn supported(&self) -> bool {
        match self.set {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => x86_avx512vnni::supported(),
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => x86_avxvnni::supported(),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => x86_avx2::supported(),
            #[cfg(target_arch = "x86_64")]
            Set::Sse41 => x86_sse41::supported(),
            #[cfg(target_arch = "aarch64")]
            Set::I8mm => aarch64_i8mm::supported(),
            #[cfg(target_arch = "aarch64")]
            Set::Dotprod => aarch64_dotprod::supported(),
            #[cfg(target_arch = "aarch64")]
            Set::Neon => aarch64_neon::supported(),
            Set::Scalar => scalar::supported(),
            #[cfg(test)]
            Set::Faulty(_) => true,
        }
    }

    /// Runs `op` compiled for this kernel's instruction set. A `&Kernel` only leaves this module by [`available`],
    /// [`by_name`] and [`crate::select`], which have checked `supported`.
    #[inline]
    pub(crate) fn run<O: Op>(&self, op: O) -> O::Output {
        match self.set {
            // SAFETY: the CPU has the features, by the check that every public way to this call has made.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => unsafe { x86_avx512vnni::run(op) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni if const { !O::FLOATS } => unsafe { x86_avxvnni::run(op) },
            // SAFETY: as above; what has AVX-VNNI has AVX2.
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => unsafe { x86_avx2::run(op) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { x86_avx2::run(op) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Sse41 => unsafe { x86_sse41::run(op) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Set::I8mm => unsafe { aarch64_i8mm::run(op) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Set::Dotprod => unsafe { aarch64_dotprod::run(op) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Set::Neon => unsafe { aarch64_neon::run(op) },
            Set::Scalar => scalar::run(op),
            #[cfg(test)]
            Set::Faulty(fault) => faulty::run(fault, op),
        }
    }
}
