//! Mistakes put into the reference on purpose: the tests must notice each of them.
//!
//! `tests/mutants/*.toml` lists them. Each is one replacement of a text that occurs exactly once. `mutant_trials` tries
//! them.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::workspace::{Workspace, files_below, read_text};

#[derive(Debug, Clone)]
pub struct Mutant {
    pub id: String,
    /// Below `reference/`.
    pub file: PathBuf,
    pub find: String,
    pub replace: String,
    pub description: String,
    /// The tasks whose tests must fail, each of them.
    pub kills: Vec<String>,
}

/// All mutants of all lists, in the order of the files.
pub fn load(workspace: &Workspace) -> Result<Vec<Mutant>> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for path in files_below(&workspace.root().join("tests/mutants"))? {
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let named = |e: Error| Error::new(format!("{}: {e}", workspace.display(&path)));
        mutants.extend(parse(&read_text(&path)?).map_err(named)?);
    }
    for (index, mutant) in mutants.iter().enumerate() {
        if mutants[..index].iter().any(|earlier| earlier.id == mutant.id) {
            return Err(Error::new(format!("two mutants are called {}", mutant.id)));
        }
    }
    Ok(mutants)
}

fn parse(text: &str) -> Result<Vec<Mutant>> {
    let document = DeTable::parse(text).map_err(|e| Error::new(e.to_string().trim().to_owned()))?;
    let Some(DeValue::Array(list)) = document.get_ref().get("mutant").map(toml::Spanned::get_ref) else {
        return Ok(Vec::new());
    };
    list.iter().map(|item| mutant(item.get_ref())).collect()
}

fn mutant(value: &DeValue<'_>) -> Result<Mutant> {
    let text = |key: &str| value.get(key).and_then(|v| v.get_ref().as_str()).map(str::to_owned);
    let id = text("id").ok_or_else(|| Error::new("a mutant without an `id`"))?;
    let required = |key: &str| text(key).ok_or_else(|| Error::new(format!("mutant {id}: `{key}` is missing")));
    let kills: Vec<String> = value
        .get("kills")
        .and_then(|v| v.get_ref().as_array())
        .map(|tasks| tasks.iter().filter_map(|t| t.get_ref().as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    if kills.is_empty() {
        return Err(Error::new(format!("mutant {id}: `kills` names no task")));
    }
    Ok(Mutant {
        file: PathBuf::from(required("file")?),
        find: required("find")?,
        replace: required("replace")?,
        description: required("description")?,
        kills,
        id,
    })
}

impl Mutant {
    /// `source` with the mistake in it.
    pub fn apply(&self, source: &str) -> Result<String> {
        match source.matches(&self.find).count() {
            1 => Ok(source.replacen(&self.find, &self.replace, 1)),
            n => Err(Error::new(format!("its text occurs {n} times in {}", self.file.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[[mutant]]\nid = \"no-max\"\nfile = \"src/a.rs\"\nfind = \"x - m\"\nreplace = \"x\"\n\
        description = \"the maximum is not subtracted\"\nkills = [\"1.1.1\"]\n";

    #[test]
    fn a_mutant_replaces_a_text_that_occurs_once() {
        let mutant = &parse(LIST).unwrap()[0];
        assert_eq!(mutant.apply("exp(x - m)").unwrap(), "exp(x)");
        let message = mutant.apply("x - m, x - m").unwrap_err().to_string();
        assert_eq!(message, "its text occurs 2 times in src/a.rs");
        assert!(mutant.apply("nothing").is_err());
    }

    #[test]
    fn an_incomplete_mutant_is_named() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(message(&LIST.replace("find =", "fnd =")), "mutant no-max: `find` is missing");
        assert_eq!(message(&LIST.replace("[\"1.1.1\"]", "[]")), "mutant no-max: `kills` names no task");
        assert!(parse("").unwrap().is_empty());
    }
}
