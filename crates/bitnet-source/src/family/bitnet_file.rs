//! Our own file: safetensors whose projections are strips already, so that a model runs from the map.
//!
//! Names are those of Hugging Face directories. A matrix of trits named `N` is stored as `N.t2` (U8, the strips of
//! [`PackedTernary`]) and `N.scales` (F32 or F16); the sum of two has `N.second.t2` and `N.second.scales` besides; a matrix of
//! ggml's blocks is `N.q4_0` or `N.q8_0` (U8, rows of whole blocks). The metadata entry `bitnet.matrix.N` holds shape and form:
//! `"<rows> <cols> tensor|row|group:<size>"`, with a second granularity for a second plane, or `"<rows> <cols> q4_0|q8_0"`.
//! Beside a large head `N` stands `N.screen` (U8, a [`ScreenTable`]), which takes longer to make than a file takes to map.
//! Everything else is stored as it is. The metadata also holds `config.json` and the tokenizer (see `bitnet_format`), and
//! `bitnet.activations` (`float` or `int8_per_token`) where the configuration cannot say what the model was trained with.

use bitnet_format::{BitnetMetadata, Checkpoint, TensorType};
use bitnet_model::Weight;
use bitnet_quant::{Granularity, PackedTernary, Scales, ScreenTable};

use super::gguf::{ACTIVATIONS_KEY, FLOAT, INT8_PER_TOKEN};
use crate::{error::SourceError, table::block_table};

/// How a matrix is stored other than as a plain tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Trits; which of them share a scale.
    Trits(Granularity),
    /// The sum of two matrices of trits.
    Planes([Granularity; 2]),
    /// Blocks of that type, [`TensorType::Q4_0`] or [`TensorType::Q8_0`].
    Blocks(TensorType),
}

/// Shape and form of a stored matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// How it is stored.
    pub form: Form,
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
pub(crate) fn trained_int8(metadata: &BitnetMetadata) -> Result<Option<bool>, SourceError> {
    match metadata.entries.get(ACTIVATIONS_KEY).map(String::as_str) {
        None => Ok(None),
        Some(INT8_PER_TOKEN) => Ok(Some(true)),
        Some(FLOAT) => Ok(Some(false)),
        Some(other) => {
            Err(SourceError::config(ACTIVATIONS_KEY, format!("{INT8_PER_TOKEN} or {FLOAT}"), other))
        }
    }
}

/// The int8 copy of the head `name` of `[rows, cols]`, if the file has one.
pub(crate) fn screen(
    checkpoint: &Checkpoint,
    name: &str,
    [rows, cols]: [usize; 2],
) -> Result<Option<ScreenTable>, SourceError> {
    let name = screen_name(name);
    if !checkpoint.contains(&name) {
        return Ok(None);
    }
    let view = checkpoint.tensor(&name)?;
    if view.info().ty() != TensorType::U8 {
        return Err(SourceError::config(name, "U8 strips", view.info().ty()));
    }
    ScreenTable::from_bytes(rows, cols, view.shared()).map(Some).map_err(SourceError::quant(&name))
}

/// What stands before `.t2` and `.scales` of the second plane of `name`.
pub fn second_name(name: &str) -> String {
    format!("{name}.second")
}

/// The tensor that holds the blocks of `name`.
pub fn blocks_name(name: &str, ty: TensorType) -> String {
    format!("{name}.{}", ty.to_string().to_ascii_lowercase())
}

/// What the file says of matrix `name`, if it is no plain tensor.
///
/// # Errors
/// When it says something that no such entry can say.
pub(crate) fn entry(metadata: &BitnetMetadata, name: &str) -> Result<Option<Entry>, SourceError> {
    let Some(text) = metadata.entries.get(&key(name)) else { return Ok(None) };
    Entry::parse(text).map(Some).ok_or_else(|| {
        let expected = "rows, columns and one or two of tensor, row and group:<size>, or q4_0 or q8_0";
        SourceError::config(key(name), expected, format!("'{text}'"))
    })
}

fn granularity_text(granularity: Granularity) -> String {
    match granularity {
        Granularity::Tensor => "tensor".into(),
        Granularity::Row => "row".into(),
        Granularity::Group(size) => format!("group:{size}"),
    }
}

fn granularity(word: &str) -> Option<Granularity> {
    Some(match word {
        "tensor" => Granularity::Tensor,
        "row" => Granularity::Row,
        group => Granularity::Group(group.strip_prefix("group:")?.parse().ok().filter(|&n| n > 0)?),
    })
}

impl Entry {
    /// The text of a metadata entry.
    pub fn to_text(self) -> String {
        let form = match self.form {
            Form::Trits(granularity) => granularity_text(granularity),
            Form::Planes(both) => both.map(granularity_text).join(" "),
            Form::Blocks(ty) => ty.to_string().to_ascii_lowercase(),
        };
        format!("{} {} {form}", self.rows, self.cols)
    }

    /// Reads the text of a metadata entry.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (rows, cols) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let form = match (words.next()?, words.next()) {
            ("q4_0", None) => Form::Blocks(TensorType::Q4_0),
            ("q8_0", None) => Form::Blocks(TensorType::Q8_0),
            (one, None) => Form::Trits(granularity(one)?),
            (first, Some(second)) => Form::Planes([granularity(first)?, granularity(second)?]),
        };
        words.next().is_none().then_some(Self { rows, cols, form })
    }

    /// The tensors that hold matrix `name`.
    pub fn tensors(self, name: &str) -> Vec<String> {
        let plane = |name: &str| [strips_name(name), scales_name(name)];
        match self.form {
            Form::Trits(_) => plane(name).into(),
            Form::Planes(_) => [plane(name), plane(&second_name(name))].concat(),
            Form::Blocks(ty) => vec![blocks_name(name, ty)],
        }
    }

    /// Whether the tensors that hold matrix `name` are there, each with the bytes of this shape.
    ///
    /// # Errors
    /// The first tensor that is missing or of another length.
    pub(crate) fn check(self, checkpoint: &Checkpoint, name: &str) -> Result<(), SourceError> {
        let granularities = match self.form {
            Form::Blocks(ty) => {
                let expected = ty.byte_len(self.rows, self.cols);
                return has_bytes(checkpoint, &blocks_name(name, ty), expected);
            }
            Form::Trits(one) => vec![(name.to_owned(), one)],
            Form::Planes([one, other]) => vec![(name.to_owned(), one), (second_name(name), other)],
        };
        for (name, granularity) in granularities {
            has_bytes(checkpoint, &strips_name(&name), PackedTernary::byte_len(self.rows, self.cols))?;
            let scales = scales_name(&name);
            let count = Scales::count(granularity, self.rows, self.cols);
            let ty = checkpoint.info(&scales).map(|info| info.ty());
            has_bytes(checkpoint, &scales, count.zip(ty).and_then(|(n, ty)| ty.byte_len(1, n)))?;
        }
        Ok(())
    }

    pub(crate) fn read(self, checkpoint: &Checkpoint, name: &str) -> Result<Weight, SourceError> {
        match self.form {
            Form::Trits(granularity) => self.plane(checkpoint, name, granularity),
            Form::Planes([first, second]) => {
                let planes = Weight::planes(
                    self.plane(checkpoint, name, first)?,
                    self.plane(checkpoint, &second_name(name), second)?,
                );
                planes.ok_or_else(|| SourceError::config(key(name), "two planes of one shape", "others"))
            }
            Form::Blocks(ty) => {
                let stored = blocks_name(name, ty);
                let view = checkpoint.tensor(&stored)?;
                if view.info().ty() != TensorType::U8 {
                    return Err(SourceError::config(stored, "U8 blocks", view.info().ty()));
                }
                block_table(&stored, ty, [self.rows, self.cols], view.shared()).map(Weight::Table)
            }
        }
    }

    fn plane(
        self,
        checkpoint: &Checkpoint,
        name: &str,
        granularity: Granularity,
    ) -> Result<Weight, SourceError> {
        let strips = checkpoint.tensor(&strips_name(name))?;
        if strips.info().ty() != TensorType::U8 {
            return Err(SourceError::config(strips_name(name), "U8 strips", strips.info().ty()));
        }
        let values = checkpoint.tensor(&scales_name(name))?.to_f32()?;
        let scales = match (granularity, &values[..]) {
            (Granularity::Tensor, [one]) => Scales::Tensor(*one),
            (Granularity::Tensor, _) => {
                return Err(SourceError::config(scales_name(name), "one scale", values.len()));
            }
            (Granularity::Row, _) => Scales::Row(values),
            (Granularity::Group(size), _) => Scales::Group { size, scales: values },
        };
        let packed = PackedTernary::from_strips(self.rows, self.cols, strips.shared(), scales)
            .map_err(SourceError::quant(name))?;
        // Kernels count on codes of at most 2. This reads every page once, which running the model does anyway.
        packed.check().map_err(SourceError::quant(name))?;
        Ok(Weight::Packed(packed))
    }
}

/// Refuses a tensor that is missing or has not `expected` bytes.
fn has_bytes(checkpoint: &Checkpoint, name: &str, expected: Option<usize>) -> Result<(), SourceError> {
    let missing = || SourceError::missing(name.to_owned());
    let len = checkpoint.info(name).ok_or_else(missing)?.byte_len();
    match expected {
        Some(expected) if expected == len => Ok(()),
        Some(expected) => {
            Err(SourceError::config(format!("tensor '{name}'"), format!("{expected} bytes"), len))
        }
        None => Err(SourceError::config(format!("tensor '{name}'"), "a size that fits in memory", "more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_nothing_else_is_one() {
        let group = Granularity::Group(64);
        for form in [
            Form::Trits(Granularity::Tensor),
            Form::Trits(group),
            Form::Planes([Granularity::Row, group]),
            Form::Blocks(TensorType::Q4_0),
            Form::Blocks(TensorType::Q8_0),
        ] {
            let entry = Entry { rows: 7, cols: 96, form };
            assert_eq!(Entry::parse(&entry.to_text()), Some(entry), "{form:?}");
        }
        let wrong =
            ["", "7", "7 96", "7 96 q5_0", "7 96 group:0", "7 96 q4_0 row", "7 96 row row row", "-7 96 row"];
        assert!(wrong.iter().all(|text| Entry::parse(text).is_none()));
    }
}
