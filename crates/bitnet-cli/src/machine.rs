//! What this machine is, as far as it matters for running models: read from the system, measured, never changed.

mod bandwidth;
mod cpu;
mod memory;
mod system_files;
mod threads;

pub use bandwidth::{Bandwidth, measure};
pub use cpu::Processor;
pub use memory::MachineMemory;
pub use threads::threads;
