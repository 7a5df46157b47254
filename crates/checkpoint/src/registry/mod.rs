//! From the name that a user types to files on this machine.

mod built_in;
#[cfg(feature = "hub")]
mod hub;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folder or file of a model, downloaded first if need be.
///
/// A name is, in this order: a built-in model (`smollm2-135m`); a path to a folder or a `.gguf` file; a hub id
/// `owner/model`, if this crate was built with the feature `hub`.
///
/// # Errors
/// If the name is none of these, with a list of what is possible; or if a download fails, with the reason.
pub fn resolve(name: &str) -> Result<PathBuf> {
    if let Some(model) = built_in::find(name) {
        return built_in::resolve(model);
    }
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if is_hub_id(name) {
        return from_hub(name);
    }
    Err(unknown(name, "there is no such built-in model, folder or file"))
}

/// The names that need no path and no account.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    built_in::MODELS.iter().map(|model| model.name)
}

/// `owner/model` in the characters that the hub allows; anything else with a slash is a path that does not exist.
fn is_hub_id(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    name.split_once('/').is_some_and(|(owner, model)| is_part(owner) && is_part(model)) && !name.ends_with(".gguf")
}

#[cfg(feature = "hub")]
fn from_hub(name: &str) -> Result<PathBuf> {
    hub::resolve(name)
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str) -> Result<PathBuf> {
    Err(unknown(name, "there is no such folder, and this build cannot download from the hub (feature `hub` is off)"))
}

fn unknown(name: &str, problem: &str) -> Error {
    let names: Vec<_> = built_in_names().map(|name| format!("`{name}`")).collect();
    let problem = format!(
        "{problem}; give a built-in name ({}), a folder with config.json and safetensors, a .gguf file, or a hub id such as `Qwen/Qwen2.5-0.5B-Instruct`",
        names.join(", ")
    );
    Error::UnknownModel { name: name.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::is_hub_id;

    #[test]
    fn hub_ids_are_told_from_paths() {
        for id in ["Qwen/Qwen2.5-0.5B-Instruct", "mlx-community/Qwen2-7B-Instruct-4bit", "a/b_c"] {
            assert!(is_hub_id(id), "{id}");
        }
        for path in ["", "/", "a", "a/", "/a", "./a", "../a", "a/b/c", "a/b.gguf", "a/-b", "a b/c", "~/models", "a\\b"]
        {
            assert!(!is_hub_id(path), "{path}");
        }
    }
}
