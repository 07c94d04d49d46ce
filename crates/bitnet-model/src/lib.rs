//! What a model is: its configuration, its parts and their weights, and in which form each is held.
//!
//! - [`Config`]: sizes, constants, and the few switches in which families differ.
//! - [`Mixer`]: what mixes the positions of a block.
//! - [`Part`]: what a decoder is made of, by names of our own; [`PartSource`]: where it comes from.
//! - [`Weight`]: a matrix as it comes from there, of trits or of floats ([`Table`]).
//! - [`LayoutPlan`]: the form of every matrix, from the configuration, what is known of the matrix, and wishes.
//!
//! Not here: what files call the parts and how they store them (`bitnet-source`), what is computed with them
//! (`bitnet-decoder`), and where (`bitnet-device`).

#![forbid(unsafe_code)]

mod config;
mod error;
mod layout;
mod mixer;
mod parts;
mod rearrange;
mod rope;
mod table;
mod weight;

pub use config::{ActivationChoice, Config, GateActivation, Recurrent};
pub use error::ModelError;
pub use layout::{Facts, Layout, LayoutPlan, MatrixForm, Sparsity, WORTH_SKIPPING, Wishes};
pub use mixer::{DeltaNet, HadamardFold, Mixer};
pub use parts::{Norm, Part, PartSource, Projection};
pub use rope::{Rope, RopeScaling, Yarn};
pub use table::Table;
pub use weight::Weight;
