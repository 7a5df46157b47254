//! Day 1.1.

use tiny_llm::numbers::{double, doubled_sum};

#[test]
fn task_1_double_of_a_number() {
    grader::check("double/plain", double(3.0), 6.0, &[(3.0, "looks like: x came back unchanged")]);
}

#[test]
fn task_1_double_of_zero() {
    grader::check("double/zero", double(0.0), 0.1, &[]);
}

#[test]
fn task_2_doubled_sum() {
    grader::check("sum/plain", doubled_sum(&[1.0, 2.0]), 6.0, &[(3.0, "looks like: nothing was doubled")]);
}
