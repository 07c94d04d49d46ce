//! The gated feed-forward layer.
//!
//! ```text
//! y = BitLinear(sub_norm(activation(BitLinear_gate(x)) * BitLinear_up(x)))
//! ```

use crate::{Activated, BitLinear, linear::project, state::State};
use bitnet_device::{Device, Gated, Pass, Skipping, Stage};
use bitnet_model::Config;

/// The parameters of one block's feed-forward layer.
pub(crate) struct FeedForward<D: Device> {
    pub(crate) gate: BitLinear<D>,
    pub(crate) up: BitLinear<D>,
    pub(crate) sub_norm: Option<D::Vector>,
    pub(crate) down: BitLinear<D>,
}

impl<D: Device> FeedForward<D> {
    /// Its projections, in no promised order.
    pub(crate) fn projections(&self) -> impl Iterator<Item = &BitLinear<D>> {
        [&self.gate, &self.up, &self.down].into_iter()
    }

    /// Works on the normed rows in `s.x` and leaves the result there.
    pub(crate) fn run(
        &self,
        (c, layer): (&Config, usize),
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        tokens: usize,
    ) {
        let State { x, gate, up, own, sides, .. } = s;
        if self.up.skips_rows(c.activation) {
            project(pass, x, &mut own.hidden, sides, tokens, [(&self.gate, gate.fresh())]);
            pass.look(Stage::Gate(layer), &gate.rows, tokens);
            x.quantize(pass, tokens, self.up.form);
            let Activated { rows, codes, .. } = &*x;
            let gated = Gated { up: &self.up.weight, x: rows, codes, gate: gate.fresh(), spare: up };
            D::Skip::gate(pass, gated, tokens);
        } else {
            project(
                pass,
                x,
                &mut own.hidden,
                sides,
                tokens,
                [(&self.gate, gate.fresh()), (&self.up, &mut *up)],
            );
            pass.look(Stage::Gate(layer), &gate.rows, tokens);
            pass.look(Stage::Up(layer), up, tokens);
            pass.gate(c.activation, gate.fresh(), up, tokens);
        }
        if let Some(norm) = &self.sub_norm {
            // The spent buffer takes the values while they are normed.
            std::mem::swap(up, &mut gate.rows);
            pass.rms_norm(up, tokens, norm, c.norm_eps, gate.fresh());
        }
        pass.look(Stage::DownInput(layer), &gate.rows, tokens);
        project(pass, gate, &mut own.ffn, sides, tokens, [(&self.down, x.fresh())]);
        pass.look(Stage::Down(layer), &x.rows, tokens);
    }
}
