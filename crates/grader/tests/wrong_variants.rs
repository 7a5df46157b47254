//! Every stored wrong answer of every fixture is rejected with its own sentence, and the right one passes.
//!
//! `cargo test -p grader --test wrong_variants -- --nocapture` prints the table.

use std::collections::BTreeMap;
use std::fs;

use grader::fixture::folder;
use grader::{Fixture, wrong_variants};

/// The first part of a case's name is its group: "softmax/rows_f32" belongs to "softmax".
const WRONG_VARIANTS_PER_GROUP: usize = 3;

/// Groups (fixture, group) that need no wrong variants of their own.
const EXEMPT: [(&str, &str); 2] = [
    // The real model's logits: what can be wrong in them is a matter of days 1.1 to 1.5.
    ("real_smollm2", "*"),
    // Where a stop token ends an exact token sequence: the sequences' variants are in the other groups.
    ("week1_day6", "stop"),
];

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
            let group = verdict.case.split(['/', '.']).next().unwrap_or_default().to_owned();
            let known = variants.entry(group).or_default();
            if let Some(variant) = verdict.answer.strip_prefix("wrong.")
                && !known.iter().any(|seen| seen == variant)
            {
                known.push(variant.to_owned());
            }
            if !verdict.as_it_must {
                failures.push(format!("{} {}: {}", verdict.case, verdict.answer, verdict.outcome));
            }
        }
        let fixture = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (group, known) in variants {
            let exempt = EXEMPT.iter().any(|&(file, name)| file == fixture && (name == "*" || name == group));
            if !exempt && known.len() < WRONG_VARIANTS_PER_GROUP {
                failures.push(format!("{fixture}: {group} has only the wrong variants {known:?}"));
            }
        }
    }
    assert!(n_fixtures > 0, "no fixture in {}", folder().display());
    assert!(failures.is_empty(), "{} of the grader's verdicts are wrong:\n{}", failures.len(), failures.join("\n"));
}
