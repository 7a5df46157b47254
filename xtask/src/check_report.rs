//! How a check's outcome is shown: a table per day, one of its kernels if the emulator ran some, then the first failing
//! task in full.

use std::time::Duration;

use crate::chapters::{Chapter, Course, Selected, Task};
use crate::check::Graded;
use crate::json::Json;
use crate::kernels;
use crate::next_step;
use crate::pieces::{self, Piece};
use crate::progress::Progress;
use crate::say;
use crate::style::{Colour, Style, indent};
use crate::table::{Align, Cell, Table};
use crate::test_names::Names;
use crate::verdict::{Status, TaskReport, TestReport};
use crate::workspace::{Solution, Workspace};

/// A learner's own prints are shown up to this many lines.
const MAX_PRINTED_LINES: usize = 20;
/// Of a task's functions, at most so many are listed.
const MAX_NAMES: usize = 4;
/// And of their places, where any may hold the mistake.
const MAX_PLACES: usize = 8;
/// Compile errors beyond these are counted only: the first ones usually cause the rest.
const MAX_COMPILE_ERRORS: usize = 5;

/// Where the book says what the columns of a table of kernels mean.
const COLUMNS: &str = "book/src/appendix/kernel-counts.md";

pub fn print(
    workspace: &Workspace,
    course: &Course,
    selected: &Selected<'_>,
    graded: &[(Solution, Graded)],
    style: Style,
) {
    for (chapter, tasks) in selected {
        let title = format!("{} {}", chapter.id, chapter.title);
        say!("{}", style.paint(Colour::Bold, &title));
        say!("{}", day_table(workspace, tasks, graded).render(style));
        if let Some(table) = kernel_table(tasks, graded) {
            say!("  counted in the emulator, of each kernel in its largest launch ({COLUMNS} explains)");
            say!("{}", table.render(style));
        }
    }
    let n_tasks: usize = selected.iter().map(|(_, tasks)| tasks.len()).sum();
    for (solution, graded) in graded {
        let n_passed = graded.tasks.iter().filter(|task| task.passed()).count();
        let who = match solution {
            Solution::Student => "your crate",
            Solution::Reference => "the reference",
        };
        let n_tests: usize = graded.tasks.iter().map(TaskReport::n_passed).sum();
        let tests = match (n_passed == n_tasks, n_tests) {
            (false, _) => String::new(),
            (true, 1) => " (1 test)".to_owned(),
            (true, n) => format!(" ({n} tests)"),
        };
        say!("{n_passed} of {n_tasks} tasks pass in {who}{tests}");
    }
    say!();
    for (solution, graded) in graded {
        if print_first_problem(workspace, course, selected, *solution, graded, style) {
            return;
        }
    }
    print_what_next(workspace, course, selected, graded);
}

fn day_table(workspace: &Workspace, tasks: &[&Task], graded: &[(Solution, Graded)]) -> Table {
    let mut columns = vec![("task", Align::Left), ("", Align::Left)];
    let is_alone = graded.len() == 1;
    for (solution, _) in graded {
        let status = if is_alone { "status" } else { solution.name() };
        columns.push((status, Align::Left));
        // Side by side there is no room for it.
        columns.extend(is_alone.then_some(("tests", Align::Right)));
        columns.extend([("headroom", Align::Right), ("time", Align::Right)]);
    }
    columns.push(("probable cause", Align::Left));
    let mut table = Table::new(&columns);
    for task in tasks {
        let mut row = vec![Cell::new(&task.id), Cell::new(&task.title)];
        let mut cause = String::new();
        for (_, graded) in graded {
            let Some(report) = graded.report(&task.id) else { continue };
            row.push(Cell::coloured(report.status.label(), colour_of(&report.status)));
            row.extend(is_alone.then(|| Cell::new(tests(report))));
            row.push(Cell::new(report.headroom.map_or(String::new(), percent)));
            row.push(Cell::new(report.elapsed.map_or(String::new(), seconds)));
            if cause.is_empty() {
                cause = tidy_paths(workspace, report.cause.as_deref().unwrap_or_default());
            }
        }
        row.push(Cell::new(cause));
        table.row(row);
    }
    table
}

/// By task, and in it by kernel, so that one kernel in two crates stands in neighbouring rows. `None` where no kernel ran in the emulator.
fn kernel_table(tasks: &[&Task], graded: &[(Solution, Graded)]) -> Option<Table> {
    let mut launches = Vec::new();
    for task in tasks {
        let from = launches.len();
        for (solution, graded) in graded {
            let kernels = graded.report(&task.id).map_or(&[][..], |report| report.kernels.as_slice());
            launches.extend(kernels.iter().map(|launch| (task.id.as_str(), solution.name(), launch)));
        }
        // A stable sort: the crates keep their order.
        launches[from..].sort_by_key(|(_, _, launch)| &launch.kernel);
    }
    kernels::table(&launches)
}

fn colour_of(status: &Status) -> Colour {
    match status {
        Status::Passed => Colour::Green,
        Status::NotStarted | Status::Begun(..) | Status::Needs(_) | Status::NotGraded => Colour::Yellow,
        _ => Colour::Red,
    }
}

/// `17`, or `12/17` where some don't pass.
fn tests(report: &TaskReport) -> String {
    match (report.n_passed(), report.tests.len()) {
        (_, 0) => String::new(),
        (passed, all) if passed == all => all.to_string(),
        (passed, all) => format!("{passed}/{all}"),
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Shows what stands in the way first; false if nothing does.
fn print_first_problem(
    workspace: &Workspace,
    course: &Course,
    selected: &Selected<'_>,
    solution: Solution,
    graded: &Graded,
    style: Style,
) -> bool {
    if let Some(note) = &graded.rule_note {
        say!("{}\n", style.paint(Colour::Yellow, note));
    }
    if !graded.compile_errors.is_empty() {
        print_compile_errors(graded, style);
        return true;
    }
    let all = || selected.iter().flat_map(|(chapter, tasks)| tasks.iter().map(move |t| (*chapter, *t)));
    // A task that waits for another one is not where to look; that other one is.
    let failing = |waiting: bool| {
        all().find_map(|(chapter, task)| {
            let report = graded.report(&task.id)?;
            let counts = !report.passed() && (waiting || !matches!(report.status, Status::Needs(_)));
            counts.then_some((chapter, task, report))
        })
    };
    let Some((chapter, task, report)) = failing(false).or_else(|| failing(true)) else { return false };
    if report.status == Status::NotGraded {
        return true;
    }
    print_task(workspace, course, (chapter, task), report, solution, style);
    true
}

fn print_task(
    workspace: &Workspace,
    course: &Course,
    (chapter, task): (&Chapter, &Task),
    report: &TaskReport,
    solution: Solution,
    style: Style,
) {
    let heading = format!("{} {}: {}", task.id, task.title, report.status.label());
    say!("{}", style.paint(Colour::Bold, &heading));
    let pieces = if solution == Solution::Student { pieces::of_task(workspace, task) } else { Vec::new() };
    match &report.status {
        Status::NotStarted => say!("\n  Nothing is written here yet, so red is what you should see."),
        Status::Begun(..) => print_begun(report, &pieces),
        Status::Needs(other) => {
            if comes_after(course, other, task) {
                say!(
                    "\n  Its tests reached the `todo!` of task {other}, which comes later: something takes that task's way.\n"
                );
                print_places(workspace, task, report, &pieces);
                say!("  again   cargo xtask check {}", task.id);
                return;
            }
            say!("\n  Its tests reached the `todo!` of task {other}: that one comes first.\n");
            if let Some((word, place)) = course.task(other).and_then(|(_, other)| next_step::place(workspace, other)) {
                say!("  {word:<7} {place}");
            }
            say!("  check   cargo xtask check {other}");
            return;
        }
        Status::NoTests => say!("\n  No test is called {}*: the course's own list is wrong.", task.tests),
        _ => print_diagnosis(workspace, task, report, style),
    }
    say!();
    if solution == Solution::Student {
        print_places(workspace, task, report, &pieces);
        say!("  again   cargo xtask check {}", task.id);
        say!("  read    {}", chapter.page_of(task));
        say!("  hint    cargo xtask hint {}", task.id);
    } else {
        say!("  again   cargo xtask check {} --solution reference", task.id);
    }
}

/// Whether `other` stands after `task` in the course.
fn comes_after(course: &Course, other: &str, task: &Task) -> bool {
    let place = |id: &str| course.tasks().position(|task| task.id == id);
    place(other).zip(place(&task.id)).is_some_and(|(other, own)| other > own)
}

fn print_begun(report: &TaskReport, pieces: &[Piece]) {
    let names = |is_open: bool| {
        let names: Vec<&str> = pieces.iter().filter(|p| p.is_open == is_open).map(|p| p.name.as_str()).collect();
        match names.len() {
            n if n > MAX_NAMES => format!("{} and {} more", names[..MAX_NAMES - 1].join(", "), n + 1 - MAX_NAMES),
            _ => names.join(", "),
        }
    };
    say!("\n  written: {}\n  open:    {}", names(false), names(true));
    let (n_passed, n_tests) = (report.n_passed(), report.tests.len());
    match n_passed {
        0 => say!("  Each of its {n_tests} tests needs what is still open."),
        _ => say!("  {n_passed} of {n_tests} tests pass; the others need what is still open."),
    }
}

/// Where to write, or where the code is that a failing test is about.
fn print_places(workspace: &Workspace, task: &Task, report: &TaskReport, pieces: &[Piece]) {
    let line = |word: &str, piece: &Piece| {
        let name = if pieces.len() > 1 { format!("   {}", piece.name) } else { String::new() };
        say!("  {word:<7} {}{name}", piece.place(workspace));
    };
    let next = pieces.iter().find(|piece| piece.is_open);
    if !matches!(report.status, Status::NotStarted | Status::Begun(..)) {
        let concerned = report.telling_test().and_then(|test| {
            let place = test.diagnosis.strip_prefix("panicked at ").and_then(|rest| rest.split(":\n").next());
            pieces::concerned(task, pieces, Names::new(task, &report.tests).function(&test.name), place)
        });
        match concerned {
            Some(piece) => line("code", piece),
            // Any of them may be the one: better all than a guess.
            None => pieces.iter().filter(|piece| !piece.is_open).take(MAX_PLACES).for_each(|piece| line("code", piece)),
        }
    }
    if let Some(piece) = next {
        line("write", piece);
    }
}

fn print_diagnosis(workspace: &Workspace, task: &Task, report: &TaskReport, style: Style) {
    let is_waiting = |test: &&TestReport| matches!(test.status, Status::NotStarted | Status::Needs(_));
    let n_waiting = report.tests.iter().filter(is_waiting).count();
    let waiting = match n_waiting {
        0 => String::new(),
        n => format!("; {n} wait for code that is not written yet"),
    };
    say!("  {} of {} tests that ran pass{waiting}", report.n_passed(), report.tests.len());
    let names = Names::new(task, &report.tests);
    for group in names.groups(&report.tests) {
        say!("    {group}");
    }
    let Some(test) = report.telling_test() else { return };
    say!("\n  {}\n", style.paint(Colour::Red, &names.readable(&test.name)));
    say!("{}", indent(tidy_paths(workspace, &test.diagnosis).trim_end(), "    "));
    if !test.printed.is_empty() {
        say!("\n  printed before that:");
        let printed = tidy_paths(workspace, &test.printed);
        let lines: Vec<&str> = printed.lines().collect();
        let hidden = lines.len().saturating_sub(MAX_PRINTED_LINES);
        if hidden > 0 {
            say!("    ({hidden} lines before these)");
        }
        say!("{}", indent(&lines[hidden..].join("\n"), "    "));
    }
}

/// Paths as a reader would type them: below the workspace, without `crates/grader/../..`.
fn tidy_paths(workspace: &Workspace, text: &str) -> String {
    let root = format!("{}/", workspace.root().display());
    let mut text = text.replace(&root, "");
    let mut from = 0;
    while let Some(index) = text[from..].find("/../").map(|index| from + index) {
        let is_path = |c: char| c.is_alphanumeric() || ['.', '_', '-'].contains(&c);
        let start = text[..index].trim_end_matches(is_path).len();
        if matches!(&text[start..index], "" | "." | "..") {
            from = index + 1;
        } else {
            text.replace_range(start..index + 4, "");
            from = 0;
        }
    }
    text
}

fn print_compile_errors(graded: &Graded, style: Style) {
    for error in graded.compile_errors.iter().take(MAX_COMPILE_ERRORS) {
        say!("{}\n", error.rendered);
    }
    let n_more = graded.compile_errors.len().saturating_sub(MAX_COMPILE_ERRORS);
    if n_more > 0 {
        say!("and {n_more} more; the first ones usually cause the rest.\n");
    }
    // The tests call the signatures of the stubs.
    let in_a_test = graded.compile_errors.iter().find(|error| error.target.starts_with("week"));
    if let Some(error) = in_a_test {
        let text = format!(
            "tests/chapters/{}.rs cannot call your crate: a name, an argument or a result type differs\n\
             from the stub's. `git diff crates/tiny-llm` shows what changed.",
            error.target
        );
        say!("{}", style.paint(Colour::Yellow, &text));
    }
}

fn print_what_next(workspace: &Workspace, course: &Course, selected: &Selected<'_>, graded: &[(Solution, Graded)]) {
    if !graded.iter().any(|(solution, _)| *solution == Solution::Student) {
        return;
    }
    let Some((last, _)) = selected.last() else { return };
    // What was just checked is recorded already.
    let progress = Progress::load(workspace);
    let line = |word: &str, text: &str| say!("  {word:<8} {text}");
    let print_next = |chapter: &Chapter, task: &Task| {
        if let Some((word, place)) = next_step::place(workspace, task) {
            line(word, &place);
        }
        line("read", &chapter.page_of(task));
        line("check", &format!("cargo xtask check {}", task.id));
    };
    if let Some((chapter, task)) = next_step::next_task(course, &progress, Some(last)) {
        say!("Right. Next is {} {}:", task.id, task.title);
        print_next(chapter, task);
        return;
    }
    say!("Day {} is done.", last.id);
    line("compare", &format!("cargo xtask diff {} --stat", last.id));
    for (word, text) in next_step::bought(workspace, course, &progress, last) {
        line(word, &text);
    }
    match next_step::next_after(course, &progress, last) {
        Some((chapter, task)) => {
            say!("Next is {} {}, task {} {}:", chapter.id, chapter.title, task.id, task.title);
            print_next(chapter, task);
        }
        None => say!("Everything so far is done. Talk to it: cargo xtask chat --solution student"),
    }
}

pub fn json(selected: &Selected<'_>, graded: &[(Solution, Graded)]) -> Json {
    let passed = graded.iter().all(|(_, g)| g.tasks.iter().all(TaskReport::passed));
    let chapters = selected.iter().map(|(chapter, tasks)| {
        let solutions = graded.iter().map(|(solution, graded)| {
            let reports = tasks.iter().filter_map(|task| graded.report(&task.id)).map(task_json);
            Json::Object(vec![("solution", Json::text(solution.name())), ("tasks", Json::List(reports.collect()))])
        });
        Json::Object(vec![
            ("id", Json::text(&chapter.id)),
            ("title", Json::text(&chapter.title)),
            ("solutions", Json::List(solutions.collect())),
        ])
    });
    let errors = graded.iter().flat_map(|(solution, graded)| {
        graded.compile_errors.iter().map(|error| {
            Json::Object(vec![
                ("solution", Json::text(solution.name())),
                ("target", Json::text(&error.target)),
                ("rendered", Json::text(&error.rendered)),
            ])
        })
    });
    let notes = graded.iter().filter_map(|(_, graded)| graded.rule_note.as_deref().map(Json::text));
    Json::Object(vec![
        ("passed", Json::Bool(passed)),
        ("chapters", Json::List(chapters.collect())),
        ("compile_errors", Json::List(errors.collect())),
        ("notes", Json::List(notes.collect())),
    ])
}

fn task_json(report: &TaskReport) -> Json {
    let tests = report.tests.iter().map(|test| {
        Json::Object(vec![
            ("name", Json::text(&test.name)),
            ("status", Json::text(test.status.code())),
            ("message", Json::text(&test.diagnosis)),
        ])
    });
    Json::Object(vec![
        ("id", Json::text(&report.id)),
        ("title", Json::text(&report.title)),
        ("status", Json::text(report.status.code())),
        ("headroom", Json::optional_number(report.headroom)),
        ("seconds", Json::optional_number(report.elapsed.map(|t| t.as_secs_f64()))),
        ("cause", Json::optional_text(report.cause.as_deref())),
        ("tests", Json::List(tests.collect())),
        ("kernels", Json::List(report.kernels.iter().map(kernels::json).collect())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_a_reader_would_type_them() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/course");
        let workspace = Workspace::at(&root).unwrap();
        let tidy = |text: &str| tidy_paths(&workspace, text);
        assert_eq!(tidy("no file (crates/grader/../../tests/a/../b.x)"), "no file (tests/b.x)");
        assert_eq!(tidy(&format!("at {}/crates/x/../y.rs:1", root.display())), "at crates/y.rs:1");
        assert_eq!(tidy("../../a and /../b"), "../../a and /../b");
    }
}
