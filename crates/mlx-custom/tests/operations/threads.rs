use std::thread;

use mlx_custom::parallel_for;
use mlx_rs::{Device, Stream, with_stream};

use crate::support::{Closure, add, counting, f32_type, failing};

#[test]
fn many_threads_build_and_evaluate_graphs() {
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                for round in 0..10 {
                    let mut x = counting(&[64]);
                    for _ in 0..25 {
                        x = add(&x, 1.0).add(counting(&[64])).unwrap();
                    }
                    let expected: Vec<f32> = (0..64).map(|i| (26 * i) as f32 + 25.0).collect();
                    assert_eq!(x.as_slice::<f32>(), expected, "thread {number}, round {round}");
                }
            });
        }
    });
}

#[test]
fn an_error_stays_with_the_thread_whose_stream_it_was() {
    thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || {
                for _ in 0..50 {
                    if number % 2 == 0 {
                        assert!(failing(&counting(&[2]), "on purpose").eval().is_err());
                    } else {
                        add(&counting(&[2]), 1.0).eval().unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn an_operation_uses_the_stream_that_was_chosen() {
    let stream = Stream::new_with_device(&Device::cpu());
    let y = with_stream(&stream, || add(&counting(&[3]), 1.0));
    let z = add(&y, 1.0); // on the default stream: MLX makes it wait
    assert_eq!(z.as_slice::<f32>(), [2.0, 3.0, 4.0]);
}

#[test]
fn a_team_of_threads_inside_operations_of_several_streams() {
    let sum_rows = |x: &mlx_rs::Array| {
        let operation = Closure::new([f32_type(&[16])], |inputs, outputs| {
            let x = inputs[0].as_slice::<f32>()?;
            let sums: Vec<std::sync::Mutex<&mut f32>> =
                outputs[0].as_mut_slice::<f32>()?.iter_mut().map(std::sync::Mutex::new).collect();
            parallel_for(16, |row| **sums[row].lock().unwrap() = x[row * 100..][..100].iter().sum());
            Ok(())
        });
        operation.apply1(&[x]).unwrap()
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let sums = sum_rows(&counting(&[16, 100]));
                    let expected: Vec<f32> = (0..16).map(|row| (row * 10_000 + 4950) as f32).collect();
                    assert_eq!(sums.as_slice::<f32>(), expected);
                }
            });
        }
    });
}

#[test]
fn a_panic_in_a_team_is_the_error_of_eval() {
    let operation = Closure::new([f32_type(&[1])], |_, _| {
        parallel_for(100, |chunk| {
            if chunk == 50 {
                std::panic::resume_unwind(Box::new("chunk 50"));
            }
        });
        Ok(())
    });
    let error = operation.apply1(&[]).unwrap().eval().unwrap_err();
    assert!(error.what().contains("chunk 50"), "{error}");
    assert_eq!(add(&counting(&[2]), 1.0).as_slice::<f32>(), [1.0, 2.0]);
}
