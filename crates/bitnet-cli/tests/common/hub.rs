//! A server that plays the hub on this machine: the list of files, their descriptions, large files behind a redirect,
//! ranges, and every fault that a test asks for.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use ring::digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server holds and how it misbehaves.
#[derive(Clone, Default)]
pub struct Plan {
    pub files: BTreeMap<String, Vec<u8>>,
    /// The connection of a GET for this file ends after so many bytes, so many times.
    pub cut: Option<(String, usize, usize)>,
    /// A byte of this file is wrong.
    pub corrupt: Option<String>,
    /// This status, with this x-error-code, for everything.
    pub refuse: Option<(u16, &'static str)>,
    /// This entity tag for everything.
    pub etag: Option<&'static str>,
    /// Names that are listed but not there.
    pub also_listed: Vec<&'static str>,
    /// Ranges are ignored.
    pub no_ranges: bool,
    /// The token that is needed.
    pub token: Option<&'static str>,
    /// The one revision there is, instead of main.
    pub revision: Option<&'static str>,
    /// A part that is asked for begins in the middle of what was skipped.
    pub wrong_part: bool,
    /// Small files lie behind a relative redirect without an entity tag.
    pub elsewhere: bool,
    /// This status for everything, and the same path at this address.
    pub mirrors: Option<(u16, String)>,
}

/// A running server.
pub struct FakeHub {
    pub endpoint: String,
    log: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<usize>>,
}

impl Plan {
    pub fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.into(), bytes.into());
        self
    }

    pub fn serve(self) -> FakeHub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let tokens = Arc::new(Mutex::new(0));
        let (state, lines, counted) = (Arc::new(Mutex::new(self)), log.clone(), tokens.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, lines, counted) = (state.clone(), lines.clone(), counted.clone());
                // A client that leaves in the middle is one of the cases.
                thread::spawn(move || drop(answer(stream, &state, &lines, &counted)));
            }
        });
        FakeHub { endpoint, log, tokens }
    }
}

impl FakeHub {
    /// `METHOD path [range]` of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests came with a token.
    pub fn tokens(&self) -> usize {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ranges asked for in GETs of `name`, `-` for the whole.
    pub fn gets(&self, name: &str) -> Vec<String> {
        let of = |line: &String| {
            let path = line.strip_prefix("GET ")?;
            let (path, range) = path.split_once(' ')?;
            path.ends_with(name).then(|| range.to_owned())
        };
        self.requests().iter().filter_map(of).collect()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes))
}

fn git_blob(bytes: &[u8]) -> String {
    let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &blob))
}

fn hex(digest: digest::Digest) -> String {
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// What the hub keeps apart from small files.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

fn answer(
    stream: TcpStream,
    state: &Mutex<Plan>,
    log: &Mutex<Vec<String>>,
    tokens: &Mutex<usize>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let (mut range, mut token) = (None, None);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? <= 2 {
            break;
        }
        let (name, value) = header.trim_end().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "range" => range = value.strip_prefix("bytes=").map(str::to_owned),
            "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let shown = range.clone().unwrap_or_else(|| "-".into());
    log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path} {shown}"));
    *tokens.lock().unwrap_or_else(PoisonError::into_inner) += usize::from(token.is_some());
    let mut plan = state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut exchange = Exchange { stream, plan: &mut plan, method, range };
    if let Some((status, address)) = exchange.plan.mirrors.clone() {
        let headers = [("location", format!("{address}{path}")), ("content-length", "0".into())];
        return exchange.head(status, &headers);
    }
    if let Some((status, code)) = exchange.plan.refuse {
        return exchange.head(status, &[("x-error-code", code.into()), ("content-length", "0".into())]);
    }
    if exchange.plan.token.is_some_and(|needed| token.as_deref() != Some(needed)) {
        return exchange.head(401, &[("x-error-code", "GatedRepo".into()), ("content-length", "0".into())]);
    }
    exchange.serve(&path)
}

struct Exchange<'a> {
    stream: TcpStream,
    plan: &'a mut Plan,
    method: String,
    range: Option<String>,
}

impl Exchange<'_> {
    fn serve(&mut self, path: &str) -> std::io::Result<()> {
        let parts: Vec<_> = path.split('/').skip(1).map(str::to_owned).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["api", "models", _, _, "revision", asked] if *asked == self.plan.revision.unwrap_or("main") => {
                self.listing()
            }
            [_, _, "resolve", COMMIT, name @ ..] => self.resolve(&name.join("/")),
            ["elsewhere", name @ ..] => {
                let name = name.join("/");
                self.small(name.strip_suffix("?still=here").unwrap_or_default())
            }
            ["store", name @ ..] => self.contents(&name.join("/")),
            _ => self.head(404, &[("x-error-code", "RepoNotFound".into()), ("content-length", "0".into())]),
        }
    }

    fn listing(&mut self) -> std::io::Result<()> {
        let names = self.plan.files.keys().map(String::as_str).chain(self.plan.also_listed.iter().copied());
        let siblings: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
        let text = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        self.head(200, &[("content-length", text.len().to_string())])?;
        self.stream.write_all(text.as_bytes())
    }

    fn resolve(&mut self, name: &str) -> std::io::Result<()> {
        let Some(bytes) = self.plan.files.get(name).cloned() else {
            return self
                .head(404, &[("x-error-code", "EntryNotFound".into()), ("content-length", "0".into())]);
        };
        let tag = if is_large(name) { sha256(&bytes) } else { git_blob(&bytes) };
        let tag = format!("\"{}\"", self.plan.etag.map_or(tag, str::to_owned));
        let size = bytes.len().to_string();
        if is_large(name) {
            let headers = [
                ("x-repo-commit", COMMIT.to_owned()),
                ("x-linked-etag", tag),
                ("x-linked-size", size),
                ("etag", "\"not-this-one\"".into()),
                ("location", format!("/store/{name}")),
                ("content-length", "0".into()),
            ];
            // The hub redirects to another host, which this address stands for: absolute, so not to be followed in a HEAD.
            let mut headers = headers.to_vec();
            headers[4].1 = format!("http://{}/store/{name}", self.stream.local_addr()?);
            return self.head(302, &headers);
        }
        if self.plan.elsewhere {
            let location = format!("/elsewhere/{name}?still=here");
            return self.head(307, &[("location", location), ("content-length", "0".into())]);
        }
        self.small(name)
    }

    /// A file of the hub's own.
    fn small(&mut self, name: &str) -> std::io::Result<()> {
        let bytes = self.plan.files.get(name).cloned().unwrap_or_default();
        if self.method == "HEAD" {
            let tag = format!("\"{}\"", self.plan.etag.map_or_else(|| git_blob(&bytes), str::to_owned));
            let size = bytes.len().to_string();
            return self
                .head(200, &[("x-repo-commit", COMMIT.into()), ("etag", tag), ("content-length", size)]);
        }
        self.contents(name)
    }

    fn contents(&mut self, name: &str) -> std::io::Result<()> {
        let mut bytes = self.plan.files.get(name).cloned().unwrap_or_default();
        if self.plan.corrupt.as_deref() == Some(name) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let total = bytes.len();
        let start = self.range.as_ref().and_then(|r| r.strip_suffix('-')?.parse().ok());
        let start: usize = start.filter(|_| !self.plan.no_ranges).unwrap_or(0);
        let start = if self.plan.wrong_part { start / 2 } else { start };
        let body = &bytes[start.min(total)..];
        let length = ("content-length", body.len().to_string());
        if start > 0 {
            let range = ("content-range", format!("bytes {start}-{}/{total}", total - 1));
            self.head(206, &[range, length])?;
        } else {
            self.head(200, &[length])?;
        }
        if let Some((_, most, times)) =
            self.plan.cut.as_mut().filter(|(cut, _, times)| cut == name && *times > 0)
        {
            *times -= 1;
            return self.stream.write_all(&body[..body.len().min(*most)]);
        }
        self.stream.write_all(body)
    }

    fn head(&mut self, status: u16, headers: &[(&str, String)]) -> std::io::Result<()> {
        let mut text = format!("HTTP/1.1 {status} Status\r\nconnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        self.stream.write_all(format!("{text}\r\n").as_bytes())
    }
}
