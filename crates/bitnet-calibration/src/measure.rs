//! What each matrix alone does to the loss, and what it becomes under a budget.

use std::collections::BTreeMap;

use bitnet_convert::stored_bytes;
use bitnet_core::ThreadPool;
use bitnet_model::{ActivationChoice, ModelError, Part, Projection, Weight};

use crate::{
    Choice, Fitted, Grid, Hessian, Plan, PlanOption, QuantizeError, QuantizeStep, Sensitivity, Stored, block,
    evaluate::loss,
    overlay::Overlay,
    quantize::{Job, STAGES},
};

impl Job<'_> {
    /// The loss with each matrix alone quantized.
    pub(crate) fn measure(&mut self) -> Result<(), QuantizeError> {
        let all: Vec<_> = self.projections().collect();
        let grid = if self.options.budget.is_some() { Grid::Ternary } else { self.options.scheme.grid };
        let before = self.report.loss_before.unwrap_or(0.0);
        for (done, &(layer, p)) in all.iter().enumerate() {
            (self.progress)(QuantizeStep::Measuring, done, all.len());
            let part = Part::Weight(layer, p);
            let (shape, weights) = self.weights(part)?;
            let weight = as_weight(&self.fit(shape, &weights, grid, None), &self.source.name(part))?;
            let overlay = Overlay { source: self.source, changed: [(part, weight)].into() };
            let change = loss(&overlay, self.cpu, self.held_out, ActivationChoice::Auto)? - before;
            self.report.sensitivities.push(Sensitivity { part, name: self.source.name(part), change });
        }
        Ok(())
    }

    /// The grid that each projection gets under the plan.
    pub(crate) fn grids(&mut self) -> Result<BTreeMap<Part, Grid>, QuantizeError> {
        let Some(budget) = self.options.budget else {
            let grid = self.options.scheme.grid;
            return Ok(self.projections().map(|(layer, p)| (Part::Weight(layer, p), grid)).collect());
        };
        let choices = self.choices()?;
        let plan = Plan::new(&choices, budget)?;
        let grids = plan.chosen.iter().map(|(part, option)| (*part, option.grid)).collect();
        self.report.plan = Some(plan);
        Ok(grids)
    }

    /// What each choice of each matrix would do: the measured loss of one plane, times the choice's error of the outputs on the
    /// calibration text over that of one plane. (A small error adds to the loss as its square.)
    fn choices(&mut self) -> Result<Vec<Choice>, QuantizeError> {
        let (mut hidden, mut choices) = (self.embedded()?, Vec::new());
        let none = BTreeMap::new();
        for layer in 0..self.source.config().layers {
            for stage in STAGES {
                let hessian = self.statistics(layer, stage[0], &none, &hidden)?;
                for &p in stage {
                    (self.progress)(QuantizeStep::Planning, choices.len(), 7 * self.source.config().layers);
                    choices.push(self.choice(layer, p, &hessian)?);
                }
            }
            hidden = block::next(self.source, layer, &none, hidden, self.cpu)?;
        }
        Ok(choices)
    }

    fn choice(&self, layer: usize, p: Projection, hessian: &Hessian) -> Result<Choice, QuantizeError> {
        let part = Part::Weight(layer, p);
        let (shape, weights) = self.weights(part)?;
        let mut made = Vec::new();
        let measured = self.report.sensitivities.iter().find(|s| s.part == part).map_or(0.0, |s| s.change);
        // What measures as a gain is noise: such a matrix is only less important than all others.
        let measured = measured.max(1e-6);
        let mut one = 0.0;
        let mut options = Vec::new();
        for grid in Grid::CHOICES {
            let Ok(form) = self.form(part, grid, shape[1]) else { continue };
            let Some(bytes) = stored_bytes(shape, form) else { continue };
            let feedback = self.feedback(part, grid, Some(hessian), &mut made)?;
            let fitted = self.fit(shape, &weights, grid, feedback);
            let error = output_error(hessian, &weights, &fitted, self.cpu.threads());
            if grid == Grid::Ternary {
                one = error;
            }
            let harm = if one > 0.0 { measured * error / one } else { 0.0 };
            options.push(PlanOption { grid, bytes, harm });
        }
        Ok(Choice { part, options })
    }
}

fn as_weight(fitted: &Fitted, name: &str) -> Result<Weight, QuantizeError> {
    Ok(match fitted.clone().stored().map_err(ModelError::quant(name))? {
        Stored::Plane(m) => Weight::Ternary(m),
        Stored::Planes(planes) => Weight::Planes(Box::new((*planes).map(Weight::Ternary))),
        Stored::Blocks(ty, bytes) => {
            Weight::Table(bitnet_source::block_table(name, ty, fitted.shape(), bytes.into())?)
        }
    })
}

/// Squared error of the outputs on the calibration text.
fn output_error(hessian: &Hessian, weights: &[f32], fitted: &Fitted, threads: &ThreadPool) -> f64 {
    let [rows, cols] = fitted.shape();
    let mut errors = vec![0.0f64; rows];
    threads.for_each_chunk_mut(&mut errors, 1, |r, out| {
        let mut row = vec![0.0; cols];
        fitted.row_to_f32(r, &mut row);
        row.iter_mut().zip(&weights[r * cols..]).for_each(|(q, w)| *q -= w);
        out[0] = hessian.weighted(&row);
    });
    errors.iter().sum()
}
