//! One block of a model, run by the ordinary decoder: its embedding is the hidden states that the block before has left.

use std::collections::BTreeMap;

use bitnet_core::tensor::DenseMatrix;
use bitnet_cpu::Cpu;
use bitnet_decoder::{DecoderError, Model, Runner, RunnerOptions};
use bitnet_device::{Looking, Observe, Output, Span, Stage};
use bitnet_model::{
    ActivationChoice, Config, ModelError, Part, PartSource, Projection, Table, Weight, Wishes,
};

use crate::Windows;

/// The residual stream of every token of the calibration text.
pub(crate) struct Hidden {
    width: usize,
    values: Vec<f32>,
    /// How many tokens each window has.
    windows: Vec<usize>,
}

impl Hidden {
    /// Before the first block: rows of the embedding.
    pub(crate) fn embedded(embedding: &Weight, width: usize, text: &Windows) -> Self {
        let mut values = vec![0.0; text.tokens() * width];
        let ids = text.iter().flatten();
        for (&id, row) in ids.zip(values.chunks_exact_mut(width)) {
            embedding.row_to_f32(id as usize, row);
        }
        Self { width, values, windows: text.iter().map(<[u32]>::len).collect() }
    }

    pub(crate) fn tokens(&self) -> usize {
        self.values.len() / self.width
    }
}

/// A model whose only block is block `layer` of the source, with some matrices replaced.
struct OneBlock<'a> {
    source: &'a dyn PartSource,
    layer: usize,
    config: Config,
    hidden: Table,
    changed: &'a BTreeMap<Projection, Weight>,
}

impl OneBlock<'_> {
    /// The same part of the whole model.
    fn of_model(&self, part: Part) -> Part {
        match part {
            Part::Norm(_, norm) => Part::Norm(self.layer, norm),
            Part::Weight(_, p) => Part::Weight(self.layer, p),
            Part::Bias(_, p) => Part::Bias(self.layer, p),
            Part::InputNorm(_, p) => Part::InputNorm(self.layer, p),
            other => other,
        }
    }
}

impl PartSource for OneBlock<'_> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn name(&self, part: Part) -> String {
        self.source.name(self.of_model(part))
    }

    fn byte_len(&self, part: Part) -> u64 {
        self.source.byte_len(self.of_model(part))
    }

    fn weight(&self, part: Part) -> Result<Weight, ModelError> {
        match part {
            Part::Embedding => Ok(Weight::Table(self.hidden.clone())),
            Part::Weight(_, p) if self.changed.contains_key(&p) => Ok(self.changed[&p].clone()),
            other => self.source.weight(self.of_model(other)),
        }
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        self.source.vector(self.of_model(part))
    }
}

/// Runs block `layer` of `source`, with `changed` for some of its projections, over `hidden`; `observer` sees the rows of the
/// stages that it wants, window by window.
pub(crate) fn run(
    source: &dyn PartSource,
    layer: usize,
    changed: &BTreeMap<Projection, Weight>,
    hidden: &Hidden,
    cpu: &Cpu,
    observer: &mut dyn Observe,
) -> Result<(), DecoderError> {
    let table =
        DenseMatrix::from_f32(hidden.tokens(), hidden.width, &hidden.values).map_err(ModelError::from)?;
    // The head is never asked for; tied, it needs no matrix of its own.
    let config = Config { layers: 1, vocab: hidden.tokens(), tied_head: true, ..source.config().clone() };
    let block = OneBlock { source, layer, config, hidden: Table::Dense(table), changed };
    let model = Model::load(
        &block,
        cpu.clone(),
        cpu.threads(),
        ActivationChoice::Auto,
        &Wishes::default(),
        &|_, _| {},
    )?;
    let longest = hidden.windows.iter().copied().max().unwrap_or(1);
    let mut runner = Runner::new(model, RunnerOptions { tokens: longest, context: longest, kv_bytes: None })?;
    let mut first = 0u32;
    for &tokens in &hidden.windows {
        let ids: Vec<u32> = (first..first + tokens as u32).collect();
        first += tokens as u32;
        let sequence = runner.sequences().open();
        let span = Span { sequence, tokens, output: Output::None };
        runner.step(&ids, &[span], &mut |_: usize, _: &[f32]| {}, Some(observer))?;
        runner.sequences().close(sequence);
    }
    Ok(())
}

/// What the block leaves for the next one.
pub(crate) fn next(
    source: &dyn PartSource,
    layer: usize,
    changed: &BTreeMap<Projection, Weight>,
    hidden: Hidden,
    cpu: &Cpu,
) -> Result<Hidden, DecoderError> {
    let mut values = Vec::with_capacity(hidden.values.len());
    let output = |stage| matches!(stage, Stage::BlockOutput(_));
    let keep = |_: Stage, rows: &[f32]| values.extend_from_slice(rows);
    run(source, layer, changed, &hidden, cpu, &mut Looking::at(output, keep))?;
    Ok(Hidden { values, ..hidden })
}
