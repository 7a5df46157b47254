//! Every stored wrong answer of every fixture is rejected with its own sentence, and the right one passes.
//!
//! `cargo test -p grader --test wrong_variants -- --nocapture` prints the table.

use std::collections::BTreeMap;
use std::fs;

use grader::fixture::folder;
use grader::{Fixture, wrong_variants};

/// Tasks are the first part of a case's name: "softmax/rows_f32" belongs to "softmax".
const WRONG_VARIANTS_PER_TASK: usize = 3;

#[test]
fn every_wrong_variant_is_rejected_with_its_own_message() {
    let mut n_fixtures = 0;
    let mut failures = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        n_fixtures += 1;
        let mut variants: BTreeMap<String, Vec<String>> = BTreeMap::new();
        println!("\n{}", path.display());
        for verdict in wrong_variants(&Fixture::open(&path).unwrap()).unwrap() {
            let mark = if verdict.as_it_must { "ok " } else { "BAD" };
            println!("{mark} {:40} {:32} {}", verdict.case, verdict.answer, verdict.outcome);
            let task = verdict.case.split('/').next().unwrap_or_default().to_owned();
            let known = variants.entry(task).or_default();
            if let Some(variant) = verdict.answer.strip_prefix("wrong.")
                && !known.iter().any(|seen| seen == variant)
            {
                known.push(variant.to_owned());
            }
            if !verdict.as_it_must {
                failures.push(format!("{} {}: {}", verdict.case, verdict.answer, verdict.outcome));
            }
        }
        for (task, known) in variants {
            if known.len() < WRONG_VARIANTS_PER_TASK {
                failures.push(format!("{}: {task} has only the wrong variants {known:?}", path.display()));
            }
        }
    }
    assert!(n_fixtures > 0, "no fixture in {}", folder().display());
    assert!(failures.is_empty(), "{} of the grader's verdicts are wrong:\n{}", failures.len(), failures.join("\n"));
}
