//! Questions to the hub: what files a model has, and where and how large one of them is.

use std::{env, fs, io::Read, path::PathBuf, time::Duration};

use serde::Deserialize;
use ureq::{
    Agent, Body,
    config::RedirectAuthHeaders,
    http::{HeaderMap, Response},
};

use super::{RepoName, cache, safe, safe_path};
use crate::failure::{Failure, Result, plain};

/// A connection that takes longer is not going to be made.
const CONNECT: Duration = Duration::from_secs(20);
/// A connection that is silent for longer is dead; downloads go on over a new one.
const SILENCE: Duration = Duration::from_secs(60);
/// The reply that lists a model's files is small; more than this is not that reply.
const MOST_LISTING: u64 = 32 << 20;
/// Redirects that stay on the hub (a renamed model) are followed so often.
const RENAMES: usize = 4;

/// A hub, by default the public one.
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    agent: Agent,
}

/// A model's files at one commit.
#[derive(Debug)]
pub struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// One file on the hub.
#[derive(Debug)]
pub struct RemoteFile {
    pub name: String,
    pub url: String,
    pub etag: String,
    pub size: u64,
}

#[derive(Deserialize)]
struct ModelReply {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// The hub that HF_ENDPOINT names, with the token of HF_TOKEN or of the hub's own login.
    pub fn from_env() -> Result<Self> {
        let set = |name| env::var(name).ok().filter(|v| !v.trim().is_empty());
        if set("HF_HUB_OFFLINE")
            .is_some_and(|v| matches!(v.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
        {
            return Err(Failure::new("HF_HUB_OFFLINE forbids asking the hub").cure("unset HF_HUB_OFFLINE"));
        }
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Failure::new(format_args!("HF_ENDPOINT is '{endpoint}', which is no address"))
                .cure("it begins with https:// or http://"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(endpoint.starts_with("https://"))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("bitnet-rust/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { endpoint, token: token(), agent: config.into() })
    }

    /// The address, for messages.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The files of `repo` at `revision`.
    pub fn list(&self, repo: &RepoName, revision: &str) -> Result<Listing> {
        if !safe_path(revision) {
            return Err(Failure::usage(format_args!("'{revision}' is not a branch, a tag or a commit")));
        }
        let url = format!("{}/api/models/{repo}/revision/{}", self.endpoint, revision.replace('/', "%2F"));
        let mut reply = self.ask(self.agent.get(&url))?;
        self.check(&reply, repo, &format!("revision '{revision}'"))?;
        let mut text = Vec::new();
        let read = reply.body_mut().as_reader().take(MOST_LISTING).read_to_end(&mut text);
        read.map_err(|e| Failure::new(format_args!("{} broke off: {e}", self.endpoint)))?;
        let strange =
            |what: &str| Failure::new(format_args!("{} gave a strange answer: {what}", self.endpoint));
        let reply: ModelReply = serde_json::from_slice(&text).map_err(|e| strange(&e.to_string()))?;
        if !safe(&reply.sha) {
            return Err(strange("its commit is not one"));
        }
        let files = reply.siblings.into_iter().map(|s| s.rfilename).filter(|name| safe_path(name)).collect();
        Ok(Listing { commit: reply.sha, files })
    }

    /// Size and entity tag of a file, without fetching it.
    pub fn describe(&self, repo: &RepoName, commit: &str, name: &str) -> Result<RemoteFile> {
        let url = format!("{}/{repo}/resolve/{commit}/{name}", self.endpoint);
        let mut at = url.clone();
        for _ in 0..RENAMES {
            // The entity tag stands on the hub's own answer, which redirects large files to where they are stored.
            let request =
                self.agent.head(&at).config().max_redirects(0).max_redirects_will_error(false).build();
            let reply = self.ask(request)?;
            if reply.status().is_redirection()
                && let Some(path) = header(reply.headers(), "location").filter(|l| l.starts_with('/'))
            {
                at = format!("{}{path}", self.origin());
                continue;
            }
            self.check(&reply, repo, &format!("file '{name}'"))?;
            return self.described(reply.headers(), commit, name, at);
        }
        Err(Failure::new(format_args!("{} redirects {url} in circles", self.endpoint)))
    }

    fn described(&self, headers: &HeaderMap, commit: &str, name: &str, url: String) -> Result<RemoteFile> {
        let lacks = |what: &str| {
            Failure::new(format_args!("{} gives no {what} for '{name}'", self.endpoint))
                .cure("check HF_ENDPOINT: it must be a Hugging Face hub or a full mirror of one")
        };
        if let Some(theirs) = header(headers, "x-repo-commit").filter(|theirs| *theirs != commit) {
            return Err(Failure::new(format_args!(
                "the hub answered for commit {theirs} instead of {commit}"
            )));
        }
        let either = |first, second| header(headers, first).or_else(|| header(headers, second));
        let etag = either("x-linked-etag", "etag").ok_or_else(|| lacks("entity tag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        // It becomes a file name.
        if !safe(&etag) {
            return Err(lacks("usable entity tag"));
        }
        let size = either("x-linked-size", "content-length").and_then(|s| s.parse().ok());
        Ok(RemoteFile { name: name.to_owned(), url, etag, size: size.ok_or_else(|| lacks("size"))? })
    }

    /// Opens `url` at byte `start`. The status and headers are the caller's to judge.
    pub fn open(&self, url: &str, start: u64) -> Result<Response<Body>> {
        let request = self.agent.get(url);
        self.ask(if start > 0 { request.header("range", format!("bytes={start}-")) } else { request })
    }

    fn ask(&self, request: ureq::RequestBuilder<ureq::typestate::WithoutBody>) -> Result<Response<Body>> {
        // A compressed answer would have another size and no ranges.
        let mut request = request.header("accept-encoding", "identity");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|e| {
            Failure::new(format_args!("cannot reach {}: {}", self.endpoint, reason(&e)))
                .cure("check the network; what is here already runs without it")
        })
    }

    /// Scheme and host of the endpoint.
    fn origin(&self) -> &str {
        let after_scheme = self.endpoint.find("://").map_or(0, |at| at + 3);
        let end = self.endpoint[after_scheme..].find('/').map_or(self.endpoint.len(), |at| after_scheme + at);
        &self.endpoint[..end]
    }

    /// A status that is no success, in words.
    pub fn check(&self, reply: &Response<Body>, repo: &RepoName, what: &str) -> Result<()> {
        let status = reply.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        let code = header(reply.headers(), "x-error-code").unwrap_or("");
        let have_token = self.token.is_some();
        Err(match (status.as_u16(), code) {
            (_, "GatedRepo") | (403, _) => Failure::new(format_args!(
                "{repo} is gated: its owner decides who may fetch it"
            ))
            .cure(format_args!(
                "ask on {}/{repo}, then set HF_TOKEN to a token of your account",
                self.endpoint
            )),
            (_, "RevisionNotFound" | "EntryNotFound") => Failure::new(format_args!("{repo} has no {what}"))
                .cure(format_args!("see {}/{repo}", self.endpoint)),
            (401, _) if have_token => {
                Failure::new(format_args!("the hub refuses the token, or {repo} does not exist"))
                    .cure("check HF_TOKEN and the spelling of OWNER/REPO")
            }
            (401 | 404, _) => {
                Failure::new(format_args!("the hub knows no model {repo} with {what}, or it is private"))
                    .cure("check the spelling of OWNER/REPO; for a private model set HF_TOKEN")
            }
            (429, _) => Failure::new("the hub says: too many requests")
                .cure("wait some minutes; the download goes on where it was"),
            _ => Failure::new(format_args!("{} answers {status}", self.endpoint))
                .cure("run the same command again later"),
        })
    }
}

/// A header's value, if it is text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn token() -> Option<String> {
    let clean = |text: String| Some(text.trim().to_owned()).filter(|t| !t.is_empty());
    if let Some(token) = env::var("HF_TOKEN").ok().and_then(clean) {
        return Some(token);
    }
    let path = env::var_os("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(cache::home()?.join("token")));
    fs::read_to_string(path?).ok().and_then(clean)
}

/// The HTTP client's error in plain words.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name is not known to this machine".into(),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        ureq::Error::Io(e) => plain(e),
        other => other.to_string(),
    }
}
