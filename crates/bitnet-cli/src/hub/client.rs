//! Questions to the hub: what files a model has, and where and how large one of them is.

use std::{env, io::Read, path::PathBuf, time::Duration};

use serde::Deserialize;
use ureq::{
    Agent, Body,
    config::RedirectAuthHeaders,
    http::{HeaderMap, Response, Uri},
};

use super::{
    cache,
    names::{RepoName, safe, safe_path},
};
use crate::{
    failure::{Failure, Result, plain},
    files,
};

/// A connection that takes longer is not going to be made.
const CONNECT: Duration = Duration::from_secs(20);
/// A connection that is silent for longer is dead; downloads go on over a new one.
const SILENCE: Duration = Duration::from_secs(60);
/// The reply that lists a model's files is small; more than this is not that reply.
const MOST_LISTING: u64 = 32 << 20;
/// Redirects in a row that are followed: from a mirror to the hub, from an old name to a new one, to where a file is stored.
const REDIRECTS: usize = 6;
/// The most bytes of a token's file, which is one line.
const MOST_TOKEN: u64 = 1 << 12;

/// An HTTP request that sends no body.
type Request = ureq::RequestBuilder<ureq::typestate::WithoutBody>;

/// A hub, by default the public one.
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    agent: Agent,
}

/// The files of a repository at one commit.
#[derive(Debug)]
pub struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// A file as the hub lists it.
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
            // Redirects are followed here, one by one; nothing is carried along.
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("bitnet-rust/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { endpoint, token: token(), agent: config.into() })
    }

    /// The hub's address, for messages.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The files of `repo` at `revision`.
    pub fn list(&self, repo: &RepoName, revision: &str) -> Result<Listing> {
        if !safe_path(revision) {
            return Err(Failure::usage(format_args!("'{revision}' is not a branch, a tag or a commit")));
        }
        let url = format!("{}/api/models/{repo}/revision/{}", self.endpoint, revision.replace('/', "%2F"));
        let mut reply = self.open(&url, 0)?;
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
        // The entity tag stands on the hub's own answer, which redirects large files to where they are stored; a mirror and a
        // model that was renamed redirect without one.
        let tagged = |reply: &Response<Body>| {
            let headers = reply.headers();
            let stays =
                header(headers, "location").is_some_and(|to| to.starts_with('/') && !to.starts_with("//"));
            !stays && (headers.contains_key("x-linked-etag") || headers.contains_key("etag"))
        };
        let reply = self.follow(&url, |url| self.agent.head(url), tagged)?;
        self.check(&reply, repo, &format!("file '{name}'"))?;
        self.described(reply.headers(), commit, name, url)
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
        let request = |url: &str| match start {
            0 => self.agent.get(url),
            start => self.agent.get(url).header("range", format!("bytes={start}-")),
        };
        self.follow(url, request, |_| false)
    }

    /// Asks `url`, and whatever it redirects to until `enough` says so of an answer. The token goes to the hub alone: to
    /// the scheme, the host and the port of the endpoint.
    fn follow(
        &self,
        url: &str,
        request: impl Fn(&str) -> Request,
        enough: impl Fn(&Response<Body>) -> bool,
    ) -> Result<Response<Body>> {
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let request = request(&at).config().max_redirects(0).max_redirects_will_error(false).build();
            let reply = self.ask(request, &at)?;
            let to = header(reply.headers(), "location").filter(|_| reply.status().is_redirection());
            match to {
                Some(to) if !enough(&reply) => at = join(&at, to),
                _ => return Ok(reply),
            }
        }
        Err(Failure::new(format_args!("{} redirects {url} in circles", self.endpoint)))
    }

    fn ask(&self, request: Request, url: &str) -> Result<Response<Body>> {
        // A compressed answer would have another size and no ranges.
        let mut request = request.header("accept-encoding", "identity");
        let ours = origin(&self.endpoint);
        if let Some(token) = self.token.as_ref().filter(|_| ours.is_some() && origin(url) == ours) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|e| {
            let place = origin(url).map_or(self.endpoint.clone(), |(scheme, host, port)| match port {
                80 | 443 => format!("{scheme}://{host}"),
                port => format!("{scheme}://{host}:{port}"),
            });
            Failure::new(format_args!("cannot reach {place}: {}", reason(&e)))
                .cure("check the network; what is here already runs without it")
        })
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
    String::from_utf8(files::cached(&path?, MOST_TOKEN).ok()??).ok().and_then(clean)
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().or(match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })?;
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// Where `to`, as a redirect at `base` says it, leads (RFC 3986, section 5.2, without dot segments: servers see to those).
fn join(base: &str, to: &str) -> String {
    let scheme = base.find("://").map_or(0, |at| at + 1);
    let host = scheme + 2;
    let path =
        base.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(base.len(), |at| host + at);
    let query = base[path..].find(['?', '#']).map_or(base.len(), |at| path + at);
    let has_scheme = to.split_once(':').is_some_and(|(word, _)| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    match to {
        to if has_scheme => to.to_owned(),
        to if to.starts_with("//") => format!("{}{to}", &base[..scheme]),
        to if to.starts_with('/') => format!("{}{to}", &base[..path]),
        to if to.starts_with('?') => format!("{}{to}", &base[..query]),
        to => {
            let folder = base[path..query].rfind('/').map_or(path, |at| path + at);
            format!("{}/{to}", &base[..folder])
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let base = "https://hub.example:8443/a/b/c?x=1/2#y";
        for (to, expected) in [
            ("https://else.example/z", "https://else.example/z"),
            ("//else.example/z", "https://else.example/z"),
            ("/z?etag=%22q%22", "https://hub.example:8443/z?etag=%22q%22"),
            ("?x=2", "https://hub.example:8443/a/b/c?x=2"),
            ("z/y", "https://hub.example:8443/a/b/z/y"),
            ("z?u=http://q/", "https://hub.example:8443/a/b/z?u=http://q/"),
        ] {
            assert_eq!(join(base, to), expected, "{to}");
        }
        assert_eq!(join("http://h", "z"), "http://h/z");
        assert_eq!(join("http://h?q", "/z"), "http://h/z");
    }

    #[test]
    fn the_token_has_one_home() {
        let home = origin("https://Hub.example").unwrap();
        for same in ["https://hub.example/a?b", "HTTPS://hub.EXAMPLE:443/x"] {
            assert_eq!(origin(same), Some(home.clone()), "{same}");
        }
        for other in [
            "http://hub.example/",
            "https://hub.example:8443/",
            "https://hub.example.evil/",
            "https://hub.example@evil.example/",
            "https://hub.example:443@evil.example/",
        ] {
            assert_ne!(origin(other), Some(home.clone()), "{other}");
        }
    }
}
