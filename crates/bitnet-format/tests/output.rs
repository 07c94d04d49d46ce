//! What may be written over, and what must never be.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

use std::{fs, path::Path};

use bitnet_format::{AtomicFile, output};

fn write(path: &Path, text: &str) -> Result<(), String> {
    let mut file = AtomicFile::create(path).map_err(|e| e.to_string())?;
    file.write(text.as_bytes()).map_err(|e| e.to_string())?;
    file.finish().map_err(|e| e.to_string())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut file = AtomicFile::create(&path).unwrap();
    file.write(b"half").unwrap();
    drop(file);
    assert!(names(folder.path()).is_empty());
    write(&path, "old").unwrap();
    write(&path, "whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn what_killed_processes_left_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut tried = Vec::new();
    let pid = std::process::id();
    let made = output::beside(&path, "x", |name| {
        tried.push(name.to_owned());
        if tried.len() < 5 {
            Err(std::io::ErrorKind::AlreadyExists.into())
        } else {
            fs::File::create_new(name)
        }
    });
    let (name, _) = made.unwrap();
    assert_eq!(Some(&name), tried.last());
    tried.dedup();
    assert_eq!(tried.len(), 5);
    // A process with the same number begins to count anew: every name that this one could take next is there already.
    let number: u64 =
        name.to_str().unwrap().rsplit_once('-').unwrap().1.strip_suffix(".x").unwrap().parse().unwrap();
    for next in number..number + 100 {
        fs::write(folder.path().join(format!(".a.{pid}-{next}.partial")), "left").unwrap();
    }
    write(&path, "whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
}

#[test]
fn errors_name_the_output_and_never_an_invented_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/a");
    let said = write(&missing, "x").unwrap_err();
    let expected =
        format!("{}: there is no directory {}", missing.display(), folder.path().join("no/such").display());
    assert!(said.starts_with(&expected), "{said}");
    fs::write(folder.path().join("file"), "").unwrap();
    let said = write(&folder.path().join("file/a"), "x").unwrap_err();
    assert!(!said.contains("partial") && said.contains("file/a"), "{said}");
    let said = write(folder.path(), "x").unwrap_err();
    assert!(said.contains("it is a directory"), "{said}");
    let said = write(Path::new(""), "x").unwrap_err();
    assert!(said.contains("names no file"), "{said}");
    // As long as file systems allow.
    let long = folder.path().join("n".repeat(255));
    write(&long, "x").unwrap();
    assert_eq!(fs::read(&long).unwrap(), b"x");
}

#[cfg(unix)]
mod unix {
    use std::os::unix::{fs::FileTypeExt, fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn devices_pipes_and_sockets_are_refused_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let link = folder.path().join("link");
        symlink(&socket, &link).unwrap();
        symlink("/dev/null", folder.path().join("null")).unwrap();
        for path in [&*socket, &*link, &*folder.path().join("null"), Path::new("/dev/null")] {
            let said = write(path, "x").unwrap_err();
            assert!(said.contains("it is a device, a pipe or a socket"), "{said}");
        }
        assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert_eq!(names(folder.path()), ["link", "null", "socket"]);
    }

    #[test]
    fn links_are_followed_and_stay_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).unwrap();
        fs::write(at("below/real"), "old").unwrap();
        symlink("below/second", at("first")).unwrap();
        symlink("real", at("below/second")).unwrap();
        symlink("below/new", at("dangling")).unwrap();
        symlink("itself", at("itself")).unwrap();
        symlink("no/where", at("lost")).unwrap();
        write(&at("first"), "through").unwrap();
        write(&at("dangling"), "made").unwrap();
        assert_eq!(fs::read(at("below/real")).unwrap(), b"through");
        assert_eq!(fs::read(at("below/new")).unwrap(), b"made");
        for link in ["first", "below/second", "dangling"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        }
        assert_eq!(names(&at("below")), ["new", "real", "second"]);
        assert!(write(&at("itself"), "x").unwrap_err().contains("leads to itself"));
        let said = write(&at("lost"), "x").unwrap_err();
        assert!(said.contains("lost: there is no directory"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_private_file_stays_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for mode in [0o600, 0o640, 0o400] {
        write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        write(&path, "new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
