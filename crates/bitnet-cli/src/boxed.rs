//! The model in the box: a tiny model inside this program, so that the first command needs no download.
//! What it is and is not: `box/README.md` of this crate.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Failure, Result},
    files::{self, Draft},
    hub,
};

/// The box's name on the command line, in a model's place.
pub const NAME: &str = "box";

/// The directory's files. The weights come last, so that a directory with weights is complete.
const FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../box/config.json")),
    ("generation_config.json", include_bytes!("../box/generation_config.json")),
    ("tokenizer.json", include_bytes!("../box/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../box/tokenizer_config.json")),
    ("chat_template.jinja", include_bytes!("../box/chat_template.jinja")),
    ("model.safetensors", include_bytes!("../box/model.safetensors")),
];

/// The directory on disk, unpacked if it is not there yet. It is named by the weights' checksum, and every file is
/// compared with what it must be, so another version's or a damaged one is never opened.
pub fn directory() -> Result<PathBuf> {
    let weights = FILES[FILES.len() - 1].1;
    let name = format!("box-{}", &hub::sha256(weights)[..16]);
    let places = [cache_folder(), Some(env::temp_dir())];
    let mut failure = None;
    for folder in places.into_iter().flatten() {
        let folder = folder.join("bitnet-rust").join(&name);
        match unpack(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    let failure = failure.unwrap_or_else(|| Failure::new("there is no place to unpack the model in the box"));
    Err(failure.cure("set XDG_CACHE_HOME to a folder that can be written"))
}

fn unpack(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, &e))?;
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if !holds(&path, bytes).map_err(|e| Failure::io("read", &path, &e))? {
            // What is no file of ours, such as a link or a pipe, is in the way.
            if !fs::symlink_metadata(&path).is_ok_and(|there| there.is_file()) {
                let _ = fs::remove_file(&path);
            }
            let mut draft = Draft::new(&path)?;
            draft.write(bytes)?;
            draft.publish()?;
        }
    }
    Ok(())
}

/// Whether the file at `path` is exactly `bytes`.
fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    match files::cached(path, bytes.len() as u64) {
        Ok(there) => Ok(there.is_some_and(|there| there == bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The user's cache folder by the customs of the system.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let by_system = || {
        let home = env::home_dir()?;
        Some(match env::consts::OS {
            "macos" => home.join("Library").join("Caches"),
            "windows" => home.join("AppData").join("Local"),
            _ => home.join(".cache"),
        })
    };
    set("XDG_CACHE_HOME").or_else(by_system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_copy_is_repaired() {
        let folder = env::temp_dir().join(format!("bitnet-box-{}", std::process::id()));
        unpack(&folder).unwrap();
        let path = folder.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, FILES[5].1);
        bytes[1000] ^= 1;
        fs::write(&path, &bytes).unwrap();
        fs::remove_file(folder.join("config.json")).unwrap();
        unpack(&folder).unwrap();
        for (name, bytes) in FILES {
            assert!(fs::read(folder.join(name)).unwrap() == bytes, "{name}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
