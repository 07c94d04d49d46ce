//! Writing model files: the header first, then tensors as they come, and the name only when all is on the disk.

mod atomic;
mod gguf;
mod layout;
mod safetensors;

pub use atomic::AtomicFile;
pub use gguf::{GgufKeys, GgufWriter};
pub use layout::TensorSpec;
pub use safetensors::SafetensorsWriter;
