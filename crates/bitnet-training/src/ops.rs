//! Operations with their own backward.
//!
//! On the CPU each is one node of Burn's graph: it keeps what its backward needs and nothing else, and both directions are written
//! out. On other devices (and in tests, as the yardstick) it is a composition of Burn's operations ([`composed`]), whose
//! backward is Burn's.

mod attention;
pub mod composed;
mod distill;
mod embedding;
pub(crate) mod fused;
mod gate;
mod linear;
mod loss;
mod norm;
mod recompute;
mod relations;
mod rows;
mod side;
mod sizes;

pub use attention::attention;
pub use distill::distillation;
pub use embedding::embedding;
pub use gate::gate;
pub use linear::linear;
pub use loss::cross_entropy;
pub use norm::rms_norm;
pub use recompute::recompute;
pub use relations::relations;
pub use side::side_path;
pub use sizes::{FakeQuantization, Heads, Relations};
