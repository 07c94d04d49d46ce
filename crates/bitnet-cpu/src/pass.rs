//! The operations of a step on the CPU, each computed when it is called.

use std::ops::Range;

use bitnet_core::Buffer;
use bitnet_quant::{Activations, Axis, QuantizedRows};

use crate::{
    AttentionScratch, Cpu, Matrix, Rows, SequenceMemory, attention, cpu::ELEMENTS_PER_CHUNK, recurrent,
};
use bitnet_device::{Batch, DeviceError, Finished, Job, Observe, Pass, Recur, Stage, Transform};
use bitnet_model::GateActivation;

/// A step on the CPU: references, no state of its own.
pub struct CpuPass<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) batch: Batch<'a>,
    pub(crate) pages: &'a mut SequenceMemory,
    pub(crate) observer: Option<&'a mut (dyn Observe + 'a)>,
}

impl<'a> Pass<'a, Cpu> for CpuPass<'a> {
    type Pending = Finished;

    fn embed(&mut self, table: &Matrix, out: &mut Rows) {
        let (width, ids) = (out.width, self.batch.ids);
        self.cpu.each_row(out.of_mut(ids.len()), width, |token, row| {
            self.cpu.row(table, ids[token] as usize, row);
        });
    }

    fn gather(&mut self, x: &Rows, rows: &[u32], out: &mut Rows) {
        let to = out.of_mut(rows.len()).chunks_exact_mut(x.width);
        for (&row, to) in rows.iter().zip(to) {
            to.copy_from_slice(x.row(row as usize));
        }
    }

    fn rms_norm(&mut self, x: &Rows, tokens: usize, weight: &Buffer<f32>, eps: f32, out: &mut Rows) {
        let width = x.width;
        self.cpu.each_row(out.of_mut(tokens), width, |token, row| {
            self.cpu.kernel.rmsnorm(x.row(token), weight, eps, row);
        });
    }

    fn rms_norm_heads(&mut self, x: &mut Rows, tokens: usize, weight: &Buffer<f32>, eps: f32) {
        self.cpu.each_row(x.of_mut(tokens), weight.len(), |_, head| {
            self.cpu.kernel.rmsnorm_in_place(head, weight, eps);
        });
    }

    fn quantize(&mut self, x: &Rows, tokens: usize, form: Activations, out: &mut QuantizedRows) {
        let (cpu, per_chunk) = (self.cpu, (ELEMENTS_PER_CHUNK / x.width).max(1));
        out.for_each_token_mut(&cpu.threads, tokens, per_chunk, |token, codes, steps, sums| match form {
            Activations::Int8PerBlock => {
                cpu.kernel.quantize_blocks_into(x.row(token), codes, steps, sums);
            }
            _ => (steps[0], sums[0]) = cpu.kernel.quantize_into(x.row(token), codes),
        });
    }

    fn project(
        &mut self,
        x: &Rows,
        codes: &QuantizedRows,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, Cpu>],
    ) {
        self.cpu.project(x, codes, form, tokens, jobs);
    }

    fn angles(&mut self, frequencies: &Buffer<f32>, factor: f32, out: &mut Rows) {
        let mut rows = out.data.chunks_exact_mut(out.width);
        for place in self.batch.places {
            for (position, row) in (place.position..place.position + place.tokens).zip(&mut rows) {
                let (cos, sin) = row.split_at_mut(frequencies.len());
                for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies.iter()) {
                    // The angle is rounded to f32 as in the models' own code; its functions are libm's in f64,
                    // rounded once, so that every platform has the same bits, and rounded again when they are scaled.
                    let angle = f64::from(position as f32 * frequency);
                    (*cos, *sin) = (libm::cos(angle) as f32 * factor, libm::sin(angle) as f32 * factor);
                }
            }
        }
    }

    fn transform(
        &mut self,
        x: &Rows,
        tokens: usize,
        how: Transform,
        block: usize,
        signs: Option<&Buffer<f32>>,
        out: &mut Rows,
    ) {
        let (width, kernel) = (x.width, self.cpu.kernel);
        self.cpu.each_row(out.of_mut(tokens), width, |token, row| {
            let sign = |row: &mut [f32]| {
                if let Some(signs) = signs {
                    kernel.multiply(row, signs);
                }
            };
            row.copy_from_slice(x.row(token));
            match how {
                Transform::Fold => {
                    sign(row);
                    kernel.hadamard(row, block);
                }
                Transform::Unfold => {
                    kernel.hadamard(row, block);
                    sign(row);
                }
            }
        });
    }

    fn rope(&mut self, x: &mut Rows, tokens: usize, head_dim: usize, angles: &Rows) {
        let width = x.width;
        self.cpu.each_row(x.of_mut(tokens), width, |token, row| {
            let (cos, sin) = angles.row(token).split_at(angles.width / 2);
            row.chunks_exact_mut(head_dim).for_each(|head| self.cpu.kernel.rope(head, cos, sin));
        });
    }

    fn convolve(&mut self, layer: usize, x: &mut Rows, weights: &Buffer<f32>) {
        if let Some(states) = &mut self.pages.recurrent {
            recurrent::convolve(self.cpu, (layer, self.batch, states), x, weights);
        }
    }

    fn recur(&mut self, layer: usize, inputs: Recur<'_, Cpu>, out: &mut Rows) {
        if let Some(states) = &mut self.pages.recurrent {
            recurrent::recur(self.cpu, (layer, self.batch, states), inputs, out);
        }
    }

    fn append(&mut self, layer: usize, k: &Rows, v: &Rows) {
        for place in self.batch.places {
            let of = |rows: &'_ Rows| place.row * rows.width..(place.row + place.tokens) * rows.width;
            let rows = (&k.data[of(k)], &v.data[of(v)]);
            self.pages.kv.append((self.cpu.kernel, &self.cpu.threads), layer, (&self.batch, place), rows);
        }
    }

    fn attend(&mut self, layer: usize, q: &Rows, scratch: &mut AttentionScratch, out: &mut Rows) {
        attention::attend(self.cpu, (layer, self.batch, &self.pages.kv), q, scratch, out);
    }

    fn gate(&mut self, activation: GateActivation, gate: &mut Rows, up: &Rows, tokens: usize) {
        let cpu = self.cpu;
        cpu.threads.for_each_chunk_mut(gate.of_mut(tokens), ELEMENTS_PER_CHUNK, |chunk, gate| {
            let up = &up.data[chunk * ELEMENTS_PER_CHUNK..][..gate.len()];
            match activation {
                GateActivation::Silu => cpu.kernel.silu_mul(gate, up),
                GateActivation::SquaredRelu => cpu.kernel.relu2_mul(gate, up),
            }
        });
    }

    fn sigmoid_gate(&mut self, gate: &mut Rows, x: &Rows, tokens: usize) {
        let cpu = self.cpu;
        cpu.threads.for_each_chunk_mut(gate.of_mut(tokens), ELEMENTS_PER_CHUNK, |chunk, gate| {
            cpu.kernel.sigmoid_mul(gate, &x.data[chunk * ELEMENTS_PER_CHUNK..][..gate.len()]);
        });
    }

    fn add(&mut self, x: &mut Rows, y: &Rows, tokens: usize) {
        let cpu = self.cpu;
        cpu.threads.for_each_chunk_mut(x.of_mut(tokens), ELEMENTS_PER_CHUNK, |chunk, x| {
            cpu.kernel.add(x, &y.data[chunk * ELEMENTS_PER_CHUNK..][..x.len()]);
        });
    }

    fn look(&mut self, stage: Stage, rows: &Rows, tokens: usize) {
        if let Some(observer) = &mut self.observer
            && observer.wants(stage)
        {
            observer.rows(stage, rows.of(tokens));
        }
    }

    fn fetch(&mut self, _: &mut Rows, _: usize) {
        // The host reads the device's own rows.
    }

    fn submit(self) -> Result<Finished, DeviceError> {
        Ok(std::future::ready(Ok(())))
    }
}

impl Cpu {
    /// Row `id` of a matrix, as floats.
    fn row(&self, table: &Matrix, id: usize, row: &mut [f32]) {
        match table {
            Matrix::Ternary(w) => w.row_to_f32(id, row),
            Matrix::Base3(w) => w.row_to_f32(id, row),
            Matrix::Lines(w) => w.row_to_f32(id, row),
            Matrix::Planes(planes) => {
                planes[0].row_to_f32(id, row);
                // Single weights, far from any hot loop.
                let mut second = vec![0.0; row.len()];
                planes[1].row_to_f32(id, &mut second);
                self.kernel.add(row, &second);
            }
            Matrix::Table(t) => t.row_to_f32(id, row),
        }
    }

    fn project(
        &self,
        x: &Rows,
        codes: &QuantizedRows,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, Self>],
    ) {
        assert!(jobs.len() <= 3, "a step has at most three projections");
        if let [Job { weight: Matrix::Lines(w), bias, out }] = jobs
            && w.axis() == Axis::Columns
        {
            assert!(form == Activations::Int8PerToken, "lines take activations of one step per token");
            self.multiply_columns(w, codes, out, tokens);
            if let Some(bias) = bias {
                let width = out.width;
                self.each_row(out.of_mut(tokens), width, |_, row| self.kernel.add(row, bias));
            }
            return;
        }
        let (mut weights, mut biases) = ([None; 3], [None; 3]);
        for (job, (weight, bias)) in jobs.iter().zip(weights.iter_mut().zip(&mut biases)) {
            (*weight, *bias) = (Some(job.weight), job.bias);
        }
        let mut outs = jobs.iter_mut().map(|job| (job.out.width, &mut job.out.data));
        let mut next = || match outs.next() {
            Some((width, data)) => (&mut data[..tokens * width], width),
            None => (&mut [][..], 1),
        };
        let mut matrices = [next(), next(), next()];
        self.threads.for_each_columns_of(&mut matrices, self.rows_per_chunk, |job, mut out| {
            let Some(weight) = weights[job] else { return };
            self.multiply(weight, x, codes, form, &mut out);
            if let Some(bias) = biases[job] {
                let Range { start, end } = out.start()..out.start() + out.width();
                for token in 0..tokens {
                    self.kernel.add(out.row(token), &bias[start..end]);
                }
            }
        });
    }
}
