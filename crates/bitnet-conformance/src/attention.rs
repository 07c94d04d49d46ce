//! Keys and values into pages, and attention over them: several sequences, shared pages, page edges.

use bitnet_model::{
    Batch, Device, DeviceError, KvShape, ModelError, Output, PAGE, PageId, PageStore, Pass, Pending,
    Sequences, Span,
};

use crate::{
    Suite,
    bench::{download, numbers, upload},
    both,
};

/// Runs operations in a pass over `batch`.
pub(crate) fn run_batch<D: Device>(
    device: &D,
    batch: Batch<'_>,
    work: impl FnOnce(&mut D::Pass<'_>),
) -> Result<(), ModelError> {
    let mut pages = device.pages(KvShape { layers: 1, heads: 1, head_dim: 8 })?;
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

pub(crate) fn check<D: Device>(suite: &mut Suite<'_, D>) -> Result<(), ModelError> {
    for (layers, heads, kv_heads, head_dim) in SHAPES {
        let shape = KvShape { layers, heads: kv_heads, head_dim };
        let case = format!(
            "attention of {heads} heads over {kv_heads} of {head_dim}, {layers} blocks, forks and page edges"
        );
        both!(suite, case, heads * head_dim, |device| attend(device, shape, heads));
    }
    Ok(())
}

struct Store<'a, D: Device>(&'a D, &'a mut D::Pages);

impl<D: Device> PageStore for Store<'_, D> {
    fn add(&mut self) -> Result<(), DeviceError> {
        self.0.add_page(self.1)
    }

    fn copy(&mut self, from: PageId, to: PageId) -> Result<(), DeviceError> {
        self.0.copy_page(self.1, from, to)
    }
}

/// All steps, the third sequence forked from the first in the middle of a page.
fn attend<D: Device>(device: &D, shape: KvShape, heads: usize) -> Result<Vec<f32>, ModelError> {
    let mut pages = device.pages(shape)?;
    let mut sequences = Sequences::new(4 * PAGE, device.page_bytes(&pages), None);
    let (first, second) = (sequences.open(), sequences.open());
    let mut third = sequences.open();
    let (mut results, mut seed) = (Vec::new(), 10);
    for (number, tokens) in STEPS.into_iter().enumerate() {
        if number == 4 {
            sequences.close(third);
            third = sequences.fork(first, PAGE - 3)?;
        }
        let spans: Vec<Span> = [second, third, first]
            .into_iter()
            .zip([tokens[1], tokens[2], tokens[0]])
            .map(|(sequence, tokens)| Span { sequence, tokens, output: Output::None })
            .collect();
        let ids = vec![0; tokens.iter().sum()];
        sequences.plan::<ModelError>(&ids, &spans, &mut Store(device, &mut pages))?;
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
) -> Result<Vec<f32>, ModelError> {
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
