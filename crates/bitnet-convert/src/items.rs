//! What is to be written, tensor by tensor, and writing it.

use std::{borrow::Cow, path::Path};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_format::{FormatError, GgufWriter, SafetensorsWriter, TensorSpec, TensorType};
use bitnet_model::Part;
use bitnet_quant::{ScreenTable, TernaryMatrix};
use bitnet_source::Source;

use crate::{
    ConvertError, encode,
    master::Master,
    matrix::{self, Matrix},
    survey::Surveyed,
};

/// One or two tensors that come from one read.
pub(crate) struct Item {
    /// The tensors that readers of the output will see.
    pub(crate) specs: Vec<TensorSpec>,
    pub(crate) from: From,
}

/// Where the bytes of an item come from.
pub(crate) enum From {
    /// The tensor of that name, as it stands; a matrix's part.
    Raw(String, Option<Part>),
    /// Made already: vectors and single scales.
    Bytes(Vec<u8>),
    /// A matrix of the source, read again when it is written.
    Matrix(Part, How),
    /// The int8 copy of a head, made for the screen.
    Screen(ScreenTable),
}

/// How a matrix of the source becomes bytes.
pub(crate) enum How {
    /// Values as floats of the spec's type.
    Floats,
    /// Master weights in F32 that round to its trits and scales.
    Master,
    /// The packed form of transformers.
    HfPacked,
    /// Blocks of the spec's type, rows in `order`, with `scale` for all weights where it is given.
    Blocks { order: Option<Vec<usize>>, scale: Option<f32> },
    /// Packed strips and their scales, as `.bitnet` files hold them.
    Strips,
}

impl Item {
    /// A vector whose bytes are copied as they stand in the source.
    pub(crate) fn raw(name: impl Into<String>, ty: TensorType, shape: &[usize], from: &str) -> Self {
        Self { specs: vec![TensorSpec::new(name, ty, shape)], from: From::Raw(from.into(), None) }
    }

    /// A matrix that is copied as `ty`, which it has in the file.
    pub(crate) fn copied(name: impl Into<String>, ty: TensorType, m: &Surveyed) -> Self {
        Self {
            specs: vec![TensorSpec::new(name, ty, m.shape)],
            from: From::Raw(m.name.clone(), Some(m.part)),
        }
    }

    /// A vector of f32 numbers that are given.
    pub(crate) fn floats(name: impl Into<String>, values: &[f32]) -> Self {
        let specs = vec![TensorSpec::new(name, TensorType::F32, [values.len()])];
        Self { specs, from: From::Bytes(encode::floats(values)) }
    }

    /// A matrix of the source, which becomes bytes when it is written.
    pub(crate) fn matrix(
        name: impl Into<String>,
        ty: TensorType,
        shape: [usize; 2],
        part: Part,
        how: How,
    ) -> Self {
        Self { specs: vec![TensorSpec::new(name, ty, shape)], from: From::Matrix(part, how) }
    }
}

/// Either kind of file, or for safetensors the one of a directory.
pub(crate) enum Writer {
    Gguf(GgufWriter),
    Safetensors(SafetensorsWriter),
}

impl Writer {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        match self {
            Self::Gguf(writer) => writer.write(name, bytes),
            Self::Safetensors(writer) => writer.write(name, bytes),
        }
    }

    fn finish(self) -> Result<u64, FormatError> {
        match self {
            Self::Gguf(writer) => writer.finish(),
            Self::Safetensors(writer) => writer.finish(),
        }
    }
}

/// The specs of all items, in order, as a writer wants them before any bytes.
pub(crate) fn specs(items: &[Item]) -> Vec<TensorSpec> {
    items.iter().flat_map(|item| item.specs.clone()).collect()
}

/// Makes and writes matrices one at a time.
pub(crate) struct Filler<'a> {
    pub(crate) source: &'a Source,
    pub(crate) threads: &'a ThreadPool,
    pub(crate) pool: HybridMemoryPool,
}

impl Filler<'_> {
    /// Writes every item and closes the file; returns its size.
    pub(crate) fn fill(
        &self,
        mut writer: Writer,
        items: &[Item],
        mut progress: impl FnMut(Part),
    ) -> Result<u64, ConvertError> {
        for item in items {
            match &item.from {
                From::Raw(name, part) => {
                    let view = self.source.checkpoint().tensor(name)?;
                    writer.write(&item.specs[0].name, view.bytes())?;
                    part.iter().for_each(|&part| progress(part));
                }
                From::Bytes(bytes) => writer.write(&item.specs[0].name, bytes)?,
                From::Screen(table) => writer.write(&item.specs[0].name, table.bytes())?,
                From::Matrix(part, how) => {
                    self.matrix(&mut writer, item, *part, how)?;
                    progress(*part);
                }
            }
        }
        Ok(writer.finish()?)
    }

    fn matrix(&self, writer: &mut Writer, item: &Item, part: Part, how: &How) -> Result<(), ConvertError> {
        let spec = &item.specs[0];
        let name = self.source.name(part);
        let matrix = matrix::read(self.source, part)?;
        let trits = match (how, matrix) {
            (How::Floats, matrix) => {
                return Ok(encode::stream_floats(&matrix, spec.ty, |bytes| writer.write(&spec.name, bytes))?);
            }
            (_, Matrix::Trits(trits)) => trits,
            (_, Matrix::Table(_) | Matrix::Planes(_)) => {
                let what = format!("'{name}' held trits when it was first read, and floats now");
                return Err(ConvertError::Mismatch { what });
            }
        };
        match how {
            How::Floats => Ok(()),
            How::Master => master(writer, &spec.name, &trits),
            How::HfPacked => {
                let encoded = bitnet_format::encode::encode_hf_packed(&trits);
                Ok(writer.write(&spec.name, &encoded.map_err(ConvertError::encode(&name))?.bytes)?)
            }
            How::Blocks { order, scale } => {
                let ordered = match order {
                    Some(order) => trits.reorder_rows(order),
                    None => trits,
                };
                let scaled = match scale {
                    Some(scale) => {
                        encode::with_one_scale(ordered, *scale).map_err(ConvertError::quant(&name))?
                    }
                    None => ordered,
                };
                let encoded = encode::blocks(&scaled, spec.ty).map_err(ConvertError::encode(&name))?;
                Ok(writer.write(&spec.name, &encoded.bytes)?)
            }
            How::Strips => {
                let (packed, scales) =
                    encode::strips(&trits, &self.pool, self.threads).map_err(ConvertError::quant(&name))?;
                writer.write(&spec.name, packed.bytes())?;
                Ok(writer.write(&item.specs[1].name, &scales)?)
            }
        }
    }
}

fn master(writer: &mut Writer, name: &str, trits: &TernaryMatrix) -> Result<(), ConvertError> {
    let counts = trits.counts();
    let scale = trits.scales().clone().coarsest(trits.cols());
    let weights = (trits.rows() * trits.cols()) as u64;
    let scale = scale.values().first().copied().unwrap_or(1.0);
    let master = Master::new(weights, counts.minus + counts.plus, scale).ok_or_else(|| {
        let what = format!("'{name}' held another scale when it was first read");
        ConvertError::Mismatch { what }
    })?;
    Ok(master.rows(trits, |row| writer.write(name, &encode::floats(row)))?)
}

/// A file name as text, for names of models.
pub(crate) fn stem(path: &Path) -> Cow<'_, str> {
    path.file_stem().map_or("model".into(), |s| s.to_string_lossy())
}
