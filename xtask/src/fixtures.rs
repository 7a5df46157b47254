//! `cargo xtask author fixtures`: runs the generators in a Python environment with pinned
//! packages. Learners never need it.

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::fixture_compare;
use crate::process;
use crate::say;
use crate::workspace::{Workspace, files_below, read_text, write_text};

pub fn run(workspace: &Workspace, course: &Course, selector: &str, check: bool) -> Result<Verdict> {
    let selected = course.select(selector)?;
    let whole_course = selected.len() == course.chapters.len();
    let python = environment(workspace)?;
    let mut scripts = Vec::new();
    for script in files_below(&workspace.fixtures().join("generate"))? {
        let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let of_chapter = selected.iter().any(|(chapter, _)| chapter.test == name);
        // Programs that belong to no day (models that several days share) run with all days; modules
        // that the others import have no main part.
        let of_no_chapter = course.chapters.iter().all(|chapter| chapter.test != name);
        let is_program = script.extension().is_some_and(|e| e == "py") && read_text(&script)?.contains("__main__");
        if of_chapter || (is_program && of_no_chapter && whole_course) {
            scripts.push(script);
        }
    }
    // Shared files first: a day's generator may read them.
    scripts.sort_by_key(|script| script.file_stem().is_some_and(|s| s.to_string_lossy().starts_with("week")));
    if scripts.is_empty() {
        return Err(Error::new(format!("tests/fixtures/generate has no program for {selector}")));
    }

    let output = if check {
        let folder = workspace.target().join("fixtures-check");
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| Error::io("remove", &folder, &e))?;
        }
        fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, &e))?;
        folder
    } else {
        workspace.fixtures()
    };
    for script in &scripts {
        say!("running {}", workspace.display(script));
        let mut command = Command::new(&python);
        command.current_dir(workspace.root()).arg(script).arg(&output);
        if !process::run_attached(&mut command)?.success() {
            return Err(Error::new(format!("{} failed", workspace.display(script))).remedy("its reason stands above"));
        }
    }
    if check { compare(workspace, &output, whole_course) } else { Ok(Verdict::Passed) }
}

/// Every file that was made now, beside the committed one; of the `whole` course also the other way round.
fn compare(workspace: &Workspace, made: &Path, whole: bool) -> Result<Verdict> {
    let mut n_different = 0;
    let mut n_files = 0;
    for committed in files_below(&workspace.fixtures())?.iter().filter(|_| whole) {
        let relative = committed.strip_prefix(workspace.fixtures()).unwrap_or(committed);
        if committed.extension().is_some_and(|e| e == "safetensors") && !made.join(relative).exists() {
            n_different += 1;
            say!("  WRONG  {}: no program makes it", relative.display());
        }
    }
    for file in files_below(made)? {
        let relative = file.strip_prefix(made).unwrap_or(&file);
        let committed = workspace.fixtures().join(relative);
        n_files += 1;
        match fixture_compare::compare(&committed, &file)? {
            fixture_compare::Difference::None => say!("  same   {}", relative.display()),
            fixture_compare::Difference::WithinSlack(how) => say!("  close  {} ({how})", relative.display()),
            fixture_compare::Difference::Real(how) => {
                n_different += 1;
                say!("  WRONG  {}: {how}", relative.display());
            }
        }
    }
    say!("{n_files} files made again, {n_different} different from the committed ones");
    Ok(Verdict::from_passed(n_different == 0 && n_files > 0))
}

/// The Python of a virtual environment with the pinned packages; made on first use, and again
/// when the pins change.
fn environment(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.fixtures().join("generate/requirements.txt");
    let pins = read_text(&requirements)?;
    let cache = wheel_fetch::cache_dir().map_err(|e| Error::new(e.to_string()))?;
    let folder = cache.join("fixtures-python");
    let python = folder.join("bin/python");
    let marker = folder.join("requirements-installed.txt");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == pins) {
        return Ok(python);
    }
    say!("installing PyTorch and what else the generators need into {} (once; several GB)", folder.display());
    let interpreter = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut venv = Command::new(&interpreter);
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--requirement"]).arg(&requirements);
    if !io::stdout().is_terminal() {
        pip.arg("--quiet"); // its progress bar is worth showing, a log of it is not
    }
    for (command, what) in [(&mut venv, "a virtual environment"), (&mut pip, "the pinned packages")] {
        if !process::run_attached(command)?.success() {
            return Err(Error::new(format!("Python could not set up {what}"))
                .remedy("see its message above; PYTHON chooses another interpreter"));
        }
    }
    write_text(&marker, &pins)?;
    Ok(python)
}
