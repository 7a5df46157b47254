use half::bf16;
use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply};
use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, Dtype};

use crate::support::{Closure, Outcome, add, counting, f32_type, failing};

fn values(array: &Array) -> Vec<f32> {
    array.as_slice::<f32>().to_vec()
}

#[test]
fn an_error_in_run_is_the_error_of_eval() {
    let y = failing(&counting(&[2]), "the moon is in the wrong phase");
    let error = y.eval().unwrap_err();
    assert!(error.what().starts_with("closure: the moon is in the wrong phase"), "{error}");
}

#[test]
fn a_panic_in_run_is_the_error_of_eval() {
    let panics = |run: fn()| {
        let operation = Closure::new([f32_type(&[2])], move |_, _| {
            run();
            Ok(())
        });
        operation.apply1(&[]).unwrap().eval().unwrap_err().what().to_owned()
    };
    // `resume_unwind` panics without the hook's message on stderr.
    let text = panics(|| std::panic::resume_unwind(Box::new("a text")));
    assert!(text.starts_with("closure: panicked: a text"), "{text}");
    let formatted = panics(|| std::panic::resume_unwind(Box::new(format!("number {}", 3))));
    assert!(formatted.starts_with("closure: panicked: number 3"), "{formatted}");
    let other = panics(|| std::panic::resume_unwind(Box::new(17)));
    assert!(other.starts_with("closure: panicked: (no message)"), "{other}");

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            // What this carries is leaked, so it is nothing.
            std::panic::resume_unwind(Box::new(()));
        }
    }
    let nested = panics(|| std::panic::resume_unwind(Box::new(Bomb)));
    assert!(nested.starts_with("closure: panicked: (no message)"), "{nested}");
}

#[test]
fn a_long_message_and_one_with_strange_characters_arrive() {
    let long = "x".repeat(100_000);
    let expected = format!("closure: {long}");
    let operation = Closure::new([f32_type(&[2])], move |_, _| Err(long.clone().into()));
    assert!(operation.apply1(&[]).unwrap().eval().unwrap_err().what().starts_with(&expected));
    let strange = failing(&counting(&[2]), "100 %s of {} 5 %n ü – 日本").eval().unwrap_err();
    assert!(strange.what().starts_with("closure: 100 %s of {} 5 %n ü – 日本"), "{strange}");
    let error = Closure::new([f32_type(&[2])], |_, _| Err("".into())).apply1(&[]).unwrap().eval().unwrap_err();
    assert!(error.what().starts_with("closure: "), "{error}");
}

#[test]
fn nothing_looks_like_a_result_afterwards() {
    let types = [f32_type(&[2]), TensorType::new([2], Dtype::Bfloat16), TensorType::new([2], Dtype::Uint32)];
    let operation = Closure::new(types, |_, outputs| {
        outputs[0].as_mut_slice::<f32>()?.fill(1.0);
        outputs[1].as_mut_slice::<bf16>()?.fill(bf16::ONE);
        outputs[2].as_mut_slice::<u32>()?.fill(1);
        Err("too late".into())
    });
    let outputs = apply(operation, &[]).unwrap();
    assert!(eval(&outputs).is_err());
    assert!(values(&outputs[0]).iter().all(|x| x.is_nan()));
    assert!(outputs[1].as_slice::<bf16>().iter().all(|x| x.is_nan()));
    assert_eq!(outputs[2].as_slice::<u32>(), [u32::MAX; 2]);
    // And what is computed from it is no number either, whoever computes it.
    assert!(values(&add(&outputs[0], 1.0)).iter().all(|x| x.is_nan()));
    assert!(values(&outputs[0].add(Array::from_f32(1.0)).unwrap()).iter().all(|x| x.is_nan()));
}

#[test]
fn a_buffer_that_was_taken_over_is_poisoned_too() {
    let x = counting(&[2]);
    let operation =
        Closure::new(
            [f32_type(&[2])],
            |_, outputs| {
                if outputs[0].holds_input() { Err("half way".into()) } else { Ok(()) }
            },
        );
    let y = operation.reusing(&[(0, 0)]).apply1(&[&x]).unwrap();
    drop(x);
    assert!(y.eval().is_err());
    assert!(values(&y).iter().all(|x| x.is_nan()));
}

#[test]
fn an_error_in_the_middle_of_a_graph_is_the_error_of_its_end() {
    let start = add(&counting(&[2]), 1.0);
    let end = add(&failing(&start, "in the middle"), 1.0).add(&start).unwrap();
    let error = end.eval().unwrap_err();
    assert!(error.what().starts_with("closure: in the middle"), "{error}");
    assert!(values(&end).iter().all(|x| x.is_nan()));
}

#[test]
fn other_results_of_the_same_evaluation_are_right() {
    let good = [add(&counting(&[2]), 5.0), add(&counting(&[2]), 6.0)];
    let bad = failing(&counting(&[2]), "one of three");
    assert!(eval([&good[0], &bad, &good[1]]).is_err());
    assert_eq!(values(&good[0]), [5.0, 6.0]);
    assert_eq!(values(&good[1]), [6.0, 7.0]);
}

#[test]
fn the_stream_goes_on_after_errors_and_panics() {
    for round in 0..100 {
        let bad = if round % 2 == 0 {
            failing(&counting(&[2]), "again")
        } else {
            let panicking =
                |_: &[Tensor<'_>], _: &mut [TensorMut<'_>]| -> Outcome { std::panic::resume_unwind(Box::new("again")) };
            Closure::new([f32_type(&[2])], panicking).apply1(&[]).unwrap()
        };
        assert!(bad.eval().unwrap_err().what().contains("again"));
        assert_eq!(values(&add(&counting(&[2]), round as f32)), [round as f32, round as f32 + 1.0]);
        assert_eq!(values(&counting(&[2]).add(counting(&[2])).unwrap()), [0.0, 2.0]);
    }
}

#[test]
fn an_error_that_nobody_waited_for_reaches_the_next_who_waits_on_the_stream() {
    let bad = failing(&counting(&[2]), "nobody looked");
    async_eval([&bad]).unwrap();
    let error = add(&counting(&[2]), 1.0).eval().unwrap_err();
    assert!(error.what().contains("nobody looked"), "{error}");
    assert_eq!(values(&add(&counting(&[2]), 1.0)), [1.0, 2.0]);
}

/// Refuses everything but one matrix.
struct Picky;

impl CpuOperation for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        match inputs {
            [x] if x.shape.len() == 2 => Ok(inputs.to_vec()),
            _ => Err(format!("takes one matrix, not {inputs:?}").into()),
        }
    }

    fn run(&self, _: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Outcome {
        outputs[0].as_mut_slice::<f32>()?.fill(0.0);
        Ok(())
    }
}

#[test]
fn what_outputs_refuses_is_an_error_of_apply() {
    let error = apply(Picky, &[&counting(&[2])]).unwrap_err();
    assert!(error.what().starts_with("picky: takes one matrix"), "{error}");
    assert_eq!(values(&apply(Picky, &[&counting(&[1, 2])]).unwrap()[0]), [0.0, 0.0]);
}

#[test]
fn transformations_without_a_rule_are_refused() {
    let mut gradient = mlx_rs::transforms::grad(|x: &Array| add(x, 1.0).sum(None));
    let error = gradient(&counting(&[2])).unwrap_err();
    assert!(error.what().contains("closure") || error.what().contains("implemented"), "{error}");
    // The graph still works.
    assert_eq!(values(&add(&counting(&[2]), 1.0)), [1.0, 2.0]);
}
