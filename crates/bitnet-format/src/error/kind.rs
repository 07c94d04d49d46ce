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
        /// What is there instead.
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
    /// Nothing this crate reads.
    #[error("not a model file that can be read: {what}")]
    Unrecognized {
        /// What it looks like, and what to do.
        what: String,
    },
    /// The file ends inside something.
    #[error("truncated: {what} needs {need} bytes, but {have} are left")]
    Truncated {
        /// What stood there.
        what: String,
        /// Bytes it takes.
        need: u64,
        /// Bytes that are left.
        have: u64,
    },
    /// A GGUF version that is not 2 or 3.
    #[error(
        "GGUF version {version} cannot be read: versions 2 and 3 can; write the file anew with a current converter"
    )]
    GgufVersion {
        /// The version word.
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
        /// Entries of what.
        what: String,
        /// How many.
        count: u64,
        /// Bytes that are left.
        have: u64,
        /// How many could fit.
        most: u64,
    },
    /// A size that does not fit in 64 bits or in memory.
    #[error("the size of {what} overflows")]
    Overflow {
        /// Of what.
        what: String,
    },
    /// A GGUF value type that does not exist.
    #[error("key {key:?} has value type {id}, which does not exist (0 to 12 do)")]
    ValueType {
        /// The metadata key.
        key: String,
        /// The type's number.
        id: u32,
    },
    /// Arrays within arrays within arrays.
    #[error("key {key:?} nests arrays more than {limit} deep")]
    Nesting {
        /// The metadata key.
        key: String,
        /// The most that is read.
        limit: usize,
    },
    /// A metadata key that appears twice.
    #[error("the metadata key {key:?} appears twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A metadata key that must be there.
    #[error("the metadata key {key:?} is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata key of another type than needed.
    #[error("the metadata key {key:?} should be {expected}, but is {got}")]
    KeyType {
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
        /// What stands there.
        got: String,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8 text")]
    NotUtf8 {
        /// Which text.
        what: String,
    },
    /// A name longer than a format allows.
    #[error("a {what} of {len} bytes is too long: the limit is {limit}")]
    NameLength {
        /// Of what.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A tensor name that appears twice.
    #[error("the tensor {tensor:?} appears twice")]
    DuplicateTensor {
        /// Its name.
        tensor: String,
    },
    /// `general.alignment` is no power of two.
    #[error("the alignment {alignment} is not a power of two from 1 to 2^20")]
    Alignment {
        /// What the file says.
        alignment: u64,
    },
    /// A tensor does not start on the file's alignment.
    #[error("tensor {tensor:?} starts at offset {offset}, which is not a multiple of {alignment}")]
    Misaligned {
        /// Its name.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// What it should be a multiple of.
        alignment: u64,
    },
    /// A number of dimensions, or a dimension, that no tensor has.
    #[error("tensor {tensor:?} has shape {shape:?}: {expected}")]
    Shape {
        /// Its name.
        tensor: String,
        /// The shape as the file has it.
        shape: Vec<u64>,
        /// What it should be.
        expected: &'static str,
    },
    /// Two tensors claim the same bytes.
    #[error(
        "tensors {first:?} and {second:?} overlap: the first takes {bytes} bytes, but the second starts {gap} bytes after it"
    )]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The one that starts before the first has ended.
        second: String,
        /// Bytes of the first.
        bytes: u64,
        /// Bytes from the start of the first to the start of the second.
        gap: u64,
    },
    /// A tensor reaches past the end of the file.
    #[error(
        "tensor {tensor:?} ends at byte {end}, but the data ends at {len}: the file is truncated or its header is wrong"
    )]
    OutsideFile {
        /// Its name.
        tensor: String,
        /// Where it ends, in bytes of the data section.
        end: u64,
        /// Where the data ends.
        len: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("{bytes} bytes at data offset {offset} belong to no tensor")]
    Hole {
        /// Where they start.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The bytes between a tensor and the next are not what its type takes.
    #[error(
        "tensor {tensor:?} of shape {shape:?} is labelled {ty}, which takes {expected} bytes, but the file gives it {room}: the label is wrong or the file damaged"
    )]
    Mislabelled {
        /// Its name.
        tensor: String,
        /// Its type by the file's word.
        ty: TensorType,
        /// Its shape, row-major.
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
        /// Its name.
        tensor: String,
        /// Its dtype.
        dtype: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes that type and shape take.
        expected: u64,
        /// Bytes of the entry.
        got: u64,
    },
    /// A safetensors dtype that is not known.
    #[error("tensor {tensor:?} has the unknown dtype {dtype:?}")]
    Dtype {
        /// Its name.
        tensor: String,
        /// The dtype.
        dtype: String,
    },
    /// A header longer than any real one.
    #[error("the header claims {len} bytes: the limit is {limit}")]
    HeaderLength {
        /// What it claims.
        len: u64,
        /// The most that is read.
        limit: u64,
    },
    /// JSON that cannot be read.
    #[error("{what}: {message}")]
    Json {
        /// Which text.
        what: String,
        /// What is wrong, and where.
        message: String,
    },
    /// A text file too large to be what its name says.
    #[error("{len} bytes are too many for {what}: the limit is {limit}")]
    TextLength {
        /// Which text.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The most that is read.
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
        /// Its file name.
        shard: String,
    },
    /// A tensor that is asked for lies in a file that is not there.
    #[error(
        "the tensor {tensor:?} lies in the shard {shard:?}, which is missing: fetch it and put it beside the others"
    )]
    TensorAbsent {
        /// The tensor.
        tensor: String,
        /// The shard's file name.
        shard: String,
    },
    /// A shard name that is a path.
    #[error("the index names the shard {shard:?}: shards must be plain file names beside the index")]
    ShardOutside {
        /// The name.
        shard: String,
    },
    /// The index names a tensor that its shard lacks.
    #[error("the index puts tensor {tensor:?} in the shard {shard:?}, which lacks it")]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The shard's file name.
        shard: String,
    },
    /// A tensor stands in two shards.
    #[error("the tensor {tensor:?} stands in two shards, {first:?} and {second:?}")]
    TwoShards {
        /// The tensor.
        tensor: String,
        /// One shard's file name.
        first: String,
        /// The other's.
        second: String,
    },
    /// The parts of a split GGUF do not agree with one another.
    #[error("the parts of the split file do not belong together: {what}")]
    Split {
        /// What disagrees.
        what: String,
    },
    /// Bytes that are not those that were written.
    #[error(
        "{what} is not what was written, by its digest: the file is damaged; fetch it or convert the model anew"
    )]
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// A `.bitnet` file of another version.
    #[error(
        "this .bitnet file has format version {version:?}; this program reads version \"1\": convert the model anew"
    )]
    BitnetVersion {
        /// What the file says.
        version: String,
    },
    /// A tensor that is not there.
    #[error("there is no tensor {tensor:?}")]
    NoTensor {
        /// The name that was asked for.
        tensor: String,
    },
    /// A tensor of a type that cannot be decoded, or not to what was asked for.
    #[error("tensor {tensor:?} is {ty}: {advice}")]
    Unreadable {
        /// Its name.
        tensor: String,
        /// Its type.
        ty: TensorType,
        /// Why not, and what to do.
        advice: &'static str,
    },
    /// Rows or buffers that do not fit the tensor.
    #[error("tensor {tensor:?}: {what} is {got}, expected {expected}")]
    Argument {
        /// Its name.
        tensor: String,
        /// Which argument.
        what: &'static str,
        /// Its value.
        got: usize,
        /// What it should be.
        expected: String,
    },
    /// Bytes that are no trits or scales.
    #[error("tensor {tensor:?}: {error}")]
    Quant {
        /// Its name.
        tensor: String,
        /// What is wrong.
        error: QuantError,
    },
    /// A writer was given other bytes than it was promised.
    #[error("tensor {tensor:?}: {got} bytes were written, its type and shape take {expected}")]
    Written {
        /// Its name.
        tensor: String,
        /// Bytes it takes.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
}
