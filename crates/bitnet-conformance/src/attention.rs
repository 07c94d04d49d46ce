//! Keys and values into pages, and attention over them: several sequences, shared pages, page edges.

use bitnet_cpu::KvType;
use bitnet_decoder::DecoderError;
use bitnet_device::{
    Batch, Device, DeviceError, KvShape, Output, PAGE, PageId, PageStore, Pass, Pending, SequenceId,
    SequenceShape, SequenceSizes, Sequences, Span,
};

use crate::{
    Exactness,
    bench::{download, numbers, upload},
    suite::{Suite, both},
};

/// Runs operations in a pass over `batch`.
pub(crate) fn run_batch<D: Device>(
    device: &D,
    batch: Batch<'_>,
    work: impl FnOnce(&mut D::Pass<'_>),
) -> Result<(), DecoderError> {
    let kv = KvShape { layers: 1, heads: 1, head_dim: 8 };
    let mut pages = device.pages(SequenceShape { kv, recurrent: None }, 1)?;
    let mut pass = device.begin(batch, &mut pages, None)?;
    work(&mut pass);
    pass.submit()?.wait()?;
    Ok(())
}

/// `(layers, heads, key heads, dimensions of a head)`.
const SHAPES: [(usize, usize, usize, usize); 5] =
    [(1, 1, 1, 2), (2, 3, 1, 6), (2, 4, 2, 20), (1, 6, 3, 64), (3, 5, 5, 128)];

/// Steps: for each of three sequences, how many tokens it takes. The first sees the edge of a page from every side.
const STEPS: [[usize; 3]; 8] =
    [[7, 1, 200], [247, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 90], [0, 3, 1], [300, 2, 0], [1, 1, 1]];

pub(crate) fn check<D: Device>(suite: &mut Suite<'_, D>) -> Result<(), DecoderError> {
    for (layers, heads, kv_heads, head_dim) in SHAPES {
        let shape = KvShape { layers, heads: kv_heads, head_dim };
        let case = format!(
            "attention of {heads} heads over {kv_heads} of {head_dim}, {layers} blocks, forks and page edges"
        );
        both!(suite, case, heads * head_dim, |device| attend(device, shape, heads));
        if suite.reference.kv_type() == KvType::F32 {
            // Pages that are the wrong ones in the same way everywhere are found here alone.
            let case = format!("attention by its definition, {heads} heads over {kv_heads} of {head_dim}");
            let got = attend(suite.device, shape, heads)?;
            suite.compare_within(
                Exactness::Within(1e-4),
                case,
                heads * head_dim,
                &got,
                &definition(shape, heads),
            );
        }
    }
    Ok(())
}

/// The pages of a device, by number.
pub(crate) struct Store<'a, D: Device>(pub(crate) &'a D, pub(crate) &'a mut D::Pages);

impl<D: Device> PageStore for Store<'_, D> {
    fn add(&mut self) -> Result<(), DeviceError> {
        self.0.add_page(self.1)
    }

    fn copy(&mut self, from: PageId, to: PageId) -> Result<(), DeviceError> {
        self.0.copy_page(self.1, from, to)
    }

    fn add_state(&mut self) -> Result<(), DeviceError> {
        self.0.add_state(self.1)
    }
}

/// The spans of a step in which the sequences take so many tokens each. The first one stands last: rows and sequences are not in
/// one order.
pub(crate) fn spans([first, second, third]: [SequenceId; 3], tokens: [usize; 3]) -> [Span; 3] {
    let of = |(sequence, tokens)| Span { sequence, tokens, output: Output::None };
    [(second, tokens[1]), (third, tokens[2]), (first, tokens[0])].map(of)
}

/// All steps, the third sequence forked from the first in the middle of a page.
fn attend<D: Device>(device: &D, shape: KvShape, heads: usize) -> Result<Vec<f32>, DecoderError> {
    let mut pages = device.pages(SequenceShape { kv: shape, recurrent: None }, 4 * PAGE)?;
    let (capacity, page_bytes) = (4 * PAGE, device.page_bytes(&pages));
    let mut sequences = Sequences::new(SequenceSizes { capacity, page_bytes, ..Default::default() });
    let (first, second) = (sequences.open(), sequences.open());
    let mut third = sequences.open();
    let (mut results, mut seed) = (Vec::new(), 10);
    for (number, tokens) in STEPS.into_iter().enumerate() {
        if number == 4 {
            sequences.close(third);
            third = sequences.fork(first, PAGE - 3)?;
        }
        let spans = spans([first, second, third], tokens);
        let ids = vec![0; tokens.iter().sum()];
        sequences.plan::<DecoderError>(&ids, &spans, &mut Store(device, &mut pages))?;
        let batch = sequences.batch(&ids);
        for layer in 0..shape.layers {
            seed += 1;
            results.extend(block(device, (batch, &mut pages), layer, (shape, heads), seed)?);
        }
        sequences.commit(&spans);
    }
    Ok(results)
}

/// One block's keys and values, then its attention.
fn block<D: Device>(
    device: &D,
    (batch, pages): (Batch<'_>, &mut D::Pages),
    layer: usize,
    (shape, heads): (KvShape, usize),
    seed: usize,
) -> Result<Vec<f32>, DecoderError> {
    let tokens = batch.ids.len();
    let (width, kv_width) = (heads * shape.head_dim, shape.heads * shape.head_dim);
    let q = upload(device, &numbers(tokens * width, seed), width)?;
    let k = upload(device, &numbers(tokens * kv_width, seed + 100), kv_width)?;
    let v = upload(device, &numbers(tokens * kv_width, seed + 200), kv_width)?;
    let mut scratch = device.scratch(shape, heads, 4 * PAGE, tokens)?;
    let mut out = device.rows(tokens, width)?;
    let mut pass = device.begin(batch, pages, None)?;
    pass.append(layer, &k, &v);
    pass.attend(layer, &q, &mut scratch, &mut out);
    pass.submit()?.wait()?;
    Ok(download(device, &mut out, tokens)?)
}

/// Keys and values of one sequence in one block, position by position.
type Past = Vec<(Vec<f32>, Vec<f32>)>;

/// What [`attend`] gives, by the definition of attention: no pages, no order of sums that anybody promises, in f64.
fn definition(shape: KvShape, heads: usize) -> Vec<f32> {
    let KvShape { layers, heads: kv_heads, head_dim } = shape;
    let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let mut past: Vec<[Past; 3]> = vec![Default::default(); layers];
    let (mut results, mut seed) = (Vec::new(), 10);
    for (number, tokens) in STEPS.into_iter().enumerate() {
        if number == 4 {
            past.iter_mut().for_each(|block| block[2] = block[0][..PAGE - 3].to_vec());
        }
        for block in &mut past {
            seed += 1;
            let count = tokens.iter().sum::<usize>();
            let (q, k, v) = (
                numbers(count * width, seed),
                numbers(count * kv_width, seed + 100),
                numbers(count * kv_width, seed + 200),
            );
            let mut row = 0;
            for which in [1, 2, 0] {
                for _ in 0..tokens[which] {
                    let kv = row * kv_width..(row + 1) * kv_width;
                    block[which].push((k[kv.clone()].to_vec(), v[kv].to_vec()));
                    let q = &q[row * width..(row + 1) * width];
                    for head in 0..heads {
                        let of = head * kv_heads / heads * head_dim;
                        let query = &q[head * head_dim..(head + 1) * head_dim];
                        results.extend(one_head(query, &block[which], of));
                    }
                    row += 1;
                }
            }
        }
    }
    results
}

/// `softmax(q k / sqrt(head_dim)) v` of one query head, whose keys and values begin at `of`.
fn one_head(query: &[f32], past: &[(Vec<f32>, Vec<f32>)], of: usize) -> Vec<f32> {
    let dim = query.len();
    let score = |key: &[f32]| {
        let dot: f64 = query.iter().zip(&key[of..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        dot / (dim as f64).sqrt()
    };
    let scores: Vec<f64> = past.iter().map(|(key, _)| score(key)).collect();
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let value =
        |i: usize| weights.iter().zip(past).map(|(w, (_, v))| w * f64::from(v[of + i])).sum::<f64>() / sum;
    (0..dim).map(|i| value(i) as f32).collect()
}
