//! Models by hub id, through the `hf-hub` crate.
//!
//! The token, the endpoint and the cache folder come from where every Hugging Face tool takes them (`HF_TOKEN` or the token
//! file, `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`), so that models are shared with other tools and downloaded once. Files that
//! are complete in the cache are not fetched again after an interruption.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFClientSync, HFError, split_id};

use crate::error::{Error, Result};

/// All that [`crate::Checkpoint::open`] reads.
const WANTED: &[&str] = &["*.json", "*.safetensors", "*.jinja"];
/// Copies of the weights in other formats lie in subfolders. In these patterns `*` also matches a slash.
const UNWANTED: &[&str] = &["*/*"];

/// The folder of the model's newest revision. With `HF_HUB_OFFLINE`, or where the hub does not answer (no network, too many
/// requests, a fault of its own), the one in the cache.
pub(super) fn resolve(name: &str) -> Result<PathBuf> {
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value));
    let client = HFClientSync::new().map_err(|error| fault(name, &error))?;
    if offline {
        return snapshot(&client, name, true).map_err(|error| fault(name, &error));
    }
    match snapshot(&client, name, false) {
        Err(error) if has_no_answer(&error) => snapshot(&client, name, true).map_err(|_| fault(name, &error)),
        result => result.map_err(|error| fault(name, &error)),
    }
}

/// Whether the error says nothing about the model: another time the hub would answer.
fn has_no_answer(error: &HFError) -> bool {
    match error {
        HFError::Request { .. } | HFError::RateLimited { .. } => true,
        HFError::Http { context } => context.status.is_server_error() || context.status.as_u16() == 429,
        _ => false,
    }
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}

fn snapshot(client: &HFClientSync, name: &str, local_files_only: bool) -> Result<PathBuf, HFError> {
    let (owner, model) = split_id(name);
    let patterns = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    client
        .model(owner, model)
        .snapshot_download()
        .allow_patterns(patterns(WANTED))
        .ignore_patterns(patterns(UNWANTED))
        .local_files_only(local_files_only)
        .progress(ProgressLine::new(name))
        .send()
}

/// One line that says what happened and what to do about it.
fn fault(name: &str, error: &HFError) -> Error {
    let problem = match error {
        HFError::Request { .. } => {
            "the hub cannot be reached, and the model is not in the cache; check the network, or use `smollm2-135m`"
                .to_owned()
        }
        HFError::LocalEntryNotFound { .. } => {
            "the model is not in the cache, and HF_HUB_OFFLINE forbids downloading it".to_owned()
        }
        HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
            "there is no such model on the hub, or it is private and the token (HF_TOKEN) may not see it".to_owned()
        }
        // The hub says the same of a model that is not there, so as not to tell which private ones are.
        HFError::AuthRequired { .. } => {
            "the hub asks for a login: either there is no such model (check the spelling), or it is private or under a licence that has to be accepted on its page; then set HF_TOKEN"
                .to_owned()
        }
        HFError::Forbidden { .. } => {
            "the hub refuses access; accept the model's licence on its page and set HF_TOKEN".to_owned()
        }
        HFError::RateLimited { .. } => {
            "the hub answers too many requests, and the model is not in the cache; wait a while, or set HF_TOKEN"
                .to_owned()
        }
        HFError::Http { context } if context.status.is_server_error() => format!(
            "the hub has a fault of its own (HTTP status {}), and the model is not in the cache; try again later",
            context.status.as_u16()
        ),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    Error::Download { name: name.to_owned(), problem }
}

/// Shows the downloaded part on standard error: in place on a terminal, a line every ten percent elsewhere.
struct ProgressLine {
    name: String,
    state: Mutex<ProgressState>,
}

#[derive(Default)]
struct ProgressState {
    total: u64,
    /// Bytes by file, from events that speak of single files.
    by_file: HashMap<String, u64>,
    /// Bytes from events that speak of all files at once.
    together: u64,
    shown_percent: Option<u64>,
}

impl ProgressLine {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), state: Mutex::default() }
    }
}

impl ProgressHandler for ProgressLine {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            DownloadEvent::Start { total_bytes, .. } => state.total = *total_bytes,
            DownloadEvent::Progress { files } => {
                state.by_file.extend(files.iter().map(|file| (file.filename.clone(), file.bytes_completed)));
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => state.together = *bytes_completed,
            DownloadEvent::Complete => {}
        }
        if state.total == 0 {
            return;
        }
        let done = state.by_file.values().sum::<u64>().max(state.together).min(state.total);
        let in_place = std::io::stderr().is_terminal();
        let step = if in_place { 1 } else { 10 };
        let percent = done * 100 / state.total / step * step;
        if state.shown_percent.replace(percent) != Some(percent) {
            let (start, end) = if in_place && percent < 100 {
                ("\r", "")
            } else if in_place {
                ("\r", "\n")
            } else {
                ("", "\n")
            };
            let line = format!("{start}downloading {}: {percent} % of {} MB{end}", self.name, state.total / 1_000_000);
            // A closed standard error must not end a download.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}
