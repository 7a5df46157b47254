use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mlx_custom::{TensorType, apply};
use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::{Array, Dtype};

use crate::support::{Closure, add, counting, f32_type};

/// How often the output took over the buffer, and how often the contents were copied.
#[derive(Default)]
struct Tally {
    taken_over: AtomicUsize,
    copied: AtomicUsize,
}

impl Tally {
    fn get(&self) -> (usize, usize) {
        (self.taken_over.load(Ordering::SeqCst), self.copied.load(Ordering::SeqCst))
    }
}

/// `cache` with element `at` replaced by `value`: what a key-value cache does for each token.
fn write(cache: &Array, at: usize, value: f32, tally: &Arc<Tally>) -> Array {
    let tally = Arc::clone(tally);
    let shape: Vec<usize> = cache.shape().iter().map(|&len| len as usize).collect();
    let operation = Closure::new([f32_type(&shape)], move |inputs, outputs| {
        if outputs[0].holds_input() != inputs[0].is_moved() {
            return Err("the two sides disagree".into());
        }
        if outputs[0].holds_input() {
            tally.taken_over.fetch_add(1, Ordering::SeqCst);
            if inputs[0].as_slice::<f32>().is_ok() || inputs[0].strided::<f32>().is_ok() {
                return Err("a moved input gave access".into());
            }
        } else {
            tally.copied.fetch_add(1, Ordering::SeqCst);
            outputs[0].as_mut_slice::<f32>()?.copy_from_slice(inputs[0].as_slice::<f32>()?);
        }
        outputs[0].as_mut_slice::<f32>()?[at] = value;
        Ok(())
    });
    operation.reusing(&[(0, 0)]).apply1(&[cache]).unwrap()
}

fn address(array: &Array) -> *const f32 {
    array.as_slice::<f32>().as_ptr()
}

#[test]
fn a_buffer_that_nobody_needs_is_written_in_place() {
    let tally = Arc::default();
    let mut cache = counting(&[4]);
    cache.eval().unwrap();
    let before = address(&cache);
    for step in 0..4 {
        cache = write(&cache, step, -1.0, &tally);
        cache.eval().unwrap();
        assert_eq!(address(&cache), before);
    }
    assert_eq!(tally.get(), (4, 0));
    assert_eq!(cache.as_slice::<f32>(), [-1.0; 4]);
}

#[test]
fn also_in_one_evaluation_of_many_steps() {
    let tally = Arc::default();
    let mut cache = counting(&[4]);
    for step in 0..4 {
        cache = write(&cache, step, 10.0 + step as f32, &tally);
    }
    assert_eq!(cache.as_slice::<f32>(), [10.0, 11.0, 12.0, 13.0]);
    assert_eq!(tally.get(), (4, 0));
}

#[test]
fn also_for_an_input_that_is_computed() {
    let tally = Arc::default();
    let written = write(&counting(&[2]).add(counting(&[2])).unwrap(), 0, 9.0, &tally);
    assert_eq!(written.as_slice::<f32>(), [9.0, 2.0]);
    assert_eq!(tally.get(), (1, 0));
}

#[test]
fn an_input_that_is_still_held_keeps_its_contents() {
    let tally = Arc::default();
    let before = counting(&[3]);
    let after = write(&before, 1, -1.0, &tally);
    assert_eq!(after.as_slice::<f32>(), [0.0, -1.0, 2.0]);
    assert_eq!(before.as_slice::<f32>(), [0.0, 1.0, 2.0]);
    assert_ne!(address(&before), address(&after));
    assert_eq!(tally.get(), (0, 1));
}

#[test]
fn an_input_that_another_node_or_a_view_needs_keeps_its_contents() {
    let tally = Arc::default();
    let cache = counting(&[3]);
    let view = cache.index(1..);
    let later = add(&cache, 100.0);
    let after = write(&cache, 1, -1.0, &tally);
    drop(cache);
    mlx_rs::transforms::eval([&after, &later, &view]).unwrap();
    assert_eq!(after.as_slice::<f32>(), [0.0, -1.0, 2.0]);
    assert_eq!(later.as_slice::<f32>(), [100.0, 101.0, 102.0]);
    assert_eq!(view.as_slice::<f32>(), [1.0, 2.0]);
}

#[test]
fn the_same_array_twice_is_not_taken_over() {
    let operation = Closure::new([f32_type(&[2])], |inputs, outputs| {
        if outputs[0].holds_input() {
            return Err("taken over".into());
        }
        let (x, y) = (inputs[0].as_slice::<f32>()?, inputs[1].as_slice::<f32>()?);
        outputs[0].as_mut_slice::<f32>()?.iter_mut().zip(x.iter().zip(y)).for_each(|(z, (x, y))| *z = x + y);
        Ok(())
    });
    let x = counting(&[2]);
    let doubled = operation.reusing(&[(0, 0)]).apply1(&[&x, &x]).unwrap();
    drop(x);
    assert_eq!(doubled.as_slice::<f32>(), [0.0, 2.0]);
}

#[test]
fn a_view_that_is_not_row_major_is_not_taken_over() {
    let tally = Arc::default();
    let transposed = counting(&[2, 2]).transpose_axes(&[1, 0]).unwrap();
    let written = write(&transposed, 0, 7.0, &tally);
    drop(transposed);
    assert_eq!(written.as_slice::<f32>(), [7.0, 2.0, 1.0, 3.0]);
    assert_eq!(tally.get(), (0, 1));
}

#[test]
fn a_small_part_of_a_large_buffer_does_not_keep_it_alive() {
    let tally = Arc::default();
    let part = counting(&[100_000]).index(5..7);
    let written = write(&part, 0, 7.0, &tally);
    drop(part);
    assert_eq!(written.as_slice::<f32>(), [7.0, 6.0]);
    assert_eq!(tally.get(), (0, 1));
}

/// Two buffers in one operation, as keys and values are.
#[test]
fn each_of_two_outputs_takes_over_its_input() {
    let addresses = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&addresses);
    let types = [f32_type(&[3]), TensorType::new([2], Dtype::Uint32)];
    let operation = Closure::new(types, move |inputs, outputs| {
        if !(outputs[0].holds_input() && outputs[1].holds_input() && inputs[1].is_moved() && inputs[2].is_moved()) {
            return Err("not taken over".into());
        }
        let amount = inputs[0].as_slice::<f32>()?[0];
        let mut seen = seen.lock().unwrap();
        let x = outputs[0].as_mut_slice::<f32>()?;
        seen.push(x.as_ptr().addr());
        x.iter_mut().for_each(|x| *x += amount);
        let y = outputs[1].as_mut_slice::<u32>()?;
        seen.push(y.as_ptr().addr());
        y.iter_mut().for_each(|y| *y += amount as u32);
        Ok(())
    });
    let (x, y) = (counting(&[3]), Array::from_slice(&[5_u32, 6], &[2]));
    mlx_rs::transforms::eval([&x, &y]).unwrap();
    let before = [address(&x).addr(), y.as_slice::<u32>().as_ptr().addr()];
    let outputs = apply(operation.reusing(&[(2, 1), (1, 0)]), &[&Array::from_slice(&[2.0_f32], &[1]), &x, &y]).unwrap();
    drop((x, y));
    mlx_rs::transforms::eval(&outputs).unwrap();
    assert_eq!(outputs[0].as_slice::<f32>(), [2.0, 3.0, 4.0]);
    assert_eq!(outputs[1].as_slice::<u32>(), [7, 8]);
    assert_eq!(*addresses.lock().unwrap(), before);
}

#[test]
fn nonsense_is_refused_when_the_graph_is_built() {
    let message = |pairs: &[(usize, usize)]| {
        let types = [f32_type(&[2]), f32_type(&[2]), TensorType::new([2], Dtype::Uint32), f32_type(&[3])];
        let operation = Closure::new(types, |_, _| Ok(())).reusing(pairs);
        apply(operation, &[&counting(&[2]), &counting(&[2])]).unwrap_err().what().to_owned()
    };
    assert!(message(&[(2, 0)]).contains("`reuses` names input 2"));
    assert!(message(&[(0, 4)]).contains("output 4"));
    assert!(message(&[(0, 2)]).contains("output 2 (Uint32 [2])"));
    assert!(message(&[(0, 3)]).contains("output 3 (Float32 [3]) cannot take over the buffer of input 0 (Float32 [2])"));
    assert!(message(&[(0, 0), (0, 1)]).contains("twice"));
    assert!(message(&[(0, 0), (1, 0)]).contains("twice"));
}
