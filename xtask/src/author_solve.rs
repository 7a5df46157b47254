//! Can every task be solved on its own? "Use the reference for the day I skip" must compile
//! whatever the learner wrote elsewhere, so no solution may lean on another task's helpers
//! beyond those that `solve` brings along.

use crate::author_check::Part;
use crate::cargo::Built;
use crate::chapters::{Course, Selected};
use crate::error::Result;
use crate::scratch::Scratch;
use crate::solution;
use crate::stubs;
use crate::workspace::Workspace;

/// Compiles the stubs with one task solved, for each task in turn.
pub fn each_task_alone(workspace: &Workspace, course: &Course, selected: &Selected<'_>) -> Result<Part> {
    let mut part = Part::new("solve");
    let stubs = stubs::generate(workspace, course)?;
    let scratch = Scratch::create(workspace)?;
    for (_, tasks) in selected {
        for task in tasks {
            let solved = solution::solve_in(workspace, course, &stubs, &task.id)?;
            scratch.put(workspace, &solved)?;
            let problem = match scratch.build_solution()? {
                Built::Binaries(_) => None,
                Built::Errors(errors) => Some(errors.first().map(|e| e.rendered.clone()).unwrap_or_default()),
            };
            part.expect(problem.is_none(), || {
                format!(
                    "{}: with only this task solved the crate does not compile: {}",
                    task.id,
                    problem.unwrap_or_default()
                )
            });
        }
    }
    Ok(part)
}
