//! BitLinear: a ternary projection of quantized activations.

use bitnet_quant::Activations;

use crate::{Backend, GateActivation, ModelError, backend::Job};

/// Activations with their quantized form, which is made once for all projections that read them.
pub struct Activated<B: Backend> {
    /// `[tokens, width]`.
    pub rows: B::Rows,
    pub(crate) codes: B::Codes,
    /// The form that `codes` holds now.
    form: Option<Activations>,
}

impl<B: Backend> Activated<B> {
    /// Room for `capacity` tokens.
    pub(crate) fn new(backend: &B, capacity: usize, width: usize) -> Result<Self, ModelError> {
        Ok(Self { rows: backend.rows(capacity, width)?, codes: backend.codes(capacity, width)?, form: None })
    }

    /// The rows, about to be replaced.
    pub(crate) fn fresh(&mut self) -> &mut B::Rows {
        self.form = None;
        &mut self.rows
    }

    /// Makes the quantized form unless it is there.
    pub(crate) fn quantize(&mut self, backend: &B, tokens: usize, form: Activations) {
        if form != Activations::Float && self.form != Some(form) {
            backend.quantize(&self.rows, tokens, form, &mut self.codes);
            self.form = Some(form);
        }
    }
}

/// A projection: ternary weights times quantized activations, or dense weights times floats.
///
/// `y = (int8(x) . trits) * step * scale + bias` (arXiv:2402.17764, section 2). With `use_rms_norm` the input
/// first passes a norm of the projection's own.
pub struct BitLinear<B: Backend> {
    pub(crate) weight: B::Matrix,
    pub(crate) bias: Option<B::Vector>,
    pub(crate) input_norm: Option<B::Vector>,
    pub(crate) input_norm_eps: f32,
    /// What the weight is multiplied with; float for dense weights.
    pub(crate) form: Activations,
    pub(crate) side: Option<SidePath<B>>,
}

/// Two thin matrices of floats beside a projection: `y + up (down x)`, `x` as it is before it is quantized.
pub struct SidePath<B: Backend> {
    pub(crate) down: B::Matrix,
    pub(crate) up: B::Matrix,
    pub(crate) outputs: usize,
}

/// Room for the products of side paths.
pub(crate) struct SideRooms<B: Backend> {
    low: B::Rows,
    /// By width.
    wide: Vec<(usize, B::Rows)>,
}

impl<B: Backend> SideRooms<B> {
    pub(crate) fn new(
        backend: &B,
        capacity: usize,
        rank: usize,
        mut widths: Vec<usize>,
    ) -> Result<Self, ModelError> {
        widths.sort_unstable();
        widths.dedup();
        let room = |width| Ok((width, backend.rows(capacity, width)?));
        Ok(Self {
            low: backend.rows(capacity, rank)?,
            wide: widths.into_iter().map(room).collect::<Result<_, ModelError>>()?,
        })
    }
}

impl<B: Backend> BitLinear<B> {
    /// Whether outputs can be left out under `activation`: they are exactly 0 and nothing is added to them.
    pub(crate) fn skips_rows(&self, backend: &B, activation: GateActivation) -> bool {
        activation == GateActivation::SquaredRelu
            && self.form == Activations::Int8PerToken
            && self.bias.is_none()
            && self.input_norm.is_none()
            && self.side.is_none()
            && backend.skips_rows(&self.weight)
    }

    fn job<'a>(&'a self, out: &'a mut B::Rows) -> Job<'a, B> {
        Job { weight: &self.weight, bias: self.bias.as_ref(), out }
    }

    /// Adds the side path's product to `out`.
    fn add_side(
        &self,
        backend: &B,
        x: &Activated<B>,
        rooms: &mut Option<SideRooms<B>>,
        tokens: usize,
        out: &mut B::Rows,
    ) {
        let (Some(side), Some(SideRooms { low, wide })) = (&self.side, rooms) else { return };
        let Some((_, wide)) = wide.iter_mut().find(|(width, _)| *width == side.outputs) else { return };
        // Products of floats read no codes.
        let product = |weight, x: &B::Rows, codes: &B::Codes, out: &mut B::Rows| {
            backend.project(x, codes, Activations::Float, tokens, &mut [Job { weight, bias: None, out }]);
        };
        product(&side.down, &x.rows, &x.codes, low);
        product(&side.up, low, &x.codes, wide);
        backend.add(out, wide, tokens);
    }
}

/// Applies projections that read the same rows: in one step, with one quantization, unless each norms its own input.
///
/// `own` is where a projection with a norm of its own puts its input, `sides` is room for side paths, which read `x` itself.
pub(crate) fn project<'a, const N: usize, B: Backend>(
    backend: &B,
    x: &mut Activated<B>,
    own: &mut Activated<B>,
    sides: &mut Option<SideRooms<B>>,
    tokens: usize,
    pairs: [(&'a BitLinear<B>, &'a mut B::Rows); N],
) {
    let form = pairs[0].0.form;
    if pairs.iter().all(|(layer, _)| layer.input_norm.is_none() && layer.form == form) {
        x.quantize(backend, tokens, form);
        let layers = pairs.each_ref().map(|(layer, _)| *layer);
        let mut jobs = pairs.map(|(layer, out)| layer.job(out));
        backend.project(&x.rows, &x.codes, form, tokens, &mut jobs);
        let outs = layers.into_iter().zip(jobs);
        return outs.for_each(|(layer, job)| layer.add_side(backend, x, sides, tokens, job.out));
    }
    for (layer, out) in pairs {
        let input = match &layer.input_norm {
            Some(weight) => {
                backend.rms_norm(&x.rows, tokens, weight, layer.input_norm_eps, own.fresh());
                &mut *own
            }
            None => &mut *x,
        };
        input.quantize(backend, tokens, layer.form);
        backend.project(&input.rows, &input.codes, layer.form, tokens, &mut [layer.job(&mut *out)]);
        layer.add_side(backend, x, sides, tokens, out);
    }
}
