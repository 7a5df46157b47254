//! `cargo xtask author check`: is the course itself right?
//!
//! A test suite that accepts wrong answers teaches wrong things, so the tests are tested: on the
//! untouched stubs, on the reference, on stored wrong answers, and on mutants of the reference.

use crate::author_list;
use crate::author_rules;
use crate::author_solve;
use crate::cargo::{self, Built};
use crate::chapters::{Course, Selected, Task, test_and_reason};
use crate::check;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::grade;
use crate::json::Json;
use crate::libtest;
use crate::mutant_trials::{self, Fate, News, Outcome};
use crate::mutants;
use crate::process;
use crate::say;
use crate::scratch::Scratch;
use crate::setup;
use crate::stubs;
use crate::style::Style;
use crate::table::{Align, Cell, Table};
use crate::verdict::{Status, TaskReport};
use crate::workspace::{Solution, Workspace};

pub const PARTS: [&str; 7] = ["list", "rules", "stubs", "reference", "solve", "wrong", "mutants"];

#[derive(Debug, Clone)]
pub struct Options {
    pub selector: String,
    pub only: Option<String>,
    pub mutant: Option<String>,
    pub json: bool,
}

/// One part's outcome: what it looked at, and which of that was wrong.
#[derive(Debug, Default)]
pub struct Part {
    pub name: &'static str,
    pub n_passed: usize,
    pub problems: Vec<String>,
    /// The table that a reader may want to see, good rows too.
    pub rows: Vec<[String; 3]>,
}

impl Part {
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    pub fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if holds {
            self.n_passed += 1;
        } else {
            self.problems.push(problem());
        }
    }
}

pub fn run(workspace: &Workspace, course: &Course, options: &Options) -> Result<Verdict> {
    let parts = run_parts(workspace, course, options)?;
    if options.json {
        say!("{}", json(&parts));
    } else {
        for part in &parts {
            say!("{:<10} {} right, {} wrong", part.name, part.n_passed, part.problems.len());
        }
    }
    Ok(Verdict::from_passed(parts.iter().all(|part| part.problems.is_empty())))
}

/// Runs the wanted parts, and prints each as it ends unless JSON is wanted.
pub fn run_parts(workspace: &Workspace, course: &Course, options: &Options) -> Result<Vec<Part>> {
    setup::ensure(workspace)?;
    let selected = course.select(&options.selector)?;
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut parts = Vec::new();
    for name in PARTS.into_iter().filter(|name| wanted(name)) {
        if !options.json {
            say!("== {name}");
        }
        let part = match name {
            "list" => list(workspace, course)?,
            "rules" => rules(workspace, course)?,
            "stubs" => untouched_stubs(workspace, course, &selected)?,
            "reference" => reference(workspace, &selected)?,
            "solve" => author_solve::each_task_alone(workspace, course, &selected)?,
            "wrong" => wrong_answers(workspace)?,
            _ => all_mutants(workspace, course, &selected, options)?,
        };
        if !options.json {
            print(&part);
        }
        parts.push(part);
    }
    Ok(parts)
}

fn print(part: &Part) {
    if !part.rows.is_empty() {
        let columns = [("", Align::Left), ("", Align::Left), ("", Align::Left)];
        let mut table = Table::new(&columns);
        for row in &part.rows {
            table.row(row.iter().map(Cell::new).collect());
        }
        say!("{}", table.render(Style::for_stdout()).trim_start_matches('\n'));
    }
    for problem in &part.problems {
        say!("  WRONG {problem}");
    }
}

fn list(workspace: &Workspace, course: &Course) -> Result<Part> {
    let mut part = Part::new("list");
    part.problems = author_list::problems(workspace, course)?;
    part.n_passed = course.tasks().count();
    Ok(part)
}

/// Every rule that a day states has a test.
fn rules(workspace: &Workspace, course: &Course) -> Result<Part> {
    let mut part = Part::new("rules");
    (part.n_passed, part.problems) = author_rules::check(workspace, course)?;
    Ok(part)
}

/// Nothing passes before anything is written, and what fails says "not started".
fn untouched_stubs(workspace: &Workspace, course: &Course, selected: &Selected<'_>) -> Result<Part> {
    let mut part = Part::new("stubs");
    let scratch = Scratch::create(workspace)?;
    scratch.put(workspace, &stubs::generate(workspace, course)?)?;
    for (task, report) in grade_all(workspace, &scratch, selected)? {
        let begun = !matches!(report.status, Status::NotStarted | Status::Needs(_));
        part.expect(!begun, || {
            let why = report.telling_test().map_or("", |test| &test.diagnosis);
            format!("{}: the untouched stub is \"{}\": {why}", task.id, report.status.label())
        });
        let declared =
            |name: &str| task.passes_untouched.iter().filter_map(|d| test_and_reason(d)).any(|(test, _)| test == name);
        for test in report.tests.iter().filter(|t| t.status == Status::Passed) {
            part.expect(declared(&test.name), || format!("{}: {} passes on the untouched stub", task.id, test.name));
        }
    }
    Ok(part)
}

fn grade_all<'a>(
    workspace: &Workspace,
    scratch: &Scratch,
    selected: &Selected<'a>,
) -> Result<Vec<(&'a Task, TaskReport)>> {
    let tests: Vec<&str> = selected.iter().map(|(chapter, _)| chapter.test.as_str()).collect();
    let binaries = match scratch.build_tests(&tests)? {
        Built::Binaries(binaries) => binaries,
        Built::Errors(errors) => {
            let first = errors.first().map(|e| e.rendered.clone()).unwrap_or_default();
            return Err(Error::new(format!("the stubs do not compile: {first}")));
        }
    };
    let folder = workspace.target().join("xtask");
    let reports = grade::grade_tasks(&binaries, selected, None, &folder, &|_| ())?;
    let tasks = selected.iter().flat_map(|(_, tasks)| tasks.iter().copied());
    Ok(tasks.zip(reports).collect())
}

/// The reference passes everything, and every test belongs to exactly one task.
fn reference(workspace: &Workspace, selected: &Selected<'_>) -> Result<Part> {
    let mut part = Part::new("reference");
    let options = check::Options { selector: None, solutions: Vec::new(), json: true, time_limit: None };
    let graded = check::grade(workspace, selected, Solution::Reference, &options, Style::plain())?;
    if let Some(error) = graded.compile_errors.first() {
        return Err(Error::new(format!("the reference does not compile: {}", error.rendered)));
    }
    for report in &graded.tasks {
        part.expect(report.passed(), || {
            let why = report.telling_test().map_or(String::new(), |t| format!("{}: {}", t.name, t.diagnosis));
            format!("{}: {} in the reference: {why}", report.id, report.status.label())
        });
        let headroom = report.headroom.map_or(String::new(), |h| format!("{:.0} % headroom", h * 100.0));
        part.rows.push([report.id.clone(), report.status.label(), headroom]);
    }

    let tests: Vec<&str> = selected.iter().map(|(chapter, _)| chapter.test.as_str()).collect();
    let package = Solution::Reference.tests_package();
    let built =
        cargo::build_tests(cargo::command(workspace.root()), package, &tests, Style::plain(), cargo::Progress::Hidden)?;
    let Built::Binaries(binaries) = built else { return Ok(part) };
    for (chapter, _) in selected {
        let Some(binary) = binaries.iter().find(|b| b.name == chapter.test) else { continue };
        let mut list = std::process::Command::new(&binary.path);
        let listing = process::output(list.current_dir(&binary.package).args(["--list", "--format", "terse"]))?;
        for name in listing.stdout.lines().filter_map(|line| line.strip_suffix(": test")) {
            let owners = chapter.tasks.iter().filter(|task| task.owns_test(name)).count();
            part.expect(owners == 1, || format!("{}: the test {name} belongs to {owners} tasks", chapter.id));
        }
    }
    Ok(part)
}

/// Every stored wrong answer is rejected with its own sentence: the grader's own test does it.
fn wrong_answers(workspace: &Workspace) -> Result<Part> {
    let mut part = Part::new("wrong");
    let mut command = cargo::command(workspace.root());
    // The second package has no such test; it makes the features those of `check` (see `cargo::build_library`).
    command.args(["test", "--package", "grader", "--package", "tests-student", "--test", "wrong_variants"]);
    command.args(["--", "--nocapture"]);
    let finished = process::output(&mut command)?;
    let Some((n_passed, _)) = finished.stdout.lines().find_map(libtest::totals) else {
        return Err(Error::new(format!("the grader's test could not run: {}", finished.stderr.trim())));
    };
    for line in finished.stdout.lines() {
        let marked = |mark: &'static str| line.strip_prefix(mark).map(|rest| (mark.trim(), rest));
        let Some((mark, rest)) = marked("ok  ").or_else(|| marked("BAD ")) else { continue };
        let mut words = rest.trim().splitn(2, "  ");
        let case = words.next().unwrap_or_default().trim().to_owned();
        let outcome = words.next().unwrap_or_default().trim().to_owned();
        part.rows.push([case.clone(), outcome.clone(), mark.to_owned()]);
        part.expect(mark == "ok", || format!("{case}: {outcome}"));
    }
    part.expect(finished.succeeded() && n_passed > 0, || "the grader's test wrong_variants fails".to_owned());
    Ok(part)
}

fn all_mutants(workspace: &Workspace, course: &Course, selected: &Selected<'_>, options: &Options) -> Result<Part> {
    let mut part = Part::new("mutants");
    let chosen = |id: &String| selected.iter().any(|(_, tasks)| tasks.iter().any(|task| task.id == *id));
    let mut list = mutants::load(workspace)?;
    list.retain(|mutant| mutant.kills.iter().any(chosen));
    if let Some(wanted) = &options.mutant {
        list.retain(|mutant| mutant.id.contains(wanted.as_str()));
        if list.is_empty() {
            return Err(Error::new(format!("no mutant's id contains `{wanted}`")));
        }
    }
    let scratch = Scratch::create(workspace)?;
    let n_mutants = list.len();
    let mut n_done = 0;
    let trials = mutant_trials::run(workspace, course, &scratch, &list, &mut |news| match news {
        _ if options.json => {}
        News::Tried(outcome) => {
            n_done += 1;
            say!("  {n_done:>3}/{n_mutants} {}", line(outcome));
        }
        News::Build { n_mutants, building, n_tasks, testing } => say!(
            "  one build with {n_mutants} of the mutants in {:.1} s, tests of {n_tasks} tasks with none active in {:.1} s",
            building.as_secs_f64(),
            testing.as_secs_f64()
        ),
    })?;
    for report in &trials.none_active {
        part.expect(report.passed(), || {
            let why = report.telling_test().map_or(String::new(), |t| format!("{}: {}", t.name, t.diagnosis));
            format!("{}: {} in the mutants' build with none of them active: {why}", report.id, report.status.label())
        });
    }
    for outcome in &trials.outcomes {
        let mutant = &outcome.mutant;
        part.expect(matches!(outcome.fate, Fate::Killed(_)), || {
            format!("mutant {} ({}): {}", mutant.id, mutant.description, reason(&outcome.fate))
        });
    }
    if options.json {
        part.rows.extend(
            trials
                .outcomes
                .iter()
                .map(|outcome| [outcome.mutant.id.clone(), outcome.mutant.description.clone(), reason(&outcome.fate)]),
        );
    }
    Ok(part)
}

fn line(outcome: &Outcome) -> String {
    let word = match &outcome.fate {
        Fate::Killed(_) => "killed",
        Fate::Survived(_) => "SURVIVED",
        Fate::Invalid(_) => "INVALID",
    };
    let (elapsed, id) = (outcome.elapsed.as_secs_f64(), &outcome.mutant.id);
    format!("{word:<8} {elapsed:5.1} s  {id:<38} {}", reason(&outcome.fate))
}

fn reason(fate: &Fate) -> String {
    match fate {
        Fate::Killed(how) => how.clone(),
        Fate::Survived(task) => format!("the tests of {task} accept it"),
        Fate::Invalid(why) => why.clone(),
    }
}

fn json(parts: &[Part]) -> Json {
    let parts = parts.iter().map(|part| {
        let rows = part.rows.iter().map(|row| Json::List(row.iter().map(Json::text).collect()));
        Json::Object(vec![
            ("part", Json::text(part.name)),
            ("n_right", Json::Number(part.n_passed as f64)),
            ("wrong", Json::List(part.problems.iter().map(Json::text).collect())),
            ("rows", Json::List(rows.collect())),
        ])
    });
    Json::Object(vec![("parts", Json::List(parts.collect()))])
}
