//! How a check's outcome is shown: a table per day, one of its kernels if the emulator ran some, then the first failing
//! task in full.

use std::time::Duration;

use crate::chapters::{Chapter, Course, Selected, Task};
use crate::check::Graded;
use crate::json::Json;
use crate::kernels;
use crate::say;
use crate::solution;
use crate::style::{Colour, Style, indent};
use crate::table::{Align, Cell, Table};
use crate::verdict::{Status, TaskReport};
use crate::workspace::{Solution, Workspace};

/// A learner's own prints are shown up to this many lines.
const MAX_PRINTED_LINES: usize = 20;
/// Compile errors beyond these are counted only: the first ones usually cause the rest.
const MAX_COMPILE_ERRORS: usize = 5;

/// Where the book says what the columns of a table of kernels mean.
const COLUMNS: &str = "book/src/running.md";

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
        say!("{}", day_table(tasks, graded).render(style));
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
        say!("{n_passed} of {n_tasks} tasks pass in {who}");
    }
    say!();
    for (solution, graded) in graded {
        if print_first_problem(workspace, selected, *solution, graded, style) {
            return;
        }
    }
    print_what_next(course, selected, graded);
}

fn day_table(tasks: &[&Task], graded: &[(Solution, Graded)]) -> Table {
    let mut columns = vec![("task", Align::Left), ("", Align::Left)];
    for (solution, _) in graded {
        let status = if graded.len() == 1 { "status" } else { solution.name() };
        columns.extend([(status, Align::Left), ("headroom", Align::Right), ("time", Align::Right)]);
    }
    columns.push(("probable cause", Align::Left));
    let mut table = Table::new(&columns);
    for task in tasks {
        let mut row = vec![Cell::new(&task.id), Cell::new(&task.title)];
        let mut cause = String::new();
        for (_, graded) in graded {
            let Some(report) = graded.report(&task.id) else { continue };
            row.push(Cell::coloured(report.status.label(), colour_of(&report.status)));
            row.push(Cell::new(report.headroom.map_or(String::new(), percent)));
            row.push(Cell::new(report.elapsed.map_or(String::new(), seconds)));
            if cause.is_empty() {
                cause = report.cause.clone().unwrap_or_default();
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
        Status::NotStarted | Status::Needs(_) | Status::NotGraded => Colour::Yellow,
        _ => Colour::Red,
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
    print_task(workspace, chapter, task, report, solution, style);
    true
}

fn print_task(
    workspace: &Workspace,
    chapter: &Chapter,
    task: &Task,
    report: &TaskReport,
    solution: Solution,
    style: Style,
) {
    let heading = format!("{} {}: {}", task.id, task.title, report.status.label());
    say!("{}", style.paint(Colour::Bold, &heading));
    match &report.status {
        Status::NotStarted => say!("\n  Nothing is written here yet, so red is what you should see."),
        Status::Needs(other) => {
            say!("\n  Its tests reached the `todo!` of task {other}: that one comes first.");
            say!("\n  first   cargo xtask check {other}");
            return;
        }
        Status::NoTests => say!("\n  No test is called {}*: the course's own list is wrong.", task.tests),
        _ => print_diagnosis(report, style),
    }
    say!();
    if solution == Solution::Student {
        if let Some((file, line)) = solution::place_of(workspace, &task.id) {
            say!("  write   {}:{line}", workspace.display(&file));
        }
        say!("  again   cargo xtask check {}", task.id);
        say!("  read    {}", chapter.page_of(task));
        say!("  hint    cargo xtask hint {}", task.id);
    } else {
        say!("  again   cargo xtask check {} --solution reference", task.id);
    }
}

fn print_diagnosis(report: &TaskReport, style: Style) {
    say!("  {} of {} tests that ran pass", report.n_passed(), report.tests.len());
    let Some(test) = report.telling_test() else { return };
    say!("\n  {}\n", style.paint(Colour::Red, &test.name));
    say!("{}", indent(test.diagnosis.trim_end(), "    "));
    if !test.printed.is_empty() {
        say!("\n  printed before that:");
        let lines: Vec<&str> = test.printed.lines().collect();
        let hidden = lines.len().saturating_sub(MAX_PRINTED_LINES);
        if hidden > 0 {
            say!("    ({hidden} lines before these)");
        }
        say!("{}", indent(&lines[hidden..].join("\n"), "    "));
    }
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

fn print_what_next(course: &Course, selected: &Selected<'_>, graded: &[(Solution, Graded)]) {
    if !graded.iter().any(|(solution, _)| *solution == Solution::Student) {
        return;
    }
    let Some((last, tasks)) = selected.last() else { return };
    if tasks.len() < last.tasks.len() {
        say!("Right. The whole day: cargo xtask check {}", last.id);
        return;
    }
    let next = course.chapters.iter().skip_while(|c| c.id != last.id).nth(1);
    match next {
        Some(next) => {
            say!("Day {} is done. Next is {} {}: book/src/{}", last.id, next.id, next.title, next.book);
            say!("  compare  cargo xtask diff {}", last.id);
            say!("  go on    cargo xtask check {}", next.id);
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
