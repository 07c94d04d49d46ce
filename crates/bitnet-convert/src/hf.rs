//! A directory for transformers: packed, online masters, or exact floats.

use bitnet_format::{Metadata, TensorType};
use bitnet_model::{Config, ModelError, Part, Projection};
use bitnet_source::{Source, family::huggingface};
use half::{bf16, f16};
use serde_json::Value;

use crate::{
    ConvertError, Target,
    config_json::{self, QuantizationJson},
    encode,
    items::{From, How, Item},
    master::Master,
    rope,
    survey::{Held, Survey, Surveyed, Trits},
};

/// What the directory will hold besides texts.
pub(crate) struct Plan {
    pub(crate) config: Value,
    pub(crate) items: Vec<Item>,
    /// Biases may differ in the last bit: no number in the file is multiplied to the right one.
    pub(crate) biases_rounded: bool,
}

/// How the projections of the output are stored.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// uint8; scales multiply (`autobitlinear`) or divide (`bitlinear`).
    Packed { multiply: bool },
    /// Masters that are quantized at every use.
    Online,
    /// The weights themselves, which this engine recognizes as ternary.
    Exact,
}

/// What the directory will hold.
///
/// # Errors
/// What neither packed tensors nor `config.json` can say.
pub(crate) fn plan(
    source: &Source,
    survey: &Survey,
    target: Target,
    notes: &mut Vec<String>,
) -> Result<Plan, ConvertError> {
    let (mode, biases_rounded) = match target {
        Target::HfPacked => packed_mode(source, survey)?,
        _ => (float_mode(source.config(), survey, notes), false),
    };
    let layout = Layout { source, survey, mode, head: ternary_head(source.config(), survey, mode) };
    let mut items = Vec::new();
    for m in &survey.matrices {
        items.extend(layout.matrix(m)?);
    }
    notes.extend(widened(source, survey));
    for part in source.vectors() {
        items.push(layout.vector(part)?);
    }
    if biases_rounded {
        notes.push(
            "some biases differ in their last bit (about 1e-7 relative): transformers multiplies a packed layer's bias with \
             the weight's scale, and no f32 number times it is the exact bias. `--to hf-master` keeps them"
                .into(),
        );
    }
    let quantization = says_quantization(source.config()).then(|| QuantizationJson {
        linear_class: if mode == (Mode::Packed { multiply: false }) { "bitlinear" } else { "autobitlinear" },
        mode: if mode == Mode::Online { "online" } else { "offline" },
        dense: survey.dense_modules(),
        head: layout.head,
    });
    let ty = common_type(&items);
    if let Mode::Packed { .. } = mode {
        items = in_one_type(source, items, ty)?;
    }
    let config = config(source, dtype(ty), quantization.as_ref());
    Ok(Plan { config, items, biases_rounded })
}

/// `config.json`: the original's with what changes, or one made from the configuration.
pub(crate) fn config(source: &Source, dtype: &str, quantization: Option<&QuantizationJson>) -> Value {
    let config = source.config();
    match source.checkpoint().metadata() {
        Metadata::HuggingFace(m) => config_json::patched(&m.config, config, dtype, quantization),
        Metadata::Bitnet(m) => config_json::patched(&m.hf.config, config, dtype, quantization),
        _ => {
            let scaling = rope::parameters(config);
            let groups: [&[Projection]; 3] = [
                &[Projection::Query, Projection::Key, Projection::Value],
                &[Projection::Output],
                &[Projection::Gate, Projection::Up, Projection::Down],
            ];
            let vectors = source.vectors();
            let biases = groups.map(|group| {
                vectors.iter().any(|part| matches!(part, Part::Bias(_, p) if group.contains(p)))
            });
            config_json::to_config_json(config, &scaling, biases, dtype, quantization)
        }
    }
}

/// Whether `config.json` has to speak of quantization: that a model was trained with int8 activations, or, of a class whose
/// floats are taken for masters, which of them are not.
pub(crate) fn says_quantization(config: &Config) -> bool {
    config.trained_int8 || config.sub_norms
}

/// The name of a float type in `config.json`.
fn dtype(ty: TensorType) -> &'static str {
    match ty {
        TensorType::F16 => "float16",
        TensorType::Bf16 => "bfloat16",
        _ => "float32",
    }
}

/// The type that holds every float of `items` exactly: that of all of them, else F32.
fn common_type(items: &[Item]) -> TensorType {
    let fits = |item: &Item, ty: TensorType| match &item.from {
        From::Bytes(bytes) => {
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).all(|v| match ty {
                TensorType::F16 => f16::from_f32(v).to_f32() == v,
                _ => bf16::from_f32(v).to_f32() == v,
            })
        }
        _ => item.specs.iter().all(|spec| !spec.ty.is_float() || spec.ty == ty),
    };
    let mut narrow = [TensorType::Bf16, TensorType::F16].into_iter();
    narrow.find(|&ty| items.iter().all(|item| fits(item, ty))).unwrap_or(TensorType::F32)
}

/// Gives every float tensor the type `ty`, which holds it: transformers multiplies what it has unpacked with other tensors as
/// they stand in the file, and refuses to multiply two types.
fn in_one_type(source: &Source, items: Vec<Item>, ty: TensorType) -> Result<Vec<Item>, ConvertError> {
    let cast = |mut item: Item| -> Result<Item, ConvertError> {
        let spec = &mut item.specs[0];
        let values: Vec<f32> = match item.from {
            From::Matrix(_, How::Floats) => {
                spec.ty = ty;
                return Ok(item);
            }
            From::Raw(_, Some(part)) if spec.ty.is_float() && spec.ty != ty => {
                spec.ty = ty;
                return Ok(Item { from: From::Matrix(part, How::Floats), ..item });
            }
            From::Raw(name, None) if spec.ty.is_float() && spec.ty != ty => {
                source.checkpoint().tensor(&name)?.to_f32()?
            }
            From::Bytes(bytes) => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            _ => return Ok(item),
        };
        spec.ty = ty;
        let mut bytes = Vec::new();
        encode::floats_as(&values, ty, &mut bytes);
        Ok(Item { from: From::Bytes(bytes), ..item })
    };
    items.into_iter().map(cast).collect()
}

/// Why a target of trits does not hold a model whose `module` is dense, and what makes one of it that the target holds.
pub(crate) fn not_ternary(module: &str, because: &str, cure: &str) -> String {
    format!(
        "'{module}' is dense, not ternary, and {because}. {cure}; `--to bitnet` and `--to hf-master` hold this one as it is"
    )
}

/// `guess` and its neighbours among f32, for scales that must give an exact product.
fn around(guess: f32) -> [f32; 5] {
    let (up, down) = (guess.next_up(), guess.next_down());
    [guess, up, down, up.next_up(), down.next_down()]
}

/// What a reader multiplies with `scale` to get `bias` exactly.
fn unscaled(bias: f32, scale: f32) -> Option<f32> {
    around(bias / scale).into_iter().find(|b| b * scale == bias)
}

/// What a reader divides 1 by to get `scale` exactly.
fn reciprocal(scale: f32) -> Option<f32> {
    around(1.0 / scale).into_iter().find(|r| 1.0 / r == scale && r.is_finite())
}

/// `autobitlinear`, unless its biases, which are multiplied with the scale, come out exact only as `bitlinear`'s.
fn packed_mode(source: &Source, survey: &Survey) -> Result<(Mode, bool), ConvertError> {
    let refused = |reason: String| Err(ConvertError::Refused { target: Target::HfPacked, reason });
    if let Some(module) = survey.dense_modules().first().filter(|_| !source.config().trained_int8) {
        return refused(not_ternary(
            module,
            "the packed form holds trits that were trained with int8 activations",
            "Training makes such a model (`bitnet train`)",
        ));
    }
    if !source.config().trained_int8 {
        return refused(
            "it was trained with float activations, and readers of the packed form round activations to int8. `--to \
             hf-master` writes its exact weights"
                .into(),
        );
    }
    let zero = survey.projections().find(|(m, ..)| m.trits().is_some_and(|t| t.one == Some(0.0)));
    if let Some((m, ..)) = zero {
        return refused(format!("the scale of '{}' is 0. `--to hf-master` holds it", m.name));
    }
    let mut exact = true;
    for part in source.vectors() {
        let Part::Bias(layer, projection) = part else { continue };
        let (Some(scale), Some(values)) = (survey.scale_of(layer, projection), source.vector(part)?) else {
            continue;
        };
        exact &= values.iter().all(|&bias| unscaled(bias, scale).is_some());
    }
    if exact {
        return Ok((Mode::Packed { multiply: true }, false));
    }
    let mut scales = survey.projections().filter_map(|(m, ..)| m.trits()?.one);
    match scales.all(|s| reciprocal(s).is_some()) {
        true => Ok((Mode::Packed { multiply: false }, false)),
        false => Ok((Mode::Packed { multiply: true }, true)),
    }
}

/// Masters, where absmean gives the scales back; else exact weights.
fn float_mode(config: &Config, survey: &Survey, notes: &mut Vec<String>) -> Mode {
    if !config.trained_int8 {
        return Mode::Exact;
    }
    let possible = |m: &Surveyed| match m.trits() {
        Some(t) => t.one.is_some_and(|scale| Master::new(weights(m), t.nonzero, scale).is_some()),
        None => true,
    };
    match survey.projections().find(|(m, ..)| !possible(m)) {
        None => Mode::Online,
        Some(_) if survey.online => Mode::Online,
        Some((m, ..)) => {
            notes.push(format!(
                "'{}' has scales that online quantization cannot give (several, or one below 1e-5): the directory holds exact \
                 float weights, which this engine reads and transformers does not",
                m.name
            ));
            Mode::Exact
        }
    }
}

/// Whether an untied head of trits can be stored as projections are.
fn ternary_head(config: &Config, survey: &Survey, mode: Mode) -> bool {
    survey.head().filter(|_| config.trained_int8).is_some_and(|(m, t)| match (mode, t.one) {
        (Mode::Packed { .. }, Some(scale)) => t.loss.is_some() && scale != 0.0,
        (Mode::Online, Some(scale)) => t.master || Master::new(weights(m), t.nonzero, scale).is_some(),
        _ => false,
    })
}

fn weights(m: &Surveyed) -> u64 {
    m.shape[0] as u64 * m.shape[1] as u64
}

/// How parts are laid out in the directory.
struct Layout<'a> {
    source: &'a Source,
    survey: &'a Survey,
    mode: Mode,
    /// Whether an untied head is stored as projections are.
    head: bool,
}

/// The name of a part in directories that this crate writes.
pub(crate) fn name_of(part: Part) -> String {
    huggingface::names(part).swap_remove(0)
}

/// One sentence for all matrices that are written wider than they were.
pub(crate) fn widened(source: &Source, survey: &Survey) -> Option<String> {
    let wide = |m: &&Surveyed| matches!(m.held, Held::Table(ty) if !is_copied(source, m, ty));
    let mut wide = survey.matrices.iter().filter(wide);
    let (first, others) = (wide.next()?, wide.count());
    let ty = source.stored_as(first.part);
    Some(match others {
        0 => format!("'{}' was {ty} and is written as F32 with the same values", first.name),
        n => format!(
            "{} matrices ('{}' and others) were {ty} or the like and are written as F32 with the same values",
            n + 1,
            first.name
        ),
    })
}

/// Whether safetensors can hold the floats as they lie in the file. Planes and blocks of our own file are no tensors of that name.
fn is_copied(source: &Source, m: &Surveyed, ty: TensorType) -> bool {
    ty.is_float() && source.checkpoint().info(&m.name).is_some()
}

/// A matrix of floats: copied where safetensors can hold it, else decoded to f32.
pub(crate) fn table(source: &Source, m: &Surveyed, ty: TensorType) -> Item {
    let name = name_of(m.part);
    if is_copied(source, m, ty) {
        return match source.reorders(m.part) {
            true => Item::matrix(name, ty, m.shape, m.part, How::Floats),
            false => Item::copied(name, ty, m),
        };
    }
    Item::matrix(name, TensorType::F32, m.shape, m.part, How::Floats)
}

/// A vector, in the type that the original has it in.
pub(crate) fn vector(source: &Source, part: Part) -> Result<Item, ConvertError> {
    let name = source.name(part);
    let missing = || ModelError::MissingTensor { name: name.clone() };
    let info = source.checkpoint().info(&name).ok_or_else(missing)?;
    if info.ty().is_float() && !matches!(part, Part::Bias(..)) {
        return Ok(Item::raw(name_of(part), info.ty(), info.shape(), &name));
    }
    Ok(Item::floats(name_of(part), &source.vector(part)?.ok_or_else(missing)?))
}

impl Layout<'_> {
    fn matrix(&self, m: &Surveyed) -> Result<Vec<Item>, ConvertError> {
        let trits = match &m.held {
            Held::Table(ty) => return Ok(vec![table(self.source, m, *ty)]),
            Held::Trits(trits) => trits,
        };
        let name = name_of(m.part);
        let quantized = m.projection().is_some() || m.part == Part::Head && self.head;
        match self.mode {
            Mode::Packed { multiply } if quantized => self.packed(m, name, trits, multiply),
            Mode::Online if quantized => Ok(vec![self.master(m, name, trits)]),
            _ => Ok(vec![exact(self.source, m, name, trits)]),
        }
    }

    fn packed(
        &self,
        m: &Surveyed,
        name: String,
        trits: &Trits,
        multiply: bool,
    ) -> Result<Vec<Item>, ConvertError> {
        // The survey has found one scale, or the encoder has refused.
        let scale = trits.one.unwrap_or(1.0);
        let stored = if multiply { scale } else { reciprocal(scale).unwrap_or(1.0 / scale) };
        let packed = [m.shape[0].div_ceil(4), m.shape[1]];
        let scale = Item::floats(format!("{name}_scale"), &[stored]);
        Ok(vec![Item::matrix(name, TensorType::U8, packed, m.part, How::HfPacked), scale])
    }

    fn master(&self, m: &Surveyed, name: String, trits: &Trits) -> Item {
        match trits.stored.filter(|_| trits.master) {
            Some(ty) => Item::copied(name, ty, m),
            None => Item::matrix(name, TensorType::F32, m.shape, m.part, How::Master),
        }
    }

    fn vector(&self, part: Part) -> Result<Item, ConvertError> {
        let Part::Bias(layer, projection) = part else { return vector(self.source, part) };
        let scale = self.survey.scale_of(layer, projection);
        let (Some(scale), true) = (scale, self.mode == Mode::Packed { multiply: true }) else {
            return vector(self.source, part);
        };
        let missing = || ModelError::MissingTensor { name: self.source.name(part) };
        let values = self.source.vector(part)?.ok_or_else(missing)?;
        let stored: Vec<f32> = values.iter().map(|&b| unscaled(b, scale).unwrap_or(b / scale)).collect();
        Ok(Item::floats(name_of(part), &stored))
    }
}

/// The weights themselves, copied or in the narrowest type that holds them.
fn exact(source: &Source, m: &Surveyed, name: String, trits: &Trits) -> Item {
    match trits.stored.filter(|_| !trits.master && !source.reorders(m.part)) {
        Some(ty) => Item::copied(name, ty, m),
        None => Item::matrix(name, trits.width, m.shape, m.part, How::Floats),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_reads_back_and_what_is_not_there_is_not_found() {
        let (mut found, mut not) = (0, 0);
        for i in 0..2000u32 {
            let scale = 0.01 + (i as f32) * 1.7e-5;
            match reciprocal(scale) {
                Some(r) => {
                    assert_eq!(1.0 / r, scale);
                    found += 1;
                }
                None => not += 1,
            }
            // What is a product or a reciprocal is found again.
            let (bias, stored) = (0.3 + i as f32 * 1e-3, 1.0 + i as f32 * 1e-3);
            assert_eq!(unscaled(bias * scale, scale).map(|b| b * scale), Some(bias * scale));
            assert_eq!(reciprocal(1.0 / stored).map(|r| 1.0 / r), Some(1.0 / stored));
        }
        assert!(found > 500 && not > 200, "{found} {not}");
        assert_eq!(reciprocal(0.0), None);
    }
}
