//! One file from the hub to the cache: resumed where an earlier try broke off, checked before it gets its name.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{Cache, Hub, RemoteFile, RepoName, client::header, digest::Check};
use crate::failure::{Failure, Result};

/// Tries in a row that bring nothing before the download is given up.
const TRIES: u32 = 5;
/// The pause after the first of them; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const BUFFER: usize = 256 << 10;

/// A download that is not complete.
struct Partial<'a> {
    file: File,
    path: PathBuf,
    /// Bytes that are in `file` and in `check`.
    len: u64,
    check: Option<Check>,
    remote: &'a RemoteFile,
    buffer: Vec<u8>,
}

/// Brings `remote` to its place among the blobs of `repo`, telling `progress` how many of its bytes are there.
/// Returns whether the hub gave a checksum.
pub fn download(
    hub: &Hub,
    cache: &Cache,
    repo: &RepoName,
    remote: &RemoteFile,
    progress: &dyn Fn(u64),
) -> Result<bool> {
    let blob = cache.blob(repo, &remote.etag);
    let mut partial = Partial::open(&blob, remote)?;
    let checked = partial.check.is_some();
    // Whoever held the lock until now may have finished it.
    if blob.is_file() && partial.len == 0 {
        progress(remote.size);
        partial.discard();
        return Ok(checked);
    }
    let mut fruitless = 0;
    while partial.len < remote.size {
        let before = partial.len;
        let broke = match partial.go_on(hub, repo, progress) {
            Ok(()) => continue,
            Err(Attempt::Final(failure)) => return Err(failure),
            Err(Attempt::Broke(failure)) => failure,
        };
        fruitless = if partial.len > before { 0 } else { fruitless + 1 };
        if fruitless >= TRIES {
            return Err(broke);
        }
        thread::sleep(FIRST_PAUSE * 2u32.pow(fruitless));
    }
    partial.publish(&blob)?;
    Ok(checked)
}

/// Why an attempt at a download ended.
enum Attempt {
    /// Another one may go on from here.
    Broke(Failure),
    /// A failure that another attempt would meet again.
    Final(Failure),
}

impl<'a> Partial<'a> {
    /// What an earlier try left, read once for the checksum, or nothing yet.
    fn open(blob: &Path, remote: &'a RemoteFile) -> Result<Self> {
        let path = blob.with_file_name(format!("{}.incomplete", remote.etag));
        let failed = |e| Failure::io("write", &path, &e);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Failure::new(format_args!("{} is no regular file", path.display())).cure("remove it"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(format_args!(
                    "'{}' is being fetched by another process",
                    remote.name
                ))
                .cure("wait until it is done"));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let check = Check::of_etag(&remote.etag, remote.size);
        let mut partial = Self { file, path: path.clone(), len: 0, check, remote, buffer: vec![0; BUFFER] };
        partial.take_stock().map_err(failed)?;
        Ok(partial)
    }

    fn take_stock(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.remote.size {
            return self.restart();
        }
        loop {
            let n = self.file.read(&mut self.buffer)?;
            if n == 0 {
                return Ok(());
            }
            self.count(n);
        }
    }

    fn count(&mut self, n: usize) {
        if let Some(check) = &mut self.check {
            check.add(&self.buffer[..n]);
        }
        self.len += n as u64;
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.len = 0;
        if let Some(check) = &mut self.check {
            check.restart();
        }
        Ok(())
    }

    /// One request, for everything that is missing.
    fn go_on(&mut self, hub: &Hub, repo: &RepoName, progress: &dyn Fn(u64)) -> Result<(), Attempt> {
        let name = &self.remote.name;
        let mut reply = hub.open(&self.remote.url, self.len).map_err(Attempt::Broke)?;
        match reply.status().as_u16() {
            206 if starts_at(header(reply.headers(), "content-range")) == Some(self.len) => {}
            // The whole file although a part was asked for, or the wrong part.
            200 => self.restart().map_err(|e| self.disk(&e))?,
            206 | 416 => {
                self.restart().map_err(|e| self.disk(&e))?;
                return Err(Attempt::Broke(Failure::new(format_args!("the hub cannot resume '{name}'"))));
            }
            500..=599 => {
                let status = reply.status();
                return Err(Attempt::Broke(Failure::new(format_args!(
                    "the hub answers {status} for '{name}'"
                ))));
            }
            _ => {
                hub.check(&reply, repo, &format!("file '{name}'")).map_err(Attempt::Final)?;
                let status = reply.status();
                return Err(Attempt::Final(Failure::new(format_args!(
                    "the hub answers {status} for '{name}'"
                ))));
            }
        }
        let mut body = reply.body_mut().as_reader();
        loop {
            let n = body.read(&mut self.buffer).map_err(|e| self.broke(&e.to_string()))?;
            if n == 0 {
                break;
            }
            if self.len + n as u64 > self.remote.size {
                self.restart().map_err(|e| self.disk(&e))?;
                let text =
                    format!("'{name}' is longer than the {} bytes that the hub says", self.remote.size);
                return Err(Attempt::Final(Failure::new(text)));
            }
            self.file.write_all(&self.buffer[..n]).map_err(|e| self.disk(&e))?;
            self.count(n);
            progress(self.len);
        }
        if self.len < self.remote.size { Err(self.broke("the connection was closed")) } else { Ok(()) }
    }

    fn broke(&self, why: &str) -> Attempt {
        let Self { len, remote, .. } = self;
        let what = format!("'{}' broke off after {len} of {} bytes: {why}", remote.name, remote.size);
        Attempt::Broke(Failure::new(what).cure("run the same command again: it goes on where it was"))
    }

    fn disk(&self, error: &io::Error) -> Attempt {
        Attempt::Final(Failure::io("write", &self.path, error))
    }

    /// Checks all bytes and gives the file its name.
    fn publish(mut self, blob: &Path) -> Result<()> {
        let failed = |e| Failure::io("write", blob, &e);
        self.file.sync_all().map_err(failed)?;
        if self.check.take().is_some_and(|check| !check.holds()) {
            let what = format!(
                "'{}' does not have the checksum that the hub says; it was thrown away",
                self.remote.name
            );
            self.discard();
            return Err(Failure::new(what)
                .cure("run the same command again; if it stays so, what the hub holds is damaged"));
        }
        fs::rename(&self.path, blob).map_err(failed)
    }

    /// Removes what has been downloaded so far.
    fn discard(self) {
        // Nothing is lost when it stays: it is checked before it is used.
        let _ = fs::remove_file(&self.path);
    }
}

/// The first byte of `bytes START-END/TOTAL`.
fn starts_at(range: Option<&str>) -> Option<u64> {
    range?.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_start_of_a_range() {
        let start = |text| super::starts_at(Some(text));
        assert_eq!(
            [start("bytes 5-9/10"), start("bytes 0-/9"), start("bytes */10"), start("5-9")],
            [Some(5), Some(0), None, None]
        );
    }
}
