//! TensorBoard's event files: numbers over steps.
//!
//! A file is a row of records as TensorFlow frames them (the length in 8 bytes, a masked CRC-32C of these, the bytes, a masked CRC-32C of
//! them, all little-endian). Each record is an `Event` message of `event.proto`, the first of which names the version of the
//! format. Four fields of it are enough for scalars, so they are written by hand.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::TrainError;

/// TensorBoard looks for `tfevents` in names.
pub(crate) const NAME: &str = "events.out.tfevents.0.bitnet";

/// What the numbers of a line of the metrics are called there, by their names in the line.
const TAGS: [(&str, &str); 8] = [
    ("loss", "loss/training"),
    ("relations", "loss/relations"),
    ("validation", "loss/validation"),
    ("gradient", "step/gradient length"),
    ("learning_rate", "step/learning rate"),
    ("tokens_per_s", "step/tokens per second"),
    ("zeros", "trits/share of zeros"),
    ("flips", "trits/flips"),
];

/// An event file of TensorBoard that is being written.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Writes the events of `lines` anew and stays open for more: what a killed run has written half, or too much, is gone.
    pub(crate) fn create<'a>(
        directory: &Path,
        lines: impl Iterator<Item = &'a Value>,
    ) -> Result<Self, TrainError> {
        let path = directory.join(NAME);
        let io = |error| TrainError::Io { path: path.clone(), error };
        let mut bytes = record(&version());
        lines.for_each(|line| bytes.extend(events(line)));
        let temporary = directory.join(".tfevents.partial");
        fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path)).map_err(io)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Self { path, file })
    }

    /// Appends the events of a line of the metrics.
    pub(crate) fn line(&mut self, line: &Value) -> Result<(), TrainError> {
        let io = |error| TrainError::Io { path: self.path.clone(), error };
        self.file.write_all(&events(line)).map_err(io)
    }
}

/// The record of a line of the metrics: one event with all its numbers.
fn events(line: &Value) -> Vec<u8> {
    let number = |key: &str| match key {
        "tokens_per_s" => Some(line["tokens"].as_f64()? / line["seconds"].as_f64()?),
        _ => line[key].as_f64(),
    };
    let values: Vec<_> = TAGS.iter().filter_map(|(key, tag)| Some((*tag, number(key)?))).collect();
    record(&scalars(line["time"].as_f64().unwrap_or(0.0), line["step"].as_u64().unwrap_or(0), &values))
}

/// `Event { wall_time: 0, file_version: "brain.Event:2" }`
fn version() -> Vec<u8> {
    let mut event = time(0.0);
    field(&mut event, 3, b"brain.Event:2");
    event
}

/// `Event { wall_time, step, summary: Summary { value: [Value { tag, simple_value }] } }`
fn scalars(seconds: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in values {
        let mut value = Vec::new();
        field(&mut value, 1, tag.as_bytes());
        value.push(2 << 3 | 5);
        value.extend((*number as f32).to_le_bytes());
        field(&mut summary, 1, &value);
    }
    let mut event = time(seconds);
    event.push(2 << 3);
    varint(&mut event, step);
    field(&mut event, 5, &summary);
    event
}

/// The field `wall_time`, a double.
fn time(seconds: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(seconds.to_le_bytes());
    event
}

/// A protobuf field whose value is bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

/// A CRC as it is stored: turned, and moved by a constant, so that a CRC over stored CRCs is still one.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli), bit by bit: a record has a hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc));
    !bytes.iter().fold(!0, byte)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of the catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!((crc32c(&[0; 32]), crc32c(&[0xff; 32])), (0x8a91_36aa, 0x62a8_ab43));
    }

    #[test]
    fn records_have_the_bytes_of_the_format() {
        let directory = tempfile::tempdir().unwrap();
        let line = json!({ "step": 300, "validation": 1.5, "zeros": 0.25, "time": 2.0 });
        let mut file = EventFile::create(directory.path(), [&line].into_iter()).unwrap();
        let whole = fs::read(directory.path().join(NAME)).unwrap();
        file.line(&line).unwrap();
        let twice = fs::read(directory.path().join(NAME)).unwrap();
        // The first record, 24 bytes long, and the CRCs of it as another implementation has them.
        let first =
            [&[24u8, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22][..], &[9, 0, 0, 0, 0, 0, 0, 0, 0, 26, 13]];
        assert!(whole.starts_with(&first.concat()), "{:?}", &whole[..30]);
        assert_eq!(&whole[23..36], b"brain.Event:2");
        let (head, second) = whole.split_at(12 + 24 + 4);
        assert_eq!(head.len() + 2 * second.len(), twice.len());
        let event = &second[12..second.len() - 4];
        let mut expected = vec![9];
        expected.extend(2f64.to_le_bytes());
        // The step 300 in seven bits at a time, and the summary's length.
        expected.extend([16, 0xac, 0x02, 42, 53]);
        expected.extend([10, 22, 10, 15]);
        expected.extend(b"loss/validation");
        expected.push(21);
        expected.extend(1.5f32.to_le_bytes());
        expected.extend([10, 27, 10, 20]);
        expected.extend(b"trits/share of zeros");
        expected.push(21);
        expected.extend(0.25f32.to_le_bytes());
        assert_eq!(event, expected);
        assert_eq!(second[..8], (event.len() as u64).to_le_bytes());
        assert_eq!(second[second.len() - 4..], masked(event));
    }
}
