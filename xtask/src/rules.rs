//! The course's rules for the learner's crate, told kindly: what it may depend on, and what
//! mlx-rs offers that is to be built instead.

use std::collections::BTreeSet;

use tinyjson::JsonValue;

use crate::cargo::{self, CompileError};
use crate::error::{Error, Result};
use crate::process;
use crate::workspace::Workspace;

/// Dependencies of the learner's crate that the reference does without.
///
/// The reference is the measure: what it is built from is allowed, so there is no list to keep.
/// Dev-dependencies are the learner's own business.
pub fn forbidden_dependencies(workspace: &Workspace) -> Result<Vec<String>> {
    let mut command = cargo::command(workspace.root());
    command.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let finished = process::output(&mut command)?;
    if !finished.succeeded() {
        return Err(Error::new(format!("cargo cannot read the workspace: {}", finished.stderr.trim())));
    }
    let metadata: JsonValue =
        finished.stdout.parse().map_err(|e| Error::new(format!("cargo metadata wrote something unreadable: {e}")))?;
    let allowed = dependencies(&metadata, "tiny-llm-reference");
    let used = dependencies(&metadata, "tiny-llm");
    Ok(used.difference(&allowed).cloned().collect())
}

fn dependencies(metadata: &JsonValue, package: &str) -> BTreeSet<String> {
    let list = |value: &JsonValue, key: &str| match value {
        JsonValue::Object(fields) => match fields.get(key) {
            Some(JsonValue::Array(items)) => items.clone(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    list(metadata, "packages")
        .iter()
        .filter(|p| cargo::text(p, &["name"]) == Some(package))
        .flat_map(|p| list(p, "dependencies"))
        .filter(|dependency| cargo::text(dependency, &["kind"]) != Some("dev"))
        .filter_map(|dependency| cargo::text(&dependency, &["name"]).map(str::to_owned))
        .collect()
}

/// What to say about forbidden dependencies.
pub fn dependency_note(forbidden: &[String]) -> String {
    let names: Vec<String> = forbidden.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "crates/tiny-llm/Cargo.toml depends on {}, which is not part of this course.\n\
         The point is to build these parts yourself, so the crate may use only what its Cargo.toml\n\
         listed at the start. Remove the line (a library that only your own tests need can go under\n\
         [dev-dependencies]), then check again.",
        names.join(" and ")
    )
}

/// Names of mlx-rs that a learner may look for and not find, with the day that builds them.
const BUILT_IN_THE_COURSE: [(&str, &str); 9] = [
    ("nn", "every day of the course builds a piece of it"),
    ("fast", "you write attention, RMSNorm and RoPE yourself"),
    ("softmax", "you write it on day 1.1"),
    ("sigmoid", "you write SiLU on day 1.4"),
    ("categorical", "you write sampling on day 1.7"),
    ("quantize", "you write quantized arithmetic on days 2.2a to 2.3"),
    ("dequantize", "you write quantized arithmetic on days 2.2a to 2.3"),
    ("quantized_matmul", "you write it on days 2.2a to 2.3"),
    ("gather_qmm", "you write quantized arithmetic on days 2.2a to 2.3"),
];

/// A note if a compile error comes from reaching for a part of mlx-rs that the course builds.
pub fn off_limits_note(errors: &[CompileError]) -> Option<String> {
    let name_and_reason = errors.iter().find_map(|error| {
        let text = &error.rendered;
        // The facade crate gives such functions an argument that no value fits; its type's path
        // names this module.
        let uncallable = text.contains("built_in_the_course") || text.contains("YouBuild");
        let unresolved = text.contains("mlx_rs") && (text.contains("E0432") || text.contains("E0433"));
        BUILT_IN_THE_COURSE.iter().find(|(name, _)| {
            let missing = unresolved
                && (text.contains(&format!("could not find `{name}` in `mlx_rs`"))
                    || text.contains(&format!("no `{name}` in `"))
                    || text.contains(&format!("unresolved import `mlx_rs::{name}")));
            missing || (uncallable && mentions_call(text, name))
        })
    })?;
    let (name, reason) = name_and_reason;
    Some(format!(
        "`{name}` of mlx-rs is off limits in this crate on purpose: {reason}.\n\
         Arrays, `mlx_rs::ops` without it, devices and random numbers are yours to use.\n\
         (The tests may use the real thing, to compare with.)"
    ))
}

/// Whether `name` is called somewhere in a rendered error, and is not the end of a longer name.
fn mentions_call(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(index, _)| {
        let before = text[..index].chars().next_back();
        let after = &text[index + name.len()..];
        let starts = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let suffixes = ["(", "_axis(", "_axes(", "_device(", "_axis_device(", "_axes_device("];
        starts && suffixes.iter().any(|suffix| after.starts_with(suffix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(rendered: &str) -> Option<String> {
        off_limits_note(&[CompileError {
            target: "tiny_llm".to_owned(),
            rendered: rendered.to_owned(),
            places: Vec::new(),
        }])
    }

    #[test]
    fn reaching_for_a_missing_module_is_explained() {
        let missing = "error[E0433]: failed to resolve: could not find `fast` in `mlx_rs`";
        assert!(note(missing).unwrap().starts_with("`fast` of mlx-rs is off limits"));
        let import = "error[E0432]: unresolved import `mlx_rs::nn`\n no `nn` in the root";
        assert!(note(import).unwrap().starts_with("`nn` of mlx-rs"));
    }

    #[test]
    fn calling_a_shadowed_function_is_explained() {
        let call = "error[E0061]: expected `YouBuildSoftmaxOnDay1_1`, found `&Array`\n 9 | ops::softmax_axis(x, -1)";
        assert!(note(call).unwrap().contains("day 1.1"));
    }

    #[test]
    fn an_ordinary_mistake_gets_no_sermon() {
        assert_eq!(note("error[E0308]: mismatched types in my softmax(x)"), None);
        assert_eq!(note("error[E0432]: unresolved import `mlx_rs::opps`"), None);
    }

    #[test]
    fn only_dependencies_beyond_the_references_are_forbidden() {
        let metadata: JsonValue = r#"{"packages":[
            {"name":"tiny-llm-reference","dependencies":[{"name":"course-mlx","kind":null}]},
            {"name":"tiny-llm","dependencies":[{"name":"course-mlx","kind":null},{"name":"mlx-rs","kind":null},{"name":"approx","kind":"dev"}]}
        ]}"#
        .parse()
        .unwrap();
        let used = dependencies(&metadata, "tiny-llm");
        let allowed = dependencies(&metadata, "tiny-llm-reference");
        assert_eq!(used.difference(&allowed).collect::<Vec<_>>(), ["mlx-rs"]);
        assert!(dependency_note(&["mlx-rs".to_owned()]).contains("depends on `mlx-rs`, which"));
    }
}
