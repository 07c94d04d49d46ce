//! In which form a device holds each projection: decided here, once, from the model's configuration, what its file says of the
//! matrix, and what was asked for. Results are the same in every form.

use std::sync::Arc;

use bitnet_quant::{Activations, Granularity};

use crate::{Config, GateActivation, Projection};

/// In how many bits ternary projections are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// As the engine sees fit.
    #[default]
    Auto,
    /// Two bits a weight: least arithmetic.
    TwoBit,
    /// 1.6 bits a weight: fewest bytes.
    Base3,
}

/// Whether feed-forward layers of squared ReLU leave out what is exactly 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sparsity {
    /// As the engine sees fit.
    #[default]
    Auto,
    /// They do.
    On,
    /// They do not.
    Off,
}

/// A block whose share of open gates is below this leaves out zeros by default. Rows of `up` pay below 0.53 and columns of
/// `down` below 0.68 of two bits' time on one thread, against base 3 below 0.43 and 0.55: this is less than any of them,
/// since the share changes with the text, and several tokens at a time pay for the layout.
pub const WORTH_SKIPPING: f32 = 0.35;

/// The form of one matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatrixForm {
    /// Strips of two bits a trit. Matrices that are none of trits have no other form, and stay as they are.
    #[default]
    Strips,
    /// Strips of five trits a byte.
    Base3,
    /// Rows, of which those that nobody needs are left out: `up`, where a gate of squared ReLU is closed.
    Rows,
    /// Columns, of which those that meet a 0 are left out: `down`.
    Columns,
}

/// What was asked for, and what is known of the machine and the texts.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// In how many bits trits are held.
    pub layout: Layout,
    /// Whether base 3 was measured to be faster here.
    pub base3_is_faster: bool,
    /// Whether zeros are left out.
    pub sparsity: Sparsity,
    /// The share of gates that are open in each block, where it was measured.
    pub open_gates: Option<Arc<[f32]>>,
    /// Whether matrices are mapped from a file in strips. Laying them out anew takes longer than a short answer, so only an
    /// explicit wish does.
    pub mapped: bool,
}

/// What the file, or an adapter, says of one projection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Runs that share a scale; `None` for what is no single matrix of trits.
    pub scales: Option<Granularity>,
    /// Whether something is added to its outputs: a bias or a side path. An output that was left out would lack it.
    pub added: bool,
    /// Whether its input passes a norm of its own.
    pub input_norm: bool,
}

/// The form of every projection of a model.
#[derive(Clone, Debug, Default)]
pub struct LayoutPlan {
    base3: bool,
    skips: Skips,
}

/// The blocks that leave out zeros.
#[derive(Clone, Debug, Default)]
enum Skips {
    #[default]
    Nowhere,
    Everywhere,
    /// Where the share of open gates is small enough.
    Shares(Arc<[f32]>),
}

impl LayoutPlan {
    /// The plan for a model of `config` whose trits are multiplied with `activations`. Without wishes everything is in strips
    /// ([`LayoutPlan::default`]).
    pub fn new(config: &Config, activations: Activations, wishes: &Wishes) -> Self {
        // All forms but strips take activations of one step per token.
        if activations != Activations::Int8PerToken {
            return Self::default();
        }
        let base3 = match wishes.layout {
            Layout::Auto => wishes.base3_is_faster && !wishes.mapped,
            Layout::TwoBit => false,
            Layout::Base3 => true,
        };
        let skips = match (wishes.sparsity, &wishes.open_gates) {
            _ if config.activation != GateActivation::SquaredRelu => Skips::Nowhere,
            (Sparsity::On, _) => Skips::Everywhere,
            (Sparsity::Auto, Some(shares)) if !wishes.mapped => Skips::Shares(shares.clone()),
            _ => Skips::Nowhere,
        };
        Self { base3, skips }
    }

    /// The form of a projection of block `layer`.
    pub fn form(&self, layer: usize, projection: Projection, facts: Facts) -> MatrixForm {
        match facts.scales {
            None | Some(Granularity::Group(_)) => return MatrixForm::Strips,
            Some(Granularity::Tensor | Granularity::Row) => {}
        }
        match projection {
            Projection::Up if self.skips(layer) && !facts.added && !facts.input_norm => MatrixForm::Rows,
            Projection::Down if self.skips(layer) => MatrixForm::Columns,
            _ if self.base3 => MatrixForm::Base3,
            _ => MatrixForm::Strips,
        }
    }

    fn skips(&self, layer: usize) -> bool {
        match &self.skips {
            Skips::Nowhere => false,
            Skips::Everywhere => true,
            Skips::Shares(shares) => shares.get(layer).is_some_and(|&share| share < WORTH_SKIPPING),
        }
    }
}
