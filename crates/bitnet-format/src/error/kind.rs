//! One variant for each mistake.

use std::{
    io,
    path::{Path, PathBuf},
};

use bitnet_quant::QuantError;

use crate::TensorType;

fn no_directory(directory: &Path, there: bool) -> String {
    let directory = directory.display();
    if there {
        format!("{directory} is no directory")
    } else {
        format!("there is no directory {directory}; make it first")
    }
}

/// What is wrong with a file, or with what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatErrorKind {
    /// The system would not read or write.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A pipe, a device, a directory where a file was expected.
    #[error("not a regular file")]
    NotAFile,
    /// A file cannot be written under this name.
    #[error("it cannot be written to: {reason}")]
    NoOutput {
        /// What is there instead, such as a directory or a device.
        reason: &'static str,
    },
    /// An output's directory is missing.
    #[error("{}", no_directory(directory, *there))]
    NoDirectory {
        /// The directory that the output should be in.
        directory: PathBuf,
        /// Whether something else is there.
        there: bool,
    },
    /// The bytes are of no format that this crate reads.
    #[error("not a model file that can be read: {what}")]
    Unrecognized {
        /// What it looks like, and what to do.
        what: String,
    },
    /// The file ends inside something.
    #[error("truncated: {what} needs {need} bytes, but {have} are left")]
    Truncated {
        /// What the file ends inside of.
        what: String,
        /// Bytes that it would take.
        need: u64,
        /// Bytes that the file has left for it.
        have: u64,
    },
    /// A GGUF version that is not 2 or 3.
    #[error(
        "GGUF version {version} cannot be read: versions 2 and 3 can; write the file anew with a current converter"
    )]
    GgufVersion {
        /// The version as it stands in the header.
        version: u32,
    },
    /// A GGUF for big-endian machines.
    #[error(
        "a big-endian GGUF file cannot be read: convert it to little-endian (gguf-convert-endian of the gguf package does)"
    )]
    BigEndian,
    /// More entries are announced than the rest of the file could hold.
    #[error("{count} {what} are announced, but the {have} bytes left hold {most} at most")]
    Count {
        /// What is counted: tensors, keys, items.
        what: String,
        /// The number that the header claims.
        count: u64,
        /// Bytes that the file has left for them.
        have: u64,
        /// The number that could fit in these bytes.
        most: u64,
    },
    /// A size that does not fit in 64 bits or in memory.
    #[error("the size of {what} overflows")]
    Overflow {
        /// What the size is of.
        what: String,
    },
    /// A GGUF value type that does not exist.
    #[error("key {key:?} has value type {id}, which does not exist (0 to 12 do)")]
    ValueType {
        /// The metadata key whose value it is.
        key: String,
        /// The number of the type, which GGUF does not define.
        id: u32,
    },
    /// Arrays within arrays within arrays.
    #[error("key {key:?} nests arrays more than {limit} deep")]
    Nesting {
        /// The metadata key whose value it is.
        key: String,
        /// The deepest nesting that is read.
        limit: usize,
    },
    /// A metadata key that appears twice.
    #[error("the metadata key {key:?} appears twice")]
    DuplicateKey {
        /// The key that stands there twice.
        key: String,
    },
    /// A metadata key that must be there.
    #[error("the metadata key {key:?} is missing")]
    MissingKey {
        /// The key that is missing.
        key: String,
    },
    /// A metadata key of another type than needed.
    #[error("the metadata key {key:?} should be {expected}, but is {got}")]
    KeyType {
        /// The key whose value has the wrong type.
        key: String,
        /// The type that the reader needs.
        expected: &'static str,
        /// The type and, if short, the value found.
        got: String,
    },
    /// Text whose bytes are not UTF-8.
    #[error("{what} is not UTF-8 text")]
    NotUtf8 {
        /// What the text is: a key, a name, a file.
        what: String,
    },
    /// A name longer than a format allows.
    #[error("a {what} of {len} bytes is too long: the limit is {limit}")]
    NameLength {
        /// What the name is of.
        what: &'static str,
        /// The length of the name in bytes.
        len: u64,
        /// The longest name that is allowed, in bytes.
        limit: u64,
    },
    /// A tensor name that appears twice.
    #[error("the tensor {tensor:?} appears twice")]
    DuplicateTensor {
        /// The name that two tensors have.
        tensor: String,
    },
    /// `general.alignment` is no power of two.
    #[error("the alignment {alignment} is not a power of two from 1 to 2^20")]
    Alignment {
        /// The alignment that the file asks for.
        alignment: u64,
    },
    /// A tensor does not start on the file's alignment.
    #[error("tensor {tensor:?} starts at offset {offset}, which is not a multiple of {alignment}")]
    Misaligned {
        /// The tensor whose data are misplaced.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// What it should be a multiple of.
        alignment: u64,
    },
    /// A number of dimensions, or a dimension, that no tensor has.
    #[error("tensor {tensor:?} has shape {shape:?}: {expected}")]
    Shape {
        /// The tensor whose shape is wrong.
        tensor: String,
        /// The shape as it stands in the file.
        shape: Vec<u64>,
        /// The shape that the reader needs, in words.
        expected: &'static str,
    },
    /// Two tensors claim the same bytes.
    #[error(
        "tensors {first:?} and {second:?} overlap: the first takes {bytes} bytes, but the second starts {gap} bytes after it"
    )]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// The one that starts before the first has ended.
        second: String,
        /// Bytes that the first tensor takes.
        bytes: u64,
        /// Bytes from the start of the first to the start of the second.
        gap: u64,
    },
    /// A tensor reaches past the end of the file.
    #[error(
        "tensor {tensor:?} ends at byte {end}, but the data ends at {len}: the file is truncated or its header is wrong"
    )]
    OutsideFile {
        /// The tensor that reaches past the end.
        tensor: String,
        /// Where it ends, in bytes of the data section.
        end: u64,
        /// Where the data of the file end.
        len: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("{bytes} bytes at data offset {offset} belong to no tensor")]
    Hole {
        /// Where in the data section the bytes begin.
        offset: u64,
        /// The number of bytes that no tensor claims.
        bytes: u64,
    },
    /// The bytes between a tensor and the next are not what its type takes.
    #[error(
        "tensor {tensor:?} of shape {shape:?} is labelled {ty}, which takes {expected} bytes, but the file gives it {room}: the label is wrong or the file damaged"
    )]
    Mislabelled {
        /// The tensor whose type and size disagree.
        tensor: String,
        /// The type that the file gives it.
        ty: TensorType,
        /// The shape of the tensor, row-major.
        shape: Vec<usize>,
        /// Bytes that type and shape take.
        expected: u64,
        /// Bytes up to the next tensor or the end.
        room: u64,
    },
    /// A safetensors entry whose byte range is not what dtype and shape take.
    #[error(
        "tensor {tensor:?} of type {dtype} and shape {shape:?} takes {expected} bytes, but its entry spans {got}"
    )]
    ByteLength {
        /// The tensor whose size is wrong.
        tensor: String,
        /// The dtype that the header gives it.
        dtype: String,
        /// The shape that the header gives it.
        shape: Vec<u64>,
        /// Bytes that type and shape take.
        expected: u64,
        /// Bytes that the header's offsets give it.
        got: u64,
    },
    /// A safetensors dtype that is not known.
    #[error("tensor {tensor:?} has the unknown dtype {dtype:?}")]
    Dtype {
        /// The tensor of an unknown dtype.
        tensor: String,
        /// The dtype as the header spells it.
        dtype: String,
    },
    /// A header longer than any real one.
    #[error("the header claims {len} bytes: the limit is {limit}")]
    HeaderLength {
        /// The length that the header claims or has, in bytes.
        len: u64,
        /// The longest header that is read, in bytes.
        limit: u64,
    },
    /// JSON text that cannot be parsed, or is of another form.
    #[error("{what}: {message}")]
    Json {
        /// What the text is: a header, a config.
        what: String,
        /// What is wrong with it, and where.
        message: String,
    },
    /// A text file too large to be what its name says.
    #[error("{len} bytes are too many for {what}: the limit is {limit}")]
    TextLength {
        /// What the file is: a config, a tokenizer.
        what: &'static str,
        /// The length of the file in bytes.
        len: u64,
        /// The most bytes that are read of such a file.
        limit: u64,
    },
    /// A directory without `config.json`.
    #[error("there is no config.json: a model of this kind needs it beside its weights")]
    NoConfig,
    /// A directory without weights this crate reads.
    #[error("{what}")]
    NoWeights {
        /// What is there instead, and what to do.
        what: String,
    },
    /// A file of a sharded model is not there.
    #[error("the shard {shard:?} is missing: all files of a model must lie in one directory")]
    ShardMissing {
        /// The file name of the shard that is missing.
        shard: String,
    },
    /// A tensor that is asked for lies in a file that is not there.
    #[error(
        "the tensor {tensor:?} lies in the shard {shard:?}, which is missing: fetch it and put it beside the others"
    )]
    TensorAbsent {
        /// The tensor that is not at hand.
        tensor: String,
        /// The file name of the shard that would have it.
        shard: String,
    },
    /// An index names a shard outside of the model's directory.
    #[error("the index names the shard {shard:?}: shards must be plain file names beside the index")]
    ShardOutside {
        /// The shard's name as the index has it.
        shard: String,
    },
    /// The index names a tensor that its shard lacks.
    #[error("the index puts tensor {tensor:?} in the shard {shard:?}, which lacks it")]
    NotInShard {
        /// The tensor that the index misplaces.
        tensor: String,
        /// The file name of the shard that should have it.
        shard: String,
    },
    /// The same tensor stands in two shards.
    #[error("the tensor {tensor:?} stands in two shards, {first:?} and {second:?}")]
    TwoShards {
        /// The tensor that stands there twice.
        tensor: String,
        /// The file name of the first shard.
        first: String,
        /// The file name of the second shard.
        second: String,
    },
    /// The parts of a split GGUF do not agree with one another.
    #[error("the parts of the split file do not belong together: {what}")]
    Split {
        /// What the parts disagree about.
        what: String,
    },
    /// Bytes that are not those that were written.
    #[error(
        "{what} is not what was written, by its digest: the file is damaged; fetch it or convert the model anew"
    )]
    Damaged {
        /// The part whose digest differs.
        what: &'static str,
    },
    /// A `.bitnet` file of another version.
    #[error(
        "this .bitnet file has format version {version:?}; this program reads version \"1\": convert the model anew"
    )]
    BitnetVersion {
        /// The version as the file spells it.
        version: String,
    },
    /// No tensor of the model has the name.
    #[error("there is no tensor {tensor:?}")]
    NoTensor {
        /// The tensor that was asked for.
        tensor: String,
    },
    /// A tensor of a type that cannot be decoded, or not to what was asked for.
    #[error("tensor {tensor:?} is {ty}: {advice}")]
    Unreadable {
        /// The tensor that cannot be read.
        tensor: String,
        /// The type of its elements.
        ty: TensorType,
        /// Why it cannot be read, and what to do.
        advice: &'static str,
    },
    /// Rows or buffers that do not fit the tensor.
    #[error("tensor {tensor:?}: {what} is {got}, expected {expected}")]
    Argument {
        /// The tensor that was read.
        tensor: String,
        /// The argument that is wrong: a row, a length.
        what: &'static str,
        /// The value that was given.
        got: usize,
        /// The values that would be right.
        expected: String,
    },
    /// Bytes that are no trits or scales.
    #[error("tensor {tensor:?}: {error}")]
    Quant {
        /// The tensor whose weights are wrong.
        tensor: String,
        /// What is wrong with its weights or scales.
        error: QuantError,
    },
    /// Two-bit codes that stand for twice the scale.
    #[error(
        "tensor {tensor:?}: {count} of its weights are +2 (code 3; the first at row {row}, column {col}), so it is no ternary matrix: \
         the same model in F16 or BF16 can be read"
    )]
    PlusTwo {
        /// The tensor that is not ternary.
        tensor: String,
        /// Weights of twice their scale, where that is not 0.
        count: u64,
        /// Row of the first.
        row: usize,
        /// Column of the first.
        col: usize,
    },
    /// A byte of trits in base 3 that no five trits are written as.
    #[error(
        "tensor {tensor:?}: the byte with the weight at row {row}, column {col} is no number of five trits: the file is damaged, or \
         of another type than its number says"
    )]
    Base3 {
        /// The tensor whose byte it is.
        tensor: String,
        /// Row of the byte's first weight.
        row: usize,
        /// Column of the byte's first weight.
        col: usize,
    },
    /// A writer was given other bytes than it was promised.
    #[error("tensor {tensor:?}: {got} bytes were written, its type and shape take {expected}")]
    Written {
        /// The tensor that was written wrongly.
        tensor: String,
        /// Bytes that its type and shape take.
        expected: u64,
        /// Bytes that were given for it.
        got: u64,
    },
}
