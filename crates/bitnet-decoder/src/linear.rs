//! BitLinear: a ternary projection of quantized activations.

use bitnet_quant::Activations;

use bitnet_device::{Device, DeviceError, Job, Pass, Skipping, Transform};
use bitnet_model::{GateActivation, HadamardFold};

/// Activations with their quantized form, which is made once for all projections that read them.
pub struct Activated<D: Device> {
    /// `[tokens, width]`.
    pub rows: D::Rows,
    pub(crate) codes: D::Codes,
    /// The form that `codes` holds now.
    form: Option<Activations>,
    folded: Option<Folded<D>>,
}

/// The same activations in the basis of folded weights.
struct Folded<D: Device> {
    block: usize,
    signs: Option<D::Vector>,
    rows: D::Rows,
    codes: D::Codes,
    /// Whether `rows` are those of the activations as they are now.
    made: bool,
    form: Option<Activations>,
}

impl<D: Device> Activated<D> {
    /// Room for `capacity` tokens of a model whose weights may be folded.
    pub(crate) fn new(
        device: &D,
        capacity: usize,
        width: usize,
        fold: Option<&HadamardFold>,
    ) -> Result<Self, DeviceError> {
        let folded = |fold: &HadamardFold| {
            let signs = fold.signs(width).map(|signs| device.vector(signs)).transpose()?;
            let (rows, codes) = (device.rows(capacity, width)?, device.codes(capacity, width)?);
            Ok::<_, DeviceError>(Folded { block: fold.block, signs, rows, codes, made: false, form: None })
        };
        Ok(Self {
            rows: device.rows(capacity, width)?,
            codes: device.codes(capacity, width)?,
            form: None,
            folded: fold.map(folded).transpose()?,
        })
    }

    /// The rows, about to be replaced.
    pub(crate) fn fresh(&mut self) -> &mut D::Rows {
        self.form = None;
        if let Some(folded) = &mut self.folded {
            (folded.made, folded.form) = (false, None);
        }
        &mut self.rows
    }

    /// Makes the quantized form unless it is there.
    pub(crate) fn quantize(&mut self, pass: &mut D::Pass<'_>, tokens: usize, form: Activations) {
        if form != Activations::Float && self.form != Some(form) {
            pass.quantize(&self.rows, tokens, form, &mut self.codes);
            self.form = Some(form);
        }
    }

    /// What a product with a matrix reads that takes `form` and may be folded: rows and codes.
    pub(crate) fn input(
        &mut self,
        pass: &mut D::Pass<'_>,
        tokens: usize,
        (form, is_folded): (Activations, bool),
    ) -> (&D::Rows, &D::Codes) {
        let Self { rows: plain, codes: plain_codes, form: plain_form, folded } = self;
        let (rows, codes, has) = match folded {
            Some(Folded { block, signs, rows, codes, made, form }) if is_folded => {
                if !std::mem::replace(made, true) {
                    pass.transform(plain, tokens, Transform::Fold, *block, signs.as_ref(), rows);
                }
                (&*rows, codes, form)
            }
            _ => (&*plain, plain_codes, plain_form),
        };
        if form != Activations::Float && *has != Some(form) {
            pass.quantize(rows, tokens, form, codes);
            *has = Some(form);
        }
        (rows, codes)
    }

    /// The rows, which are in the basis of folded weights, out of it.
    pub(crate) fn unfold(&self, pass: &mut D::Pass<'_>, tokens: usize, out: &mut D::Rows) {
        let Some(Folded { block, signs, .. }) = &self.folded else {
            unreachable!("folded matrices of a model without a fold are refused when it is loaded")
        };
        pass.transform(&self.rows, tokens, Transform::Unfold, *block, signs.as_ref(), out);
    }
}

/// A projection: ternary weights times quantized activations, or dense weights times floats.
///
/// `y = (int8(x) . trits) * step * scale + bias` (arXiv:2402.17764, section 2). With `use_rms_norm` the input
/// first passes a norm of the projection's own.
pub struct BitLinear<D: Device> {
    pub(crate) weight: D::Matrix,
    pub(crate) bias: Option<D::Vector>,
    pub(crate) input_norm: Option<D::Vector>,
    pub(crate) input_norm_eps: f32,
    /// What the weight is multiplied with; float for dense weights.
    pub(crate) form: Activations,
    /// Whether the weight is stored in the basis of the model's fold.
    pub(crate) folded: bool,
    pub(crate) side: Option<SidePath<D>>,
}

/// Two thin matrices of floats beside a projection: `y + up (down x)`, `x` as it is before it is quantized.
pub struct SidePath<D: Device> {
    pub(crate) down: D::Matrix,
    pub(crate) up: D::Matrix,
    pub(crate) outputs: usize,
}

/// Room for the products of side paths.
pub(crate) struct SideRooms<D: Device> {
    low: D::Rows,
    /// By width.
    wide: Vec<(usize, D::Rows)>,
}

impl<D: Device> SideRooms<D> {
    pub(crate) fn new(
        device: &D,
        capacity: usize,
        rank: usize,
        mut widths: Vec<usize>,
    ) -> Result<Self, DeviceError> {
        widths.sort_unstable();
        widths.dedup();
        let room = |width| Ok((width, device.rows(capacity, width)?));
        Ok(Self {
            low: device.rows(capacity, rank)?,
            wide: widths.into_iter().map(room).collect::<Result<_, DeviceError>>()?,
        })
    }
}

impl<D: Device> BitLinear<D> {
    /// Whether outputs can be left out under `activation`: they are exactly 0 and nothing is added to them.
    pub(crate) fn skips_rows(&self, activation: GateActivation) -> bool {
        activation == GateActivation::SquaredRelu
            && self.form == Activations::Int8PerToken
            && self.bias.is_none()
            && self.input_norm.is_none()
            && self.side.is_none()
            && !self.folded
            && D::Skip::applies(&self.weight)
    }

    fn job<'a>(&'a self, out: &'a mut D::Rows) -> Job<'a, D> {
        Job { weight: &self.weight, bias: self.bias.as_ref(), out }
    }

    /// Adds the side path's product to `out`.
    fn add_side(
        &self,
        pass: &mut D::Pass<'_>,
        x: &Activated<D>,
        rooms: &mut Option<SideRooms<D>>,
        tokens: usize,
        out: &mut D::Rows,
    ) {
        let (Some(side), Some(SideRooms { low, wide })) = (&self.side, rooms) else { return };
        let Some((_, wide)) = wide.iter_mut().find(|(width, _)| *width == side.outputs) else {
            unreachable!("there is room for the outputs of every projection")
        };
        // Products of floats read no codes.
        let mut product = |weight, x: &D::Rows, codes: &D::Codes, out: &mut D::Rows| {
            pass.project(x, codes, Activations::Float, tokens, &mut [Job { weight, bias: None, out }]);
        };
        product(&side.down, &x.rows, &x.codes, low);
        product(&side.up, low, &x.codes, wide);
        pass.add(out, wide, tokens);
    }
}

/// Applies projections that read the same rows: in one step, with one quantization, unless each norms its own input.
///
/// `own` is where a projection with a norm of its own puts its input, `sides` is room for side paths, which read `x` itself.
pub(crate) fn project<'a, const N: usize, D: Device>(
    pass: &mut D::Pass<'_>,
    x: &mut Activated<D>,
    own: &mut Activated<D>,
    sides: &mut Option<SideRooms<D>>,
    tokens: usize,
    pairs: [(&'a BitLinear<D>, &'a mut D::Rows); N],
) {
    let reads = |layer: &BitLinear<D>| (layer.form, layer.folded);
    let (form, folded) = reads(pairs[0].0);
    if pairs.iter().all(|(layer, _)| layer.input_norm.is_none() && reads(layer) == (form, folded)) {
        let layers = pairs.each_ref().map(|(layer, _)| *layer);
        let mut jobs = pairs.map(|(layer, out)| layer.job(out));
        let (rows, codes) = x.input(pass, tokens, (form, folded));
        pass.project(rows, codes, form, tokens, &mut jobs);
        let outs = layers.into_iter().zip(jobs);
        return outs.for_each(|(layer, job)| layer.add_side(pass, x, sides, tokens, job.out));
    }
    for (layer, out) in pairs {
        let input = match &layer.input_norm {
            Some(weight) => {
                pass.rms_norm(&x.rows, tokens, weight, layer.input_norm_eps, own.fresh());
                &mut *own
            }
            None => &mut *x,
        };
        let (rows, codes) = input.input(pass, tokens, reads(layer));
        pass.project(rows, codes, layer.form, tokens, &mut [layer.job(&mut *out)]);
        layer.add_side(pass, x, sides, tokens, out);
    }
}
