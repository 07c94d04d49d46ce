//! Our own file: strips, names of Hugging Face, everything else embedded.

use std::collections::BTreeMap;

use bitnet_format::{TensorSpec, TensorType, bitnet_keys};
use bitnet_model::{ModelError, Part};
use bitnet_quant::{PackedTernary, Scales};
use bitnet_source::family::{bitnet_file, gguf};

use crate::{
    ConvertError,
    config_json::QuantizationJson,
    hf,
    items::{Filler, From, How, Item},
    matrix::{self, Matrix},
    survey::{Held, Survey, Surveyed, Trits},
    text,
};

/// The metadata and the tensors of the file that is to be written.
pub(crate) struct Plan {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) items: Vec<Item>,
}

/// What the file will hold.
///
/// # Errors
/// Shapes that strips cannot have; texts that cannot be read.
pub(crate) fn plan(
    filler: &Filler<'_>,
    survey: &Survey,
    notes: &mut Vec<String>,
) -> Result<Plan, ConvertError> {
    let source = filler.source;
    let mut metadata = BTreeMap::new();
    metadata.insert(bitnet_keys::FORMAT.to_owned(), bitnet_keys::VERSION.to_owned());
    let mut items = Vec::new();
    for m in &survey.matrices {
        match &m.held {
            Held::Table(ty) => items.push(hf::table(source, m, *ty)),
            Held::Trits(trits) => items.push(strips(m, trits, &mut metadata)?),
        }
    }
    notes.extend(hf::widened(source, survey));
    items.extend(screen(filler)?);
    for part in source.vectors() {
        items.push(hf::vector(source, part)?);
    }
    // Says that the model was trained with int8 activations; strips carry their scales themselves.
    let quantization = hf::says_quantization(source.config()).then(|| QuantizationJson {
        linear_class: "autobitlinear",
        mode: "offline",
        dense: survey.dense_modules(),
        head: survey.head().is_some(),
    });
    if source.config().sub_norms && !source.config().trained_int8 {
        metadata.insert(gguf::ACTIVATIONS_KEY.to_owned(), gguf::FLOAT.to_owned());
    }
    let config = hf::config(source, "float32", quantization.as_ref());
    metadata.insert(bitnet_keys::CONFIG.to_owned(), config.to_string());
    let files = text::files(source.checkpoint(), source.config(), notes)?;
    metadata.extend(text::embedded(files)?);
    Ok(Plan { metadata, items })
}

/// The int8 copy of a large head: making it takes longer than mapping the file.
fn screen(filler: &Filler<'_>) -> Result<Option<Item>, ConvertError> {
    let head = if filler.source.config().tied_head { Part::Embedding } else { Part::Head };
    let Matrix::Table(table) = matrix::read(filler.source, head)? else { return Ok(None) };
    if !table.is_worth_screening() {
        return Ok(None);
    }
    let Some(screen) = table.screen(&filler.pool, filler.threads)? else { return Ok(None) };
    let name = bitnet_file::screen_name(&hf::name_of(head));
    let spec =
        TensorSpec::new(name, TensorType::U8, [screen.strips(), screen.bytes().len() / screen.strips()]);
    Ok(Some(Item { specs: vec![spec], from: From::Screen(screen) }))
}

fn strips(
    m: &Surveyed,
    trits: &Trits,
    metadata: &mut BTreeMap<String, String>,
) -> Result<Item, ConvertError> {
    let [rows, cols] = m.shape;
    let name = hf::name_of(m.part);
    let impossible =
        || ModelError::Shape { name: m.name.clone(), expected: vec![1, 1], got: m.shape.to_vec() };
    let bytes = PackedTernary::byte_len(rows, cols).ok_or_else(impossible)?;
    let scales = Scales::count(trits.granularity, rows, cols).ok_or_else(impossible)?;
    let count = rows.div_ceil(PackedTernary::STRIP);
    let form = bitnet_file::Form::Trits(trits.granularity);
    let entry = bitnet_file::Entry { rows, cols, form };
    metadata.insert(bitnet_file::key(&name), entry.to_text());
    let specs = vec![
        TensorSpec::new(bitnet_file::strips_name(&name), TensorType::U8, [count, bytes / count]),
        TensorSpec::new(bitnet_file::scales_name(&name), TensorType::F32, [scales]),
    ];
    Ok(Item { specs, from: From::Matrix(m.part, How::Strips) })
}
