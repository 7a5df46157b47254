//! Tries mutants: first those that fit into one build and those in the texts of kernels, which that build holds, two or
//! more at a time; then the others, each in a build of its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cargo::{Binary, Built, CompileError};
use crate::chapters::{Chapter, Course, Task};
use crate::error::{Error, Result};
use crate::grade::{self, DEFAULT_TIME_LIMIT};
use crate::mutants::Mutant;
use crate::parallel::in_parallel;
use crate::schemata::{self, NO_MUTANT, SWITCH};
use crate::scratch::Scratch;
use crate::stubs::StubFile;
use crate::text_mutants::{self, Texts};
use crate::verdict::{Status, TaskReport};
use crate::workspace::{Workspace, files_below, read_text};

/// So many copies of test binaries with mistakes in their texts lie on the disk at a time.
const COPIES: usize = 8;

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

impl Outcome {
    fn new(mutant: &Mutant, fate: Fate, elapsed: Duration) -> Self {
        Self { mutant: mutant.clone(), fate, elapsed }
    }
}

pub struct Trials {
    pub outcomes: Vec<Outcome>,
    /// How the build that holds many mutants did while none of them was active: each task must have passed.
    pub none_active: Vec<TaskReport>,
}

/// What is worth a line while it happens.
pub enum News<'a> {
    /// A build that holds so many mutants was made, and the tests of so many tasks ran on it with none of them active.
    Build {
        n_mutants: usize,
        building: Duration,
        n_tasks: usize,
        testing: Duration,
    },
    Tried(&'a Outcome),
}

/// A mutant that can be tried.
struct Trial<'a> {
    /// What the switch calls it.
    number: u32,
    mutant: &'a Mutant,
    tasks: Vec<(&'a Chapter, &'a Task)>,
}

/// Where a mutant's mistake stands, which decides what it needs.
enum Kind {
    /// In the body of a function: one build holds many.
    Body,
    /// In the text of a kernel: a copy of that build's binary.
    Text,
    /// Elsewhere: a build of its own.
    Other,
}

/// A build of the tests on the reference with many mutants in it.
#[derive(Default)]
struct Build {
    binaries: Vec<Binary>,
    /// What was built.
    files: Vec<StubFile>,
}

struct Laboratory<'a> {
    workspace: &'a Workspace,
    scratch: &'a Scratch,
    reference: Vec<StubFile>,
    /// For result streams.
    folder: PathBuf,
}

/// Tries every mutant; `tell` hears of each as it is done.
pub fn run(
    workspace: &Workspace,
    course: &Course,
    scratch: &Scratch,
    mutants: &[Mutant],
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Trials> {
    let reference = reference_as_learner(workspace)?;
    let laboratory = Laboratory { workspace, scratch, reference, folder: workspace.target().join("xtask") };
    let mut outcomes = Vec::new();

    let (mut together, mut texts, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for (number, mutant) in (NO_MUTANT + 1..).zip(mutants) {
        match laboratory.prepare(course, mutant) {
            Err(why) => {
                let outcome = Outcome::new(mutant, Fate::Invalid(why.to_string()), Duration::ZERO);
                outcomes.push(told(outcome, tell));
            }
            Ok((tasks, Kind::Body)) => together.push(Trial { number, mutant, tasks }),
            Ok((tasks, Kind::Text)) => texts.push(Trial { number, mutant, tasks }),
            Ok((tasks, Kind::Other)) => alone.push(Trial { number, mutant, tasks }),
        }
    }

    let start = Instant::now();
    let (build, unfit) = laboratory.build_together(&mut together, &texts)?;
    alone.extend(unfit);
    let building = start.elapsed();
    let none_active = laboratory.grade_with_none_active(&build.binaries, together.iter().chain(&texts))?;
    if !none_active.is_empty() {
        let (n_mutants, n_tasks) = (together.len() + texts.len(), none_active.len());
        tell(News::Build { n_mutants, building, n_tasks, testing: start.elapsed() - building });
    }
    let note = &mut |outcome| outcomes.push(told(outcome, tell));
    laboratory.try_together(&build.binaries, &together, note)?;
    laboratory.try_texts(&build, &texts, note)?;
    for trial in alone {
        let start = Instant::now();
        let fate = laboratory.try_alone(&trial)?;
        outcomes.push(told(Outcome::new(trial.mutant, fate, start.elapsed()), tell));
    }
    Ok(Trials { outcomes, none_active })
}

fn told(outcome: Outcome, tell: &mut dyn FnMut(News<'_>)) -> Outcome {
    tell(News::Tried(&outcome));
    outcome
}

impl Laboratory<'_> {
    /// The tasks that must notice a mutant, and what it needs to be tried.
    fn prepare<'a>(&self, course: &'a Course, mutant: &Mutant) -> Result<(Vec<(&'a Chapter, &'a Task)>, Kind)> {
        let source = &self.original(mutant)?.text;
        mutant.apply(source)?;
        let task = |id: &String| course.task(id).ok_or_else(|| Error::new(format!("there is no task {id}")));
        let tasks = mutant.kills.iter().map(task).collect::<Result<_>>()?;
        let kind = if text_mutants::fits(mutant) {
            Kind::Text
        } else if schemata::fits(mutant, source) {
            Kind::Body
        } else {
            Kind::Other
        };
        Ok((tasks, kind))
    }

    fn original(&self, mutant: &Mutant) -> Result<&StubFile> {
        let found = self.reference.iter().find(|file| file.path == mutant.file);
        found.ok_or_else(|| Error::new(format!("reference/{} does not exist", mutant.file.display())))
    }

    /// Builds the tests on a reference with all mutants in it, and room for `texts`. Those that do not compile are taken
    /// out of `trials` and returned beside the build.
    fn build_together<'a>(&self, trials: &mut Vec<Trial<'a>>, texts: &[Trial<'a>]) -> Result<(Build, Vec<Trial<'a>>)> {
        let mut reference = self.reference.clone();
        text_mutants::make_room(&mut reference, &texts.iter().map(|trial| trial.mutant).collect::<Vec<_>>());
        let mut unfit = Vec::new();
        while !(trials.is_empty() && texts.is_empty()) {
            let numbered: Vec<_> = trials.iter().map(|trial| (trial.number, trial.mutant)).collect();
            let combined = schemata::combine(&reference, &numbered);
            self.scratch.put(self.workspace, &combined.files)?;
            let errors = match self.scratch.build_tests(&test_targets(trials.iter().chain(texts)))? {
                Built::Binaries(binaries) => return Ok((Build { binaries, files: combined.files }, unfit)),
                Built::Errors(errors) => errors,
            };
            if trials.is_empty() {
                return Err(Error::new(format!("the reference does not compile: {}", first(&errors))));
            }
            // An error in no mutant's body comes from the whole: then each has to compile by itself.
            let blamed = combined.blamed(&errors);
            let is_blamed = |trial: &mut Trial<'_>| blamed.is_empty() || blamed.contains(&trial.number);
            unfit.extend(trials.extract_if(.., is_blamed));
        }
        Ok((Build::default(), unfit))
    }

    /// Shows that the mutants' build is the reference as long as no mutant is chosen.
    fn grade_with_none_active<'t, 'a: 't>(
        &self,
        binaries: &[Binary],
        trials: impl Iterator<Item = &'t Trial<'a>>,
    ) -> Result<Vec<TaskReport>> {
        let mut tasks: Vec<(&Chapter, &Task)> = trials.flat_map(|trial| trial.tasks.iter().copied()).collect();
        tasks.sort_by_key(|(_, task)| &task.id);
        tasks.dedup_by_key(|(_, task)| &task.id);
        let mut reports = Vec::new();
        in_parallel(&tasks, |(chapter, task)| self.grade(binaries, chapter, task, NO_MUTANT), &mut |_, report| {
            reports.push(report?);
            Ok(())
        })?;
        reports.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(reports)
    }

    fn try_together(&self, binaries: &[Binary], trials: &[Trial<'_>], note: &mut dyn FnMut(Outcome)) -> Result<()> {
        let attempt = |trial: &Trial<'_>| {
            let start = Instant::now();
            self.try_with(binaries, trial).map(|fate| (fate, start.elapsed()))
        };
        in_parallel(trials, attempt, &mut |trial, tried| {
            let (fate, elapsed) = tried?;
            note(Outcome::new(trial.mutant, fate, elapsed));
            Ok(())
        })
    }

    fn try_texts(&self, build: &Build, trials: &[Trial<'_>], note: &mut dyn FnMut(Outcome)) -> Result<()> {
        let mut texts: BTreeMap<&Path, Texts> = BTreeMap::new();
        for trials in trials.chunks(COPIES) {
            // All copies are written before a test starts: a process that starts meanwhile would inherit the open file,
            // and no system runs a program that is open for writing.
            let mut copies = Vec::new();
            for trial in trials {
                let mut binaries = Vec::new();
                for name in test_targets([trial]) {
                    let binary = named(&build.binaries, name)?;
                    let texts = match texts.entry(&binary.path) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert(Texts::of(&binary.path)?),
                    };
                    let built = build.files.iter().find(|file| file.path == trial.mutant.file);
                    let built = built.ok_or_else(|| Error::new(format!("no {}", trial.mutant.file.display())))?;
                    let path = self.folder.join(format!("{name}-{}", trial.number));
                    texts.copy_with(trial.mutant, &built.text, &path)?;
                    binaries.push(Binary { path, ..binary.clone() });
                }
                copies.push((trial, binaries));
            }
            let attempt = |(trial, binaries): &(&Trial<'_>, Vec<Binary>)| {
                let start = Instant::now();
                let fate = self.try_with(binaries, trial);
                // Nothing is lost if it stays: the next run writes over it.
                binaries.iter().for_each(|binary| drop(fs::remove_file(&binary.path)));
                fate.map(|fate| (fate, start.elapsed()))
            };
            in_parallel(&copies, attempt, &mut |(trial, _), tried| {
                let (fate, elapsed) = tried?;
                note(Outcome::new(trial.mutant, fate, elapsed));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn try_alone(&self, trial: &Trial<'_>) -> Result<Fate> {
        let mut files = self.reference.clone();
        if let Some(file) = files.iter_mut().find(|file| file.path == trial.mutant.file) {
            file.text = trial.mutant.apply(&file.text)?;
        }
        self.scratch.put(self.workspace, &files)?;
        match self.scratch.build_tests(&test_targets([trial]))? {
            Built::Binaries(binaries) => self.try_with(&binaries, trial),
            Built::Errors(errors) => Ok(Fate::Invalid(format!("it does not compile: {}", first(&errors)))),
        }
    }

    fn try_with(&self, binaries: &[Binary], trial: &Trial<'_>) -> Result<Fate> {
        let mut how = String::new();
        for (chapter, task) in &trial.tasks {
            let report = self.grade(binaries, chapter, task, trial.number)?;
            if matches!(report.status, Status::Passed | Status::NoTests) {
                return Ok(Fate::Survived(task.id.clone()));
            }
            if how.is_empty() {
                how = report.cause.unwrap_or_else(|| report.status.label());
            }
        }
        Ok(Fate::Killed(how))
    }

    fn grade(&self, binaries: &[Binary], chapter: &Chapter, task: &Task, number: u32) -> Result<TaskReport> {
        let binary = named(binaries, &chapter.test)?;
        let limit = chapter.time_limit.unwrap_or(DEFAULT_TIME_LIMIT);
        grade::grade_until_failure(binary, task, limit, &self.folder, &[(SWITCH, number.to_string())])
    }
}

fn named<'a>(binaries: &'a [Binary], name: &str) -> Result<&'a Binary> {
    let found = binaries.iter().find(|binary| binary.name == name);
    found.ok_or_else(|| Error::new(format!("cargo built no test binary called {name}")))
}

fn test_targets<'t, 'a: 't>(trials: impl IntoIterator<Item = &'t Trial<'a>>) -> Vec<&'a str> {
    let tasks = trials.into_iter().flat_map(|trial| &trial.tasks);
    let mut tests: Vec<&str> = tasks.map(|(chapter, _)| chapter.test.as_str()).collect();
    tests.sort_unstable();
    tests.dedup();
    tests
}

fn first(errors: &[CompileError]) -> &str {
    errors.first().map_or("", |error| &error.rendered)
}

/// The reference's files under the learner's name.
fn reference_as_learner(workspace: &Workspace) -> Result<Vec<StubFile>> {
    let reference = workspace.reference();
    let manifest = crate::stubs::manifest(&read_text(&reference.join("Cargo.toml"))?)?;
    let mut files = vec![StubFile { path: PathBuf::from("Cargo.toml"), text: manifest }];
    for path in files_below(&reference.join("src"))? {
        let relative: &Path = path.strip_prefix(&reference).unwrap_or(&path);
        files.push(StubFile { path: relative.to_owned(), text: read_text(&path)? });
    }
    Ok(files)
}
