//! `cargo xtask check`: build, run, judge, print, remember.

use std::time::Duration;

use crate::cargo::{self, Built, CompileError, Progress as BuildProgress};
use crate::chapters::{Course, Selected, Task};
use crate::check_report;
use crate::error::Result;
use crate::exit_code::Verdict;
use crate::grade;
use crate::pieces::{self, Piece};
use crate::progress::Progress;
use crate::rules;
use crate::say;
use crate::setup;
use crate::status_line::StatusLine;
use crate::style::Style;
use crate::verdict::{Status, TaskReport};
use crate::workspace::{Solution, Workspace};

#[derive(Debug, Clone)]
pub struct Options {
    /// `None`: the first day that is not finished.
    pub selector: Option<String>,
    pub solutions: Vec<Solution>,
    pub json: bool,
    /// Overrides every chapter's own limit.
    pub time_limit: Option<Duration>,
}

/// What one solution achieved in one check.
#[derive(Debug, Default)]
pub struct Graded {
    pub tasks: Vec<TaskReport>,
    pub compile_errors: Vec<CompileError>,
    /// A broken rule of the course, explained.
    pub rule_note: Option<String>,
}

impl Graded {
    pub fn report(&self, task: &str) -> Option<&TaskReport> {
        self.tasks.iter().find(|report| report.id == task)
    }

    fn passed(&self) -> bool {
        self.tasks.iter().all(TaskReport::passed)
    }

    fn not_run(selected: &Selected<'_>, status: &Status) -> Self {
        let tasks = selected.iter().flat_map(|(_, tasks)| tasks);
        let tasks = tasks.map(|t| TaskReport::not_run(&t.id, &t.title, status.clone())).collect();
        Self { tasks, ..Self::default() }
    }
}

pub fn run(workspace: &Workspace, course: &Course, options: &Options) -> Result<Verdict> {
    let selector = match &options.selector {
        Some(selector) => selector.clone(),
        None => default_selector(workspace, course),
    };
    let selected = course.select(&selector)?;
    setup::ensure(workspace)?;

    let style = if options.json { Style::plain() } else { Style::for_stdout() };
    let mut graded: Vec<(Solution, Graded)> = Vec::new();
    for solution in &options.solutions {
        graded.push((*solution, grade(workspace, &selected, *solution, options, style)?));
    }
    if let Some((_, student)) = graded.iter().find(|(solution, _)| *solution == Solution::Student) {
        Progress::record(workspace, &student.tasks)?;
    }

    if options.json {
        say!("{}", check_report::json(&selected, &graded));
    } else {
        check_report::print(workspace, course, &selected, &graded, style);
    }
    Ok(Verdict::from_passed(graded.iter().all(|(_, graded)| graded.passed())))
}

/// The first unfinished day; the whole course once it is finished.
fn default_selector(workspace: &Workspace, course: &Course) -> String {
    let progress = Progress::load(workspace);
    progress.current(course).map_or_else(|| "all".to_owned(), |chapter| chapter.id.clone())
}

/// Builds and runs the selected tasks' tests against one solution.
pub fn grade(
    workspace: &Workspace,
    selected: &Selected<'_>,
    solution: Solution,
    options: &Options,
    style: Style,
) -> Result<Graded> {
    if solution == Solution::Student {
        let forbidden = rules::forbidden_dependencies(workspace)?;
        if !forbidden.is_empty() {
            let mut graded = Graded::not_run(selected, &Status::NotGraded);
            graded.rule_note = Some(rules::dependency_note(&forbidden));
            return Ok(graded);
        }
    }
    let tests: Vec<&str> = selected.iter().map(|(chapter, _)| chapter.test.as_str()).collect();
    let progress = if options.json { BuildProgress::Hidden } else { BuildProgress::Shown };
    let package = solution.tests_package();
    let binaries = match cargo::build_tests(cargo::command(workspace.root()), package, &tests, style, progress)? {
        Built::Binaries(binaries) => binaries,
        Built::Errors(errors) => {
            let mut graded = Graded::not_run(selected, &Status::DoesNotCompile);
            graded.rule_note = rules::off_limits_note(&errors);
            graded.compile_errors = errors;
            return Ok(graded);
        }
    };

    let line = StatusLine::new(!options.json);
    let on_start = |task: &Task| line.show(&format!("testing {} {}", task.id, task.title));
    let scratch = workspace.target().join("xtask");
    let mut tasks = grade::grade_tasks(&binaries, selected, options.time_limit, &scratch, &on_start)?;
    if solution == Solution::Student {
        let asked = selected.iter().flat_map(|(_, tasks)| tasks);
        for (report, task) in tasks.iter_mut().zip(asked) {
            report_what_is_written(report, &pieces::of_task(workspace, task));
        }
    }
    Ok(Graded { tasks, ..Graded::default() })
}

/// What the tests alone cannot tell: a `todo!` may be the last of five, and another task's may hide this one's.
fn report_what_is_written(report: &mut TaskReport, pieces: &[Piece]) {
    let n_written = pieces.iter().filter(|piece| !piece.is_open).count();
    match &report.status {
        // Its tests met another task's `todo!` before its own; it is not begun all the same.
        Status::Needs(other) if n_written == 0 && !pieces.is_empty() => {
            report.cause = Some(format!("needs {other} first"));
            report.status = Status::NotStarted;
        }
        Status::NotStarted if (1..pieces.len()).contains(&n_written) => {
            report.status = Status::Begun(n_written, pieces.len());
        }
        _ => {}
    }
}
