//! What this machine is, as far as it matters for running models: read from the system, measured, never changed.

mod bandwidth;
mod cpu;
mod memory;
mod system_files;
mod threads;

pub use bandwidth::{Bandwidth, measure};
pub use cpu::Cpu;
pub use memory::Memory;
pub use threads::threads;
