//! The arguments of `quantize`.

use std::path::PathBuf;

use bitnet_calibration::Method;
use clap::{Args, ValueHint, builder::PossibleValuesParser};

use super::{number, words::OptionalModelArg};

/// The heading of flags about the text that is looked at.
const TEXT: &str = "Text";

/// What `--init` does not look at.
const NOT_WITH_INIT: [&str; 18] = [
    "word",
    "flag",
    "output",
    "method",
    "group",
    "tables",
    "budget",
    "bits_per_weight",
    "sensitivity",
    "calibration",
    "held_out",
    "window",
    "tokens",
    "held_out_tokens",
    "damping",
    "threads",
    "force",
    "json",
];

#[derive(Clone, Debug, Args)]
pub struct QuantizeArgs {
    // A float model.
    #[command(flatten)]
    pub model: OptionalModelArg,
    /// The .bitnet file to write
    #[arg(short, long, value_name = "OUT.bitnet", value_hint = ValueHint::FilePath, required_unless_present_any = ["job", "init"])]
    pub output: Option<PathBuf>,
    /// Take what is not said here from a job: a TOML file in which every value is explained
    #[arg(long, value_name = "FILE.toml", value_hint = ValueHint::FilePath, conflicts_with = "init")]
    pub job: Option<PathBuf>,
    /// Write a job with every value's default and meaning, and do nothing else
    #[arg(long, value_name = "FILE.toml", value_hint = ValueHint::FilePath, conflicts_with_all = NOT_WITH_INIT)]
    pub init: Option<PathBuf>,
    /// What projections become: int8 is nearly lossless, int4-gptq takes half of its bits, two planes of trits lose more than int4 at the same
    /// bits but generate faster, and one plane (gptq, least-squares, asymmetric, absmean) loses far more on models that were not trained ternary [default: int4-gptq with calibration text, int8 without]
    #[arg(long, value_name = "METHOD", value_parser = PossibleValuesParser::new(Method::ALL.map(Method::name)))]
    pub method: Option<String>,
    /// Which weights share a scale: a number of neighbours in a row, `row` or `tensor` [default: 64]
    #[arg(long, value_name = "N|row|tensor", value_parser = group)]
    pub group: Option<Group>,
    /// What embedding and head become: keep, int8 or int4 [default: keep]
    #[arg(long, value_name = "FORM", value_parser = ["keep", "int8", "int4"])]
    pub tables: Option<String>,
    /// Bytes of all projections together, such as 1.2GB: each gets one plane, two, int4 or int8
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "bits_per_weight")]
    pub budget: Option<u64>,
    /// The same budget in bits for each weight of a projection
    #[arg(long, value_name = "X", value_parser = number::bits)]
    pub bits_per_weight: Option<f64>,
    /// Measure what each matrix alone does to the loss
    #[arg(long)]
    pub sensitivity: bool,
    /// Text whose activations are looked at; - is standard input
    #[arg(long, aliases = ["file", "text"], value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TEXT)]
    pub calibration: Option<PathBuf>,
    /// Text that losses are measured on [default: the last eighth of the calibration text]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TEXT)]
    pub held_out: Option<PathBuf>,
    /// Tokens of a window [default: 256]
    #[arg(long, value_name = "N", value_parser = number::from_2::<u32>, help_heading = TEXT)]
    pub window: Option<u32>,
    /// The most tokens of calibration text [default: 32768]
    #[arg(long, value_name = "N", value_parser = number::from_1::<u32>, help_heading = TEXT)]
    pub tokens: Option<u32>,
    /// The most tokens of held-out text [default: 8192]
    #[arg(long, value_name = "N", value_parser = number::from_1::<u32>, help_heading = TEXT)]
    pub held_out_tokens: Option<u32>,
    /// How cautiously errors are made good by later columns: this share of the mean is added to the diagonal of the inputs'
    /// statistics [default: 1 for one plane in groups, 10 for one in rows, else 0.01]
    #[arg(long, value_name = "X", value_parser = number::positive_f64, help_heading = TEXT)]
    pub damping: Option<f64>,
    /// Threads [default: all cores this process may use]
    #[arg(long, short_alias = 't', value_name = "N", value_parser = number::up_to_1024)]
    pub threads: Option<u16>,
    /// Replace OUT if it exists
    #[arg(long)]
    pub force: bool,
    /// One JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Tensor,
    Row,
    Columns(usize),
}

pub fn group(word: &str) -> Result<Group, String> {
    match word {
        "tensor" => Ok(Group::Tensor),
        "row" => Ok(Group::Row),
        number => match number.parse() {
            Ok(n @ 8..=65_536) => Ok(Group::Columns(n)),
            _ => Err("a number from 8 to 65536, `row` or `tensor`".into()),
        },
    }
}

/// A number of bytes with an optional unit, decimal as disks are sold and binary as memory is.
pub fn size(word: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 7] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("B", 1.0),
    ];
    let wrong = || "a size such as 1.2GB, 800MiB or 1000000".to_owned();
    let unit = UNITS.into_iter().find(|(unit, _)| word.ends_with(unit));
    let (digits, factor) = match unit {
        Some((unit, factor)) => (&word[..word.len() - unit.len()], factor),
        None => (word, 1.0),
    };
    let bytes = digits.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    if bytes.is_finite() && (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_groups_are_read() {
        assert_eq!(size("1.2GB"), Ok(1_200_000_000));
        assert_eq!(size("2KiB"), Ok(2048));
        assert_eq!(size("77"), Ok(77));
        assert!(["", "GB", "-1MB", "1e40GB", "nan", "1 TB"].iter().all(|word| size(word).is_err()));
        assert_eq!((group("row"), group("64")), (Ok(Group::Row), Ok(Group::Columns(64))));
        assert!(["", "0", "7", "rows", "-64"].iter().all(|word| group(word).is_err()));
    }
}
