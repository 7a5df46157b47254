//! What a learner reads: right answers pass, and each kind of wrong answer gets its own diagnosis.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic too")]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use grader::{Fixture, Tolerance, check_close, check_tokens, expect_error, expect_error_of_kind};
use mlx_rs::{Array, Dtype};
use safetensors::tensor::{TensorView, serialize_to_file};

const EXPECTED: [f32; 6] = [1.0, 2.0, 4.0, 7.0, 11.0, 16.0];
const NO_SCALE: [f32; 6] = [3.0, 1.0, 8.0, 2.0, 30.0, 5.0];

/// One case "task/case", f32 [2, 3], tolerance 0.01 + 0.001 * |expected|, with one wrong variant.
fn fixture() -> Fixture {
    fixture_with(&NO_SCALE)
}

fn fixture_with(wrong: &[f32; 6]) -> Fixture {
    make_fixture(&["x".to_owned()], wrong)
}

/// With twenty inputs.
fn long_inputs() -> Fixture {
    make_fixture(&(1..=20).map(|n| format!("x{n:02}")).collect::<Vec<_>>(), &NO_SCALE)
}

fn make_fixture(inputs: &[String], wrong: &[f32; 6]) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.safetensors");
    let bytes = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let [input, expected, wrong] = [[0.5; 6], EXPECTED, *wrong].map(|data| bytes(&data));
    let view = |bytes| TensorView::new(safetensors::Dtype::F32, vec![2, 3], bytes).unwrap();
    let mut tensors =
        vec![("task/case/expected".to_owned(), view(&expected)), ("task/case/wrong.no_scale".to_owned(), view(&wrong))];
    tensors.extend(inputs.iter().map(|name| (format!("task/case/{name}"), view(&input))));
    let cases = r#"{"task/case": {"dtype": "f32", "atol": 0.01, "rtol": 0.001, "params": {"axis": -1},
                    "wrong": {"no_scale": "looks like: the scale is missing"}}}"#;
    let metadata = HashMap::from([("cases".to_owned(), cases.to_owned())]);
    serialize_to_file(tensors, Some(metadata), &path).unwrap();
    Fixture::open(&path).unwrap()
}

/// The message with which `check` panics, or "" if it passes.
fn message(answer: Array) -> String {
    panic_text(|| fixture().case("task/case").check(Ok::<_, String>(answer)))
}

fn panic_text(run: impl FnOnce()) -> String {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(()) => String::new(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap(),
    }
}

fn f32s(data: &[f32], shape: &[i32]) -> Array {
    Array::from_slice(data, shape)
}

fn changed(change: impl Fn(f32) -> f32) -> Array {
    f32s(&EXPECTED.map(change), &[2, 3])
}

#[test]
fn a_right_answer_passes() {
    assert_eq!(message(f32s(&EXPECTED, &[2, 3])), "");
    assert_eq!(message(changed(|x| x * 1.0009)), "");
}

#[test]
fn a_right_answer_may_lie_in_any_memory_order() {
    let columns = [1.0_f32, 7.0, 2.0, 11.0, 4.0, 16.0];
    assert_eq!(message(f32s(&columns, &[3, 2]).swap_axes(0, 1).unwrap()), "");
}

#[test]
fn a_known_mistake_is_named_and_the_whole_message_reads_so() {
    let text = message(f32s(&NO_SCALE, &[2, 3]));
    let expected = "\
task/case (x: f32 [2, 3], axis = -1)
first mismatch at [0, 0]: got 3, expected 1 (off by 2, allowed 0.011)
6 of 6 entries are wrong (100 %), the largest error is 19 at [1, 1]
  got      [0, ..]  3  1  8
  expected [0, ..]  1  2  4
probable cause: the scale is missing";
    assert_eq!(text, expected);
}

#[test]
fn a_known_mistake_is_named_through_its_own_rounding() {
    let text = message(f32s(&NO_SCALE.map(|x| x * 1.002), &[2, 3]));
    assert!(text.ends_with("probable cause: the scale is missing"), "{text}");
}

#[test]
fn one_wrong_entry_has_its_index() {
    let mut data = EXPECTED;
    data[4] = 12.5;
    let text = message(f32s(&data, &[2, 3]));
    assert!(text.contains("first mismatch at [1, 1]: got 12.5, expected 11 (off by 1.5, allowed 0.021)"), "{text}");
    assert!(text.contains("1 of 6 entries are wrong (17 %)"), "{text}");
    assert!(text.contains("have index 1 on axis 0"), "{text}");
}

#[test]
fn shape_comes_before_everything() {
    let text = message(f32s(&EXPECTED, &[6]));
    assert!(text.contains("wrong shape: got [6], expected [2, 3]"), "{text}");
    assert!(text.contains("a reshape is missing"), "{text}");

    let text = message(f32s(&EXPECTED, &[2, 3]).swap_axes(0, 1).unwrap());
    assert!(text.contains("wrong shape: got [3, 2]"), "{text}");
    assert!(text.contains("axes 0 and 1 are swapped"), "{text}");
}

#[test]
fn dtype_comes_next_and_a_forgotten_cast_is_named() {
    let text = message(f32s(&EXPECTED, &[2, 3]).as_dtype(Dtype::Bfloat16).unwrap());
    assert!(text.contains("wrong dtype: got bf16, expected f32"), "{text}");
    assert!(text.contains("the values are right: convert the result with as_dtype (Dtype::Float32 here)"), "{text}");

    let text = message(f32s(&NO_SCALE, &[2, 3]).as_dtype(Dtype::Float16).unwrap());
    assert!(text.contains("wrong dtype") && text.contains("the scale is missing"), "{text}");
}

#[test]
fn nan_is_reported_before_the_first_mismatch() {
    let mut data = EXPECTED;
    data[0] = 3.0;
    data[5] = f32::NAN;
    let text = message(f32s(&data, &[2, 3]));
    let (nan, first) = (text.find("NaN at [1, 2], 1 of 6").unwrap(), text.find("first mismatch at [0, 0]").unwrap());
    assert!(nan < first, "{text}");

    let text = message(changed(|_| f32::NAN));
    assert!(text.contains("NaN at [0, 0], 6 of 6 entries are NaN"), "{text}");
    // An output that nothing has written is NaN too: no advice about a formula.
    assert!(!text.contains("0/0") && !text.contains("cause") && !text.contains("perhaps"), "{text}");
    let text = message(changed(|x| x / 0.0));
    assert!(text.contains("infinite at [0, 0], 6 of 6"), "{text}");
}

#[test]
fn common_mistakes_are_recognised_without_a_stored_variant() {
    let causes = [
        (changed(|_| 0.0), "every entry is zero"),
        (changed(|_| 4.0), "every entry is the same number, 4"),
        (changed(|x| x * 2.5), "every entry is the expected one times 2.5"),
        (changed(|x| -x), "the sign is wrong"),
        (changed(|x| x + 3.0), "every entry is the expected one plus 3"),
        (
            f32s(&[7.0, 11.0, 16.0, 1.0, 2.0, 4.0], &[2, 3]),
            "the 2 slices along axis 0 are right but stand in the order [1, 0]",
        ),
        (f32s(&[1.0, 2.0, 4.0, 1.0, 2.0, 4.0], &[2, 3]), "along axis 0 slices are repeated"),
        (f32s(&[1.0, 7.0, 2.0, 11.0, 4.0, 16.0], &[2, 3]), "axes 0 and 1 are swapped in memory"),
    ];
    for (answer, cause) in causes {
        let text = message(answer);
        assert!(text.contains(cause), "{cause}: {text}");
        // It may be there by chance.
        assert!(text.contains("\nperhaps: ") && !text.contains("probable cause"), "{text}");
    }
}

#[test]
fn a_small_error_alone_has_no_cause() {
    for text in [message(changed(|x| x + if x > 3.0 { 0.125 } else { -0.125 })), message(changed(|x| x * 1.02))] {
        assert!(!text.contains("cause") && !text.contains("16-bit"), "{text}");
    }
}

#[test]
fn float32_values_that_are_all_16_bit_numbers_are_named() {
    let expected = [1.001_f32, 2.003, 4.007, 7.019, 11.03, 16.07];
    let expected_array = f32s(&expected, &[2, 3]);
    let tolerance = Tolerance { atol: 1e-6, rtol: 1e-6 };
    let check = |answer: Array| panic_text(|| check_close("x", Ok::<_, String>(answer), &expected_array, tolerance));
    let rounded = expected_array.as_dtype(Dtype::Bfloat16).unwrap().as_dtype(Dtype::Float32).unwrap();
    assert!(check(rounded).contains("perhaps: every entry is a bf16 number"));
    let other = f32s(&expected.map(|x| x + if x > 3.0 { 0.00123 } else { -0.00123 }), &[2, 3]);
    assert!(!check(other).contains("perhaps"));
}

#[test]
fn an_answer_near_the_right_one_is_not_taken_for_a_mistake_near_by() {
    // The stored answer is 4 tolerances away from the right one, the answer 1.5: it may have any reason.
    let answer = f32s(&[1.0165, 2.0, 4.0, 7.0, 11.0, 16.0], &[2, 3]);
    let text = panic_text(|| {
        fixture_with(&[1.044, 2.0, 4.0, 7.0, 11.0, 16.0]).case("task/case").check(Ok::<_, String>(answer))
    });
    assert!(text.contains("first mismatch at [0, 0]") && !text.contains("cause"), "{text}");
}

#[test]
fn nan_is_right_where_it_is_expected() {
    let nan = f32::NAN;
    let expected = f32s(&[nan, nan, 1.0, 2.0], &[2, 2]);
    let check = |data: &[f32]| {
        let answer = f32s(data, &[2, 2]);
        panic_text(|| check_close("x", Ok::<_, String>(answer), &expected, Tolerance { atol: 0.1, rtol: 0.0 }))
    };
    assert_eq!(check(&[nan, nan, 1.0, 2.0]), "");
    assert!(check(&[0.0, 0.0, 1.0, 2.0]).contains("first mismatch at [0, 0]: got 0, expected NaN"));
    assert!(check(&[nan, nan, nan, 2.0]).contains("NaN at [1, 0]"));
}

#[test]
fn long_inputs_are_shortened() {
    let text = panic_text(|| long_inputs().case("task/case").check(Err::<Array, _>("no")));
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("task/case (x01: f32 [2, 3], ") && first.ends_with(" more inputs, axis = -1)"),
        "{first}"
    );
    assert!(first.len() < 200, "{first}");
}

#[test]
fn an_error_is_passed_on() {
    let text = panic_text(|| fixture().case("task/case").check(Err::<Array, _>("no such axis")));
    assert_eq!(text, "task/case (x: f32 [2, 3], axis = -1)\nthe call returned an error: no such axis");
}

#[test]
fn a_call_that_must_be_refused() {
    let text = panic_text(|| drop(expect_error(Ok::<i32, String>(3), "more queries than keys")));
    assert!(text.starts_with("more queries than keys: this must be refused"), "{text}");
    let text = panic_text(|| drop(expect_error(Err::<i32, _>(" "), "x")));
    assert!(text.contains("the error says nothing"), "{text}");
    assert_eq!(expect_error(Err::<i32, _>("L > S"), "x"), "L > S");
}

#[test]
fn a_call_that_must_be_refused_with_one_kind_of_error() {
    let refuse = |error: &str| {
        let result = Err::<i32, _>(error.to_owned());
        expect_error_of_kind(result, "no heads", "an `InvalidArgument`", |error| error.starts_with("invalid"))
    };
    assert_eq!(refuse("invalid: 0 heads"), "invalid: 0 heads");
    let text = panic_text(|| drop(refuse("MLX: cannot divide at /a/ops.cpp:7")));
    let expected = "\
no heads: this must be refused with an `InvalidArgument`, and the error was another one: MLX: cannot divide";
    assert_eq!(text, expected);
}

#[test]
fn an_mlx_error_comes_without_places_in_other_peoples_sources() {
    let refused = f32s(&EXPECTED, &[2, 3]).reshape(&[4, 4]);
    let text = panic_text(|| fixture().case("task/case").check(refused));
    assert!(text.starts_with("task/case (x: f32 [2, 3], axis = -1)\nthe call returned an error: "), "{text}");
    assert!(text.contains("(4,4)"), "{text}");
    assert!(!text.contains(" at /"), "{text}");
}

#[test]
fn token_sequences_show_the_first_difference_on_both_sides() {
    check_tokens("same", &[1, 2, 3], &[1, 2, 3]);
    let text = panic_text(|| check_tokens("greedy", &[1, 2, 3, 4, 5, 6, 7], &[1, 2, 3, 4, 5, 9, 7, 8, 9, 10, 11, 12]));
    let expected = "\
greedy
first difference at position 5: got 6, expected 9 (7 and 12 items)
  got      .. 2 3 4 5 6 7
  expected .. 2 3 4 5 9 7 8 9 10 ..";
    assert_eq!(text, expected);
    let text = panic_text(|| check_tokens("greedy", &[1, 2], &[1, 2, 3]));
    assert!(text.contains("position 2: got nothing (it ends), expected 3"), "{text}");
}

#[test]
fn a_missing_or_damaged_fixture_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("week9_day9.safetensors");
    assert!(Fixture::open(&path).unwrap_err().to_string().contains("git status"));
    std::fs::write(&path, b"not a fixture").unwrap();
    assert!(Fixture::open(&path).unwrap_err().to_string().contains("damaged"));
    let text = panic_text(|| {
        fixture().case("task/other");
    });
    assert_eq!(text, "the fixture example has no case task/other; it has: task/case");
}
