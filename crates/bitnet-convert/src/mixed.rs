//! Our own file with another matrix in place of some: what quantization writes.

use std::{collections::BTreeMap, path::Path};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_format::{SafetensorsWriter, TensorSpec, TensorType, bitnet_keys};
use bitnet_model::{ModelError, Part};
use bitnet_quant::{Granularity, PackedTernary, Scales, TernaryMatrix};
use bitnet_source::{
    Source,
    family::{
        bitnet_file::{self, Entry, Form},
        gguf,
    },
};

use crate::{
    ConvertError, Target,
    config_json::QuantizationJson,
    encode, hf,
    items::{Filler, From, How, Item, Writer},
    matrix::{self, Matrix},
    place, text,
};

/// Writes a `.bitnet` file whose matrices come from elsewhere, one at a time; everything else is copied from a model. The
/// file appears whole, or not at all.
///
/// Scales of groups that are written are stored as f16, so they have to be such numbers; others are f32.
pub struct MixedWriter<'a> {
    source: &'a Source,
    writer: SafetensorsWriter,
    forms: BTreeMap<Part, Form>,
    /// Matrices of trits that are copied.
    kept: Vec<Part>,
    /// What is copied when all else is written.
    copied: Vec<Item>,
    threads: &'a ThreadPool,
    pool: HybridMemoryPool,
}

impl<'a> MixedWriter<'a> {
    /// Begins the file at `output`: a copy of `source` in which the parts of `forms` have those forms.
    ///
    /// # Errors
    /// When the output exists (without `force`) or is what is read, a form cannot have a matrix's shape, or the disk refuses.
    pub fn create(
        source: &'a Source,
        output: &Path,
        forms: &BTreeMap<Part, Form>,
        force: bool,
        threads: &'a ThreadPool,
        notes: &mut Vec<String>,
    ) -> Result<Self, ConvertError> {
        let checkpoint = source.checkpoint();
        let files: Vec<_> = checkpoint.files().map(Path::to_path_buf).collect();
        place::check(&files, checkpoint.path(), output, Target::Bitnet, force)?;
        let mut metadata = metadata(source, notes)?;
        let (mut specs, mut copied, mut all) = (Vec::new(), Vec::new(), forms.clone());
        for part in source.matrices() {
            let matrix = matrix::read(source, part)?;
            let [rows, cols] = matrix.shape();
            let form = match (forms.get(&part), &matrix) {
                (Some(&form), _) => form,
                (None, Matrix::Trits(trits)) => Form::Trits(trits.scales().granularity()),
                (None, _) => {
                    copied.push(floats(source, part, [rows, cols]));
                    continue;
                }
            };
            all.insert(part, form);
            let entry = Entry { rows, cols, form };
            let name = hf::name_of(part);
            metadata.insert(bitnet_file::key(&name), entry.to_text());
            let short = forms.contains_key(&part);
            specs.extend(stored(&name, entry, short).ok_or_else(|| ModelError::Shape {
                name: source.name(part),
                expected: vec![1, 1],
                got: vec![rows, cols],
            })?);
        }
        for part in source.vectors() {
            copied.push(hf::vector(source, part)?);
        }
        specs.extend(copied.iter().flat_map(|item| item.specs.clone()));
        let writer = SafetensorsWriter::create(output, &metadata, &specs)?;
        let kept = all.keys().copied().filter(|part| !forms.contains_key(part)).collect();
        Ok(Self { source, writer, forms: all, kept, copied, threads, pool: HybridMemoryPool::new() })
    }

    /// Writes one plane of `part`, the first being 0.
    ///
    /// # Errors
    /// When it has another shape or granularity than was announced, or the disk refuses.
    pub fn plane(&mut self, part: Part, plane: usize, matrix: &TernaryMatrix) -> Result<(), ConvertError> {
        let name = hf::name_of(part);
        let other =
            |what: &str| ConvertError::Mismatch { what: format!("'{name}' has {what} than announced") };
        let announced = match (self.forms.get(&part), plane) {
            (Some(Form::Trits(granularity)), 0) => *granularity,
            (Some(Form::Planes(both)), 0 | 1) => both[plane],
            _ => return Err(other("another form")),
        };
        if matrix.scales().granularity() != announced {
            return Err(other("another granularity"));
        }
        let short = !self.kept.contains(&part);
        let scales =
            scales(matrix.scales(), short).ok_or_else(|| other("scales that f16 holds less exactly"))?;
        let stem = if plane == 0 { name.clone() } else { bitnet_file::second_name(&name) };
        let packed =
            PackedTernary::pack(matrix, &self.pool, self.threads).map_err(ConvertError::quant(&name))?;
        self.writer.write(&bitnet_file::strips_name(&stem), packed.bytes())?;
        Ok(self.writer.write(&bitnet_file::scales_name(&stem), &scales)?)
    }

    /// Writes the blocks of `part`.
    ///
    /// # Errors
    /// When there are more than announced, or the disk refuses.
    pub fn blocks(&mut self, part: Part, ty: TensorType, bytes: &[u8]) -> Result<(), ConvertError> {
        Ok(self.writer.write(&bitnet_file::blocks_name(&hf::name_of(part), ty), bytes)?)
    }

    /// Copies the rest and brings the file to the disk; returns its size in bytes.
    ///
    /// # Errors
    /// When something was announced and not written, or the disk refuses.
    pub fn finish(mut self) -> Result<u64, ConvertError> {
        for part in self.kept.clone() {
            if let Matrix::Trits(trits) = matrix::read(self.source, part)? {
                self.plane(part, 0, &trits)?;
            }
        }
        let filler = Filler { source: self.source, threads: self.threads, pool: self.pool };
        filler.fill(Writer::Safetensors(self.writer), &self.copied, |_| {})
    }
}

/// What the file says beside its tensors.
fn metadata(source: &Source, notes: &mut Vec<String>) -> Result<BTreeMap<String, String>, ConvertError> {
    let mut metadata = BTreeMap::from([(bitnet_keys::FORMAT.to_owned(), bitnet_keys::VERSION.to_owned())]);
    let trained = if source.config().trained_int8 { gguf::INT8_PER_TOKEN } else { gguf::FLOAT };
    metadata.insert(gguf::ACTIVATIONS_KEY.to_owned(), trained.to_owned());
    // The configuration of norms in front of projections stands there.
    let quantization = source.config().input_norm_eps.map(|_| QuantizationJson {
        linear_class: "autobitlinear",
        mode: "online",
        dense: Vec::new(),
        head: false,
    });
    let config = hf::config(source, "float32", quantization.as_ref());
    metadata.insert(bitnet_keys::CONFIG.to_owned(), config.to_string());
    let files = text::files(source.checkpoint(), source.config(), notes)?;
    metadata.extend(text::embedded(files)?);
    Ok(metadata)
}

/// The item of a matrix that stays as it is in the source.
fn floats(source: &Source, part: Part, shape: [usize; 2]) -> Item {
    let stored = source.name(part);
    let name = hf::name_of(part);
    match source.checkpoint().info(&stored).map(|info| info.ty()).filter(|ty| ty.is_float()) {
        Some(ty) if !source.reorders(part) => {
            Item { specs: vec![TensorSpec::new(name, ty, shape)], from: From::Raw(stored, Some(part)) }
        }
        ty => Item::matrix(name, ty.unwrap_or(TensorType::F32), shape, part, How::Floats),
    }
}

/// The tensors of a matrix; `None` when it cannot have that form.
fn stored(name: &str, entry: Entry, short: bool) -> Option<Vec<TensorSpec>> {
    let Entry { rows, cols, form } = entry;
    let plane = |name: &str, granularity: Granularity| {
        let bytes = PackedTernary::byte_len(rows, cols)?;
        let count = rows.div_ceil(PackedTernary::STRIP);
        let scales = Scales::count(granularity, rows, cols)?;
        Some([
            TensorSpec::new(bitnet_file::strips_name(name), TensorType::U8, [count, bytes / count]),
            TensorSpec::new(bitnet_file::scales_name(name), scale_type(granularity, short), [scales]),
        ])
    };
    Some(match form {
        Form::Trits(granularity) => plane(name, granularity)?.into(),
        Form::Planes([first, second]) => {
            [plane(name, first)?, plane(&bitnet_file::second_name(name), second)?].concat()
        }
        Form::Blocks(ty) => {
            let bytes = ty.byte_len(rows, cols).filter(|&len| len > 0)?;
            vec![TensorSpec::new(bitnet_file::blocks_name(name, ty), TensorType::U8, [rows, bytes / rows])]
        }
    })
}

/// Groups have so many scales that half their bytes are worth it.
fn scale_type(granularity: Granularity, short: bool) -> TensorType {
    match granularity {
        Granularity::Group(_) if short => TensorType::F16,
        _ => TensorType::F32,
    }
}

/// Scales as bytes, or `None` when f16 would round one.
fn scales(scales: &Scales, short: bool) -> Option<Vec<u8>> {
    let ty = scale_type(scales.granularity(), short);
    let exact = |s: &f32| half::f16::from_f32(*s).to_f32() == *s;
    if ty == TensorType::F16 && !scales.values().iter().all(exact) {
        return None;
    }
    let mut bytes = Vec::new();
    encode::floats_as(scales.values(), ty, &mut bytes);
    Some(bytes)
}

/// Bytes that a matrix of that shape and form takes in the file.
pub fn stored_bytes(shape: [usize; 2], form: Form) -> Option<u64> {
    let [rows, cols] = shape;
    let bytes = |spec: &TensorSpec| {
        let (rows, cols) = match spec.shape[..] {
            [one] => (1, one),
            [rows, cols] => (rows, cols),
            _ => return None,
        };
        spec.ty.byte_len(rows, cols).map(|n| n as u64)
    };
    stored("", Entry { rows, cols, form }, true)?.iter().map(bytes).sum()
}
