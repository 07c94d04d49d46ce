//! A GGUF file of the model: keys of llama.cpp and its BitNet forks, projections in one ternary type.

use bitnet_format::{GgufKeys, Metadata, TensorType};
use bitnet_model::{Config, GateActivation, Part, Projection, RopeScaling};
use bitnet_source::{
    Source,
    family::{BITNET, BITNET_B158, LLAMA, QWEN2, QWEN3, gguf},
};

use crate::{
    ConvertError, Target, encode, hf,
    items::{How, Item, stem},
    rope,
    survey::{Held, Survey, Surveyed},
    text,
};

/// The keys and the tensors of the file that is to be written.
pub(crate) struct Plan {
    pub(crate) keys: GgufKeys,
    pub(crate) items: Vec<Item>,
}

/// The architecture that stands for a configuration, or what none of them has.
fn architecture(config: &Config, target: Target) -> Result<&'static str, ConvertError> {
    let refuse = |reason: &str| {
        let reason = format!("{reason}. `--to bitnet` and `--to hf-master` hold every model");
        Err(ConvertError::Refused { target, reason })
    };
    let silu = config.activation == GateActivation::Silu;
    match (config.sub_norms, config.qk_norms) {
        (true, true) => refuse("no architecture of GGUF has sub-norms and norms of queries and keys"),
        (true, false) if silu => Ok(BITNET),
        (true, false) => Ok(BITNET_B158),
        (false, _) if !silu => {
            refuse("architectures of GGUF without sub-norms have SiLU gates, and this model has not")
        }
        (false, true) => Ok(QWEN3),
        (false, false) if config.family == QWEN2 => Ok(QWEN2),
        (false, false) => Ok(LLAMA),
    }
}

/// What the file will hold.
///
/// # Errors
/// What no architecture of GGUF has; a tokenizer that cannot be read.
pub(crate) fn plan(
    source: &Source,
    survey: &Survey,
    target: Target,
    (ty, file_type): (TensorType, u32),
    notes: &mut Vec<String>,
) -> Result<Plan, ConvertError> {
    let config = source.config();
    let architecture = architecture(config, target)?;
    if let Some(module) = survey.dense_modules().first() {
        let reason = hf::not_ternary(
            module,
            "readers of GGUF would take it for ternary",
            "`bitnet quantize --method least-squares --group tensor` makes a ternary model of it",
        );
        return Err(ConvertError::Refused { target, reason });
    }
    let mut keys = GgufKeys::new();
    keys.str("general.architecture", architecture);
    general_keys(source, &mut keys);
    keys.u32("general.file_type", file_type);
    keys.u32("general.quantization_version", 2);
    gguf::to_keys(config, architecture, &mut keys);
    text::to_gguf_keys(source.checkpoint(), config, &mut keys, notes)?;
    peers(config, architecture, source, notes);
    let layout = Layout { source, architecture, ty };
    let mut items: Vec<Item> = survey.matrices.iter().flat_map(|m| layout.matrix(m)).collect();
    for part in source.vectors() {
        items.push(layout.vector(part)?);
    }
    if let Some(divisors) = rope::divisors(config) {
        items.push(Item::floats("rope_freqs.weight", &divisors));
    }
    Ok(Plan { keys, items })
}

/// What the original says of itself in general; the converter's own keys excepted.
fn general_keys(source: &Source, keys: &mut GgufKeys) {
    let ours =
        ["general.architecture", "general.file_type", "general.quantization_version", "general.alignment"];
    match source.checkpoint().metadata() {
        Metadata::Gguf(m) => {
            let general = m.iter().filter(|(key, _)| key.starts_with("general.") && !ours.contains(key));
            for (key, value) in general {
                keys.copy(key, &value);
            }
        }
        _ => {
            keys.str("general.name", &stem(source.checkpoint().path()));
        }
    }
}

/// Says what other readers of such files will not do with this one.
fn peers(config: &Config, architecture: &str, source: &Source, notes: &mut Vec<String>) {
    if matches!(architecture, BITNET | BITNET_B158) && !config.tied_head {
        notes.push(format!(
            "the head is a tensor of its own: this engine uses it, but bitnet.cpp computes logits of architecture \
             {architecture} with the embedding, and llama.cpp does not load such a file"
        ));
    }
    if architecture != LLAMA && rope::divisors(config).is_some() {
        notes.push(format!("other readers do not scale rotary frequencies of architecture {architecture}"));
    }
    let biased = |part: &Part| matches!(part, Part::Bias(..));
    if matches!(architecture, BITNET | BITNET_B158) && source.vectors().iter().any(biased) {
        notes.push(format!("other readers know no biases of architecture {architecture}"));
    }
    if matches!(&config.rope.scaling, RopeScaling::Yarn(yarn) if !yarn.truncate) {
        notes.push("other readers round the ends of YaRN's ramp, which this model does not".into());
    }
    if config.input_norm_eps.is_some() {
        notes.push("norms in front of projections are read by this engine only".into());
    }
}

/// How parts are laid out in the file.
struct Layout<'a> {
    source: &'a Source,
    architecture: &'static str,
    ty: TensorType,
}

impl Layout<'_> {
    /// The rows' order in the file, where it is another.
    fn order(&self, projection: Projection) -> Option<Vec<usize>> {
        let config = self.source.config();
        match projection {
            _ if self.architecture != LLAMA => None,
            Projection::Query => Some(gguf::interleaved_order(config.heads, config.head_dim)),
            Projection::Key => Some(gguf::interleaved_order(config.kv_heads, config.head_dim)),
            _ => None,
        }
    }

    fn matrix(&self, m: &Surveyed) -> Vec<Item> {
        let name = gguf::name(m.part);
        let Some((layer, projection)) = m.projection() else { return vec![self.table(m, name)] };
        let order = self.order(projection);
        let blocks = |scale| {
            Item::matrix(name.as_str(), self.ty, m.shape, m.part, How::Blocks { order: order.clone(), scale })
        };
        // llama.cpp multiplies results of architecture `bitnet` with this tensor where there is one; bitnet.cpp's
        // `bitnet-b1.58` does not know it for every projection, so there f16 scales stand alone.
        let exact = m.trits().filter(|t| self.architecture == BITNET && t.loss.is_some_and(|l| l > 0.0));
        match exact.and_then(|t| encode::split_scale(t.one?)) {
            Some((stored, factor)) => {
                vec![blocks(Some(stored)), Item::floats(gguf::scale_name(layer, projection), &[factor])]
            }
            None => vec![blocks(None)],
        }
    }

    /// The item of an embedding or a head, in its own type.
    fn table(&self, m: &Surveyed, name: String) -> Item {
        match &m.held {
            Held::Trits(t) if t.loss == Some(0.0) => {
                Item::matrix(name, self.ty, m.shape, m.part, How::Blocks { order: None, scale: None })
            }
            Held::Trits(t) => match t.stored.filter(|_| !t.master) {
                Some(ty) => Item::copied(name, ty, m),
                None => Item::matrix(name, t.width, m.shape, m.part, How::Floats),
            },
            Held::Table(ty) => Item::copied(name, *ty, m),
        }
    }

    fn vector(&self, part: Part) -> Result<Item, ConvertError> {
        let missing = || bitnet_model::ModelError::MissingTensor { name: self.source.name(part) };
        let values = self.source.vector(part)?.ok_or_else(missing)?;
        let order = match part {
            Part::Bias(_, projection) => self.order(projection),
            _ => None,
        };
        let values = match order {
            Some(order) => order.iter().map(|&row| values[row]).collect(),
            None => values,
        };
        Ok(Item::floats(gguf::name(part), &values))
    }
}
