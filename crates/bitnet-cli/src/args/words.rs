//! Arguments that several commands take under one name, and closed lists of words.

use std::{ffi::OsString, fmt, ops::Deref, path::Path, sync::LazyLock};

use clap::{
    Args, ValueHint,
    builder::{PossibleValue, PossibleValuesParser},
};

use crate::failure::Failure;

/// What somebody calls a model: a path, which need not be UTF-8, or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName(OsString);

impl ModelName {
    /// The name as text; none for a path that is none.
    pub fn text(&self) -> Option<&str> {
        self.0.to_str()
    }

    /// A word in a model's place that turns out to be a text.
    ///
    /// # Errors
    /// When it is none.
    pub fn as_text(&self) -> Result<String, Failure> {
        let not_utf8 = || Failure::usage(format_args!("the text {self:?} is not UTF-8"));
        self.text().map(str::to_owned).ok_or_else(not_utf8)
    }

    /// The name as a path.
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl<T: Into<OsString>> From<T> for ModelName {
    fn from(name: T) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string_lossy())
    }
}

/// MODEL, as a word of its own or behind `-m`.
#[derive(Debug, Args)]
pub struct ModelArg {
    /// The model (see `bitnet help`)
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath, required_unless_present = "model_flag")]
    model: Option<ModelName>,
    /// The model, if not as a word of its own
    #[arg(
        short = 'm',
        long = "model",
        id = "model_flag",
        value_name = "MODEL",
        value_hint = ValueHint::AnyPath,
        conflicts_with = "model"
    )]
    flag: Option<ModelName>,
}

impl Deref for ModelArg {
    type Target = ModelName;

    fn deref(&self) -> &ModelName {
        static NOTHING: LazyLock<ModelName> = LazyLock::new(|| ModelName::from(""));
        // One of the two is there, or the arguments were refused.
        self.model.as_ref().or(self.flag.as_ref()).unwrap_or(&NOTHING)
    }
}

impl fmt::Display for ModelArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// MODEL where it may be left out.
#[derive(Clone, Debug, Args)]
pub struct OptionalModelArg {
    /// The model (see `bitnet help`)
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub word: Option<ModelName>,
    /// The model, if not as a word of its own
    #[arg(short = 'm', long = "model", value_name = "MODEL", value_hint = ValueHint::AnyPath, conflicts_with = "word")]
    pub flag: Option<ModelName>,
}

impl OptionalModelArg {
    /// The name that was given.
    pub fn name(&self) -> Option<&ModelName> {
        self.word.as_ref().or(self.flag.as_ref())
    }
}

/// The short names of this build's kernels; their full names are taken as well.
pub fn kernels() -> PossibleValuesParser {
    // `x86_64-t2-i8-avx2`: the instruction set stands last.
    let short = |full: &'static str| full.rsplit('-').next().unwrap_or(full);
    let value = |full: &'static str| {
        let value = PossibleValue::new(short(full)).alias(full);
        if short(full) == "avx512vnni" { value.alias("avx512") } else { value }
    };
    PossibleValuesParser::new(bitnet_kernels::all_names().map(value))
}

/// A text that can be found: each text contains the empty one.
pub fn stop_text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("an empty text would stop nothing".into()) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use bitnet_kernels::{KernelError, by_name};

    #[test]
    fn every_kernel_can_be_named_shortly() {
        for full in bitnet_kernels::all_names() {
            let short = full.rsplit('-').next().unwrap();
            let found = by_name(short);
            assert!(!matches!(found, Err(KernelError::Unknown { .. })), "{short}");
            assert!(found.is_err() || found.unwrap().name() == full, "{short} is another kernel than {full}");
        }
    }
}
