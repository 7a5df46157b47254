//! Mistakes put into the reference on purpose: the tests must notice each of them.
//!
//! `tests/mutants/*.toml` lists them. Each is one replacement of a text that occurs exactly once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use toml::de::{DeTable, DeValue};

use crate::cargo::Built;
use crate::chapters::{Chapter, Course, Task};
use crate::error::{Error, Result};
use crate::grade::{self, DEFAULT_TIME_LIMIT};
use crate::scratch::Scratch;
use crate::stubs::StubFile;
use crate::verdict::Status;
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Rejected by every task that it names; with the cause or status that the first one gave.
    Killed(String),
    /// The named task accepts it.
    Survived(String),
    /// An author's mistake: the text is not there once, or the result does not compile.
    Invalid(String),
}

#[derive(Debug)]
pub struct Outcome {
    pub mutant: Mutant,
    pub fate: Fate,
    pub elapsed: Duration,
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

/// Tries every mutant; `report` sees each outcome as it comes.
pub fn run(
    workspace: &Workspace,
    course: &Course,
    scratch: &Scratch,
    mutants: &[Mutant],
    report: &mut dyn FnMut(&Outcome),
) -> Result<Vec<Outcome>> {
    let reference = reference_as_learner(workspace)?;
    scratch.put(workspace, &reference)?;
    let mut outcomes = Vec::new();
    for mutant in mutants {
        let start = Instant::now();
        let fate = try_mutant(workspace, course, scratch, &reference, mutant)?;
        if let Some(original) = reference.iter().find(|file| file.path == mutant.file) {
            scratch.put_file(&original.path, &original.text)?;
        }
        let outcome = Outcome { mutant: mutant.clone(), fate, elapsed: start.elapsed() };
        report(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn try_mutant(
    workspace: &Workspace,
    course: &Course,
    scratch: &Scratch,
    reference: &[StubFile],
    mutant: &Mutant,
) -> Result<Fate> {
    let Some(original) = reference.iter().find(|file| file.path == mutant.file) else {
        return Ok(Fate::Invalid(format!("reference/{} does not exist", mutant.file.display())));
    };
    let mutated = match mutant.apply(&original.text) {
        Ok(mutated) => mutated,
        Err(error) => return Ok(Fate::Invalid(error.to_string())),
    };
    let mut tasks: Vec<(&Chapter, &Task)> = Vec::new();
    for id in &mutant.kills {
        match course.task(id) {
            Some(found) => tasks.push(found),
            None => return Ok(Fate::Invalid(format!("there is no task {id}"))),
        }
    }
    scratch.put_file(&mutant.file, &mutated)?;

    let mut tests: Vec<&str> = tasks.iter().map(|(chapter, _)| chapter.test.as_str()).collect();
    tests.dedup();
    let binaries = match scratch.build_tests(&tests)? {
        Built::Binaries(binaries) => binaries,
        Built::Errors(errors) => {
            let first = errors.first().map(|e| e.rendered.clone()).unwrap_or_default();
            return Ok(Fate::Invalid(format!("it does not compile: {first}")));
        }
    };
    let folder = workspace.target().join("xtask");
    let mut how = String::new();
    for (chapter, task) in tasks {
        let Some(binary) = binaries.iter().find(|binary| binary.name == chapter.test) else {
            return Ok(Fate::Invalid(format!("no test binary is called {}", chapter.test)));
        };
        let limit = chapter.time_limit.unwrap_or(DEFAULT_TIME_LIMIT);
        let graded = grade::grade_task(binary, task, limit, &folder)?;
        if matches!(graded.status, Status::Passed | Status::NoTests) {
            return Ok(Fate::Survived(task.id.clone()));
        }
        if how.is_empty() {
            how = graded.cause.unwrap_or_else(|| graded.status.label());
        }
    }
    Ok(Fate::Killed(how))
}

/// The reference's files under the learner's name.
pub fn reference_as_learner(workspace: &Workspace) -> Result<Vec<StubFile>> {
    let reference = workspace.reference();
    let manifest = crate::stubs::manifest(&read_text(&reference.join("Cargo.toml"))?)?;
    let mut files = vec![StubFile { path: PathBuf::from("Cargo.toml"), text: manifest }];
    for path in files_below(&reference.join("src"))? {
        let relative: &Path = path.strip_prefix(&reference).unwrap_or(&path);
        files.push(StubFile { path: relative.to_owned(), text: read_text(&path)? });
    }
    Ok(files)
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
