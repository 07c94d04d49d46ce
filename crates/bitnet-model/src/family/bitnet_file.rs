//! Our own file: safetensors whose projections are strips already, so that a model runs from the map.
//!
//! Names are those of Hugging Face directories. A matrix of trits named `N` is stored as `N.t2` (U8, the strips of
//! [`PackedTernary`]) and `N.scales` (F32); the metadata entry `bitnet.matrix.N` holds its shape and granularity as
//! `"<rows> <cols> tensor|row|group:<size>"`. Beside a large head `N` stands `N.screen` (U8, a [`ScreenTable`]), which takes
//! longer to make than a file takes to map. Everything else is stored as it is. The metadata also holds
//! `config.json` and the tokenizer (see `bitnet_format`).

use bitnet_format::{BitnetMetadata, Checkpoint, TensorType};
use bitnet_quant::{Granularity, PackedTernary, Scales, ScreenTable};

use super::gguf::{ACTIVATIONS_KEY, FLOAT, INT8_PER_TOKEN};
use crate::ModelError;

/// Shape and granularity of a stored matrix of trits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Which weights share a scale.
    pub granularity: Granularity,
}

/// The metadata key of matrix `name`.
pub fn key(name: &str) -> String {
    format!("bitnet.matrix.{name}")
}

/// The tensor that holds the strips of `name`.
pub fn strips_name(name: &str) -> String {
    format!("{name}.t2")
}

/// The tensor that holds the scales of `name`.
pub fn scales_name(name: &str) -> String {
    format!("{name}.scales")
}

/// The tensor that holds the int8 copy of head `name`.
pub fn screen_name(name: &str) -> String {
    format!("{name}.screen")
}

/// Whether the model was trained with int8 activations, where the file says so itself: the configuration of a BitNet class
/// cannot say that it was not.
pub(crate) fn trained_int8(metadata: &BitnetMetadata) -> Result<Option<bool>, ModelError> {
    match metadata.entries.get(ACTIVATIONS_KEY).map(String::as_str) {
        None => Ok(None),
        Some(INT8_PER_TOKEN) => Ok(Some(true)),
        Some(FLOAT) => Ok(Some(false)),
        Some(other) => {
            Err(ModelError::config(ACTIVATIONS_KEY, format!("{INT8_PER_TOKEN} or {FLOAT}"), other))
        }
    }
}

/// The int8 copy of the head `name` of `[rows, cols]`, if the file has one.
pub(crate) fn screen(
    checkpoint: &Checkpoint,
    name: &str,
    [rows, cols]: [usize; 2],
) -> Result<Option<ScreenTable>, ModelError> {
    let name = screen_name(name);
    if !checkpoint.contains(&name) {
        return Ok(None);
    }
    let view = checkpoint.tensor(&name)?;
    if view.info().ty() != TensorType::U8 {
        return Err(ModelError::config(name, "U8 strips", view.info().ty()));
    }
    ScreenTable::from_bytes(rows, cols, view.shared()).map(Some).map_err(ModelError::quant(&name))
}

/// What the file says of matrix `name`, if it is one of trits.
pub(crate) fn entry(metadata: &BitnetMetadata, name: &str) -> Option<Entry> {
    Entry::parse(metadata.entries.get(&key(name))?)
}

impl Entry {
    /// The text of a metadata entry.
    pub fn to_text(self) -> String {
        let Self { rows, cols, granularity } = self;
        match granularity {
            Granularity::Tensor => format!("{rows} {cols} tensor"),
            Granularity::Row => format!("{rows} {cols} row"),
            Granularity::Group(size) => format!("{rows} {cols} group:{size}"),
        }
    }

    /// Reads the text of a metadata entry.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (rows, cols) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let granularity = match words.next()? {
            "tensor" => Granularity::Tensor,
            "row" => Granularity::Row,
            group => Granularity::Group(group.strip_prefix("group:")?.parse().ok().filter(|&n| n > 0)?),
        };
        words.next().is_none().then_some(Self { rows, cols, granularity })
    }

    pub(crate) fn read(self, checkpoint: &Checkpoint, name: &str) -> Result<PackedTernary, ModelError> {
        let strips = checkpoint.tensor(&strips_name(name))?;
        if strips.info().ty() != TensorType::U8 {
            return Err(ModelError::config(strips_name(name), "U8 strips", strips.info().ty()));
        }
        let values = checkpoint.tensor(&scales_name(name))?.to_f32()?;
        let scales = match (self.granularity, &values[..]) {
            (Granularity::Tensor, [one]) => Scales::Tensor(*one),
            (Granularity::Tensor, _) => {
                return Err(ModelError::config(scales_name(name), "one scale", values.len()));
            }
            (Granularity::Row, _) => Scales::Row(values),
            (Granularity::Group(size), _) => Scales::Group { size, scales: values },
        };
        let packed = PackedTernary::from_strips(self.rows, self.cols, strips.shared(), scales)
            .map_err(ModelError::quant(name))?;
        // Kernels count on codes of at most 2. This reads every page once, which running the model does anyway.
        packed.check().map_err(ModelError::quant(name))?;
        Ok(packed)
    }
}
