use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mlx_custom::apply;
use mlx_rs::Array;

use crate::support::{Closure, counting, f32_type};

/// Counts when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An operation with `n_outputs` outputs that owns something, and the count of its drops.
fn owning(n_outputs: usize, fails: bool) -> (Vec<Array>, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = Counted(Arc::clone(&drops));
    let operation = Closure::new(vec![f32_type(&[2]); n_outputs], move |_, outputs| {
        let Counted(_) = &counted;
        for output in outputs {
            output.as_mut_slice::<f32>()?.fill(1.0);
        }
        if fails { Err("as it should".into()) } else { Ok(()) }
    });
    (apply(operation, &[&counting(&[2])]).unwrap(), drops)
}

/// MLX's thread lets go of an operation shortly after `eval` has returned.
fn wait_for(drops: &AtomicUsize) {
    let start = Instant::now();
    while drops.load(Ordering::SeqCst) == 0 && start.elapsed() < Duration::from_secs(5) {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn an_operation_that_never_runs_is_dropped_with_its_last_array() {
    for n_outputs in [1, 3] {
        let (mut outputs, drops) = owning(n_outputs, false);
        let copy = outputs[0].clone();
        while outputs.pop().is_some() {
            assert_eq!(drops.load(Ordering::SeqCst), 0);
        }
        drop(copy);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn an_operation_that_ran_is_dropped_while_its_outputs_live() {
    for n_outputs in [1, 3] {
        let (outputs, drops) = owning(n_outputs, false);
        outputs[n_outputs - 1].eval().unwrap();
        wait_for(&drops);
        assert_eq!(outputs[0].as_slice::<f32>(), [1.0, 1.0]);
        drop(outputs);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn an_operation_that_failed_is_dropped_once() {
    let (outputs, drops) = owning(2, true);
    assert!(outputs[0].eval().is_err());
    wait_for(&drops);
}

#[test]
fn an_operation_that_was_refused_is_dropped_at_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = Counted(Arc::clone(&drops));
    let operation = Closure::new(vec![], move |_, _| {
        let Counted(_) = &counted;
        Ok(())
    });
    assert!(apply(operation, &[]).is_err());
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_in_a_destructor_ends_there() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            // Without the hook's message on stderr.
            std::panic::resume_unwind(Box::new("destructor"));
        }
    }
    let bomb = Bomb;
    let operation = Closure::new([f32_type(&[2])], move |_, outputs| {
        let Bomb = &bomb;
        outputs[0].as_mut_slice::<f32>()?.fill(1.0);
        Ok(())
    });
    let y = operation.apply1(&[]).unwrap();
    y.eval().unwrap();
    assert_eq!(y.as_slice::<f32>(), [1.0, 1.0]);
}

#[test]
fn a_long_graph_is_dropped_without_recursion() {
    let mut x = counting(&[2]);
    for _ in 0..20_000 {
        x = crate::support::add(&x, 1.0);
    }
    drop(x);
}
