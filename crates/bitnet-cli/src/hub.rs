//! The Hugging Face hub: names, the cache on disk that all its clients share, and downloads.
//!
//! Written on a plain HTTP client rather than on the hub's own crate. Version 1.0 of that builds for minutes, and
//! 0.4 gives a file its final name before anybody has looked at its checksum.
//! Sources: the documentation of `huggingface_hub` (cache layout, variables) and its `file_download.py` (headers).

mod cache;
mod client;
mod digest;
mod download;
mod kept;
mod names;
pub mod parts;

pub use cache::{Cache, CachedModel};
pub use client::{Hub, Listing, RemoteFile};
pub use digest::sha256;
pub use download::download;
pub use kept::Kept;
pub use names::{RepoName, safe_path};
