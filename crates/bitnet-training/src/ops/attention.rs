//! Causal attention with rotary embedding, from the projections of queries, keys and values to the heads' outputs.

use bitnet_kernels::Kernel;
use burn_flex::FlexTensor;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::{
    composed,
    fused::{Fused, apply, contiguous, floats, from_floats, matmul, node, tensor, transposed},
    rows,
    sizes::Heads,
};

/// Attention of `[batch * positions, q_width + 2 kv_width]` (queries, keys, values of each token) as `[batch * positions,
/// q_width]`: each position sees itself and those before it in its sequence.
pub fn attention(kernel: &'static Kernel, qkv: Tensor<2>, heads: &Heads) -> Tensor<2> {
    match node(&qkv) {
        Some(qkv) => tensor(apply(Attention { kernel, heads: heads.clone() }, [qkv])),
        None => composed::attention(qkv, heads),
    }
}

#[derive(Clone, Debug)]
struct Attention {
    kernel: &'static Kernel,
    heads: Heads,
}

/// Rotated queries and keys, values and probabilities, by sequence and key head. The queries of a group stand one behind the
/// other, so that every product is one matrix product per key head.
#[derive(Clone, Debug)]
struct Saved {
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    p: FlexTensor,
}

impl Fused<1> for Attention {
    type Saved = Saved;

    fn forward(&self, [qkv]: [FlexTensor; 1], keep: bool) -> (FlexTensor, Option<Saved>) {
        let h = &self.heads;
        let x = floats(&qkv);
        let (blocks, t) = (h.batch * h.kv, h.positions);
        let (q_len, kv_len) = (h.group * t * h.dim, t * h.dim);
        let (mut q, mut k, mut v) =
            (vec![0.0; blocks * q_len], vec![0.0; blocks * kv_len], vec![0.0; blocks * kv_len]);
        let parts = q.par_chunks_mut(q_len).zip(k.par_chunks_mut(kv_len)).zip(v.par_chunks_mut(kv_len));
        parts.enumerate().for_each(|(block, ((q, k), v))| {
            for position in 0..t {
                let row = &x[self.row(block, position)..][..h.width()];
                for g in 0..h.group {
                    let out = &mut q[(g * t + position) * h.dim..][..h.dim];
                    out.copy_from_slice(&row[self.query(block, g)..][..h.dim]);
                    self.rotate(out, position);
                }
                let out = &mut k[position * h.dim..][..h.dim];
                out.copy_from_slice(&row[self.key(block)..][..h.dim]);
                self.rotate(out, position);
                v[position * h.dim..][..h.dim].copy_from_slice(&row[self.value(block)..][..h.dim]);
            }
        });
        let q = from_floats(q, [blocks, h.group * t, h.dim]);
        let k = from_floats(k, [blocks, t, h.dim]);
        let v = from_floats(v, [blocks, t, h.dim]);
        let mut p = contiguous(&matmul(q.clone(), transposed(k.clone())));
        let scale = h.scale();
        rows::each(p.storage_mut(), t, |row, p| {
            let (seen, hidden) = p.split_at_mut(row % t + 1);
            self.kernel.scale(seen, scale);
            self.kernel.softmax(seen);
            hidden.fill(0.0);
        });
        let heads = contiguous(&matmul(p.clone(), v.clone()));
        let out = self.gather(floats(&heads));
        (out, keep.then_some(Saved { q, k, v, p }))
    }

    fn backward(&self, saved: Saved, grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let h = &self.heads;
        let Saved { q, k, v, p } = saved;
        let t = h.positions;
        let d_out = self.scatter(floats(&grad));
        let dv = contiguous(&matmul(transposed(p.clone()), d_out.clone()));
        // Of a softmax: p (dp - sum(dp p)), and the scale of the scores.
        let mut ds = contiguous(&matmul(d_out, transposed(v)));
        let (ps, scale) = (floats(&p), h.scale());
        rows::each(ds.storage_mut(), t, |row, ds| {
            let p = &ps[row * t..][..t];
            let seen = row % t + 1;
            let along = rows::fold(&ds[..seen], &p[..seen], |d, p| d * p);
            ds.iter_mut().zip(p).for_each(|(d, p)| *d = (p * (*d - along)) * scale);
        });
        let dq = contiguous(&matmul(ds.clone(), k));
        let dk = contiguous(&matmul(transposed(ds), q));
        let mut dx = vec![0.0; h.batch * t * h.width()];
        let (dq, dk, dv) = (floats(&dq), floats(&dk), floats(&dv));
        rows::each(&mut dx, h.width(), |row, out| {
            let (sequence, position) = (row / t, row % t);
            for kv in 0..h.kv {
                let block = sequence * h.kv + kv;
                for g in 0..h.group {
                    let part = &mut out[self.query(block, g)..][..h.dim];
                    part.copy_from_slice(&dq[((block * h.group + g) * t + position) * h.dim..][..h.dim]);
                    self.rotate_back(part, position);
                }
                let part = &mut out[self.key(block)..][..h.dim];
                part.copy_from_slice(&dk[(block * t + position) * h.dim..][..h.dim]);
                self.rotate_back(part, position);
                let part = &mut out[self.value(block)..][..h.dim];
                part.copy_from_slice(&dv[(block * t + position) * h.dim..][..h.dim]);
            }
        });
        [Some(from_floats(dx, [h.batch * t, h.width()]))]
    }
}

impl Attention {
    /// Where the row of `position` in the sequence of `block` begins.
    fn row(&self, block: usize, position: usize) -> usize {
        (block / self.heads.kv * self.heads.positions + position) * self.heads.width()
    }

    /// Where query head `g` of `block` begins in a token's row.
    fn query(&self, block: usize, g: usize) -> usize {
        (block % self.heads.kv * self.heads.group + g) * self.heads.dim
    }

    fn key(&self, block: usize) -> usize {
        self.heads.q_width() + block % self.heads.kv * self.heads.dim
    }

    fn value(&self, block: usize) -> usize {
        self.key(block) + self.heads.kv * self.heads.dim
    }

    fn angles(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.heads.dim / 2;
        (&self.heads.cos[position * half..][..half], &self.heads.sin[position * half..][..half])
    }

    fn rotate(&self, head: &mut [f32], position: usize) {
        let (cos, sin) = self.angles(position);
        self.kernel.rope(head, cos, sin);
    }

    /// The rotation's transpose, which turns by the negative angle.
    fn rotate_back(&self, head: &mut [f32], position: usize) {
        let (cos, sin) = self.angles(position);
        let (a, b) = head.split_at_mut(cos.len());
        for ((a, b), (c, s)) in a.iter_mut().zip(b).zip(cos.iter().zip(sin)) {
            (*a, *b) = (*a * c + *b * s, *b * c - *a * s);
        }
    }

    /// The heads' outputs, by block, as rows of tokens.
    fn gather(&self, heads: &[f32]) -> FlexTensor {
        let h = &self.heads;
        let t = h.positions;
        let mut out = vec![0.0; h.batch * t * h.q_width()];
        rows::each(&mut out, h.q_width(), |row, out| {
            for (head, part) in out.chunks_exact_mut(h.dim).enumerate() {
                let block = row / t * h.kv * h.group + head;
                part.copy_from_slice(&heads[(block * t + row % t) * h.dim..][..h.dim]);
            }
        });
        from_floats(out, [h.batch * t, h.q_width()])
    }

    /// [`Attention::gather`] the other way round.
    fn scatter(&self, tokens: &[f32]) -> FlexTensor {
        let h = &self.heads;
        let t = h.positions;
        let mut out = vec![0.0; tokens.len()];
        rows::each(&mut out, h.dim, |row, part| {
            let (block, position) = (row / t, row % t);
            let (sequence, head) = (block / (h.kv * h.group), block % (h.kv * h.group));
            let from = (sequence * t + position) * h.q_width() + head * h.dim;
            part.copy_from_slice(&tokens[from..][..h.dim]);
        });
        from_floats(out, [h.batch * h.kv, h.group * t, h.dim])
    }
}
