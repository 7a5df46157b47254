//! Appending in place, and what others see of it.

#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

use mlx_custom::AppendBuffer;
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, transforms};

/// Of an array `[2, len, 3]`, where each number says where it is.
fn entries(range: std::ops::Range<usize>) -> Array {
    let (start, len) = (range.start, range.len());
    let numbers = (0..2 * len * 3).map(|i| (1000 * (i / (len * 3)) + 10 * (start + i / 3 % len) + i % 3) as f32);
    Array::from_iter(numbers, &[2, len as i32, 3])
}

fn buffer(capacity: i32) -> AppendBuffer {
    AppendBuffer::new(&[2, capacity, 3], 1, Dtype::Float32).unwrap()
}

fn both(buffer: &AppendBuffer) -> Array {
    buffer.view(0, 0..2).unwrap()
}

/// The numbers in row-major order.
fn numbers(array: &Array) -> Vec<f32> {
    array.flatten(None, None).unwrap().as_slice::<f32>().to_vec()
}

/// Where a view of one row, which is one piece of memory, lies.
fn place(row: &Array) -> usize {
    row.as_slice::<f32>().as_ptr().addr()
}

#[test]
fn entries_come_behind_each_other() {
    let mut buffer = buffer(8);
    assert!(buffer.is_empty());
    for (range, is_evaluated) in [(0..3, true), (3..4, true), (4..5, false), (5..8, true)] {
        buffer.append(&entries(range.clone())).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (range.end, 8));
        if is_evaluated {
            assert_eq!(numbers(&both(&buffer)), numbers(&entries(0..range.end)), "after {range:?}");
        }
    }
    assert_eq!(numbers(&buffer.view(0, 1..2).unwrap()), numbers(&entries(0..8))[24..], "the second row");
}

#[test]
fn memory_stays_although_others_hold_it() {
    let mut buffer = buffer(16);
    buffer.append(&entries(0..4)).unwrap();
    let first = buffer.view(0, 0..1).unwrap();
    let (at, mut held) = (place(&first), vec![first]);
    for token in 4..16 {
        buffer.append(&entries(token..token + 1)).unwrap();
        let view = buffer.view(0, 0..1).unwrap();
        assert_eq!(place(&view), at, "token {token} moved the others");
        held.push(view);
    }
    drop(buffer);
    for (i, view) in held.iter().enumerate() {
        assert_eq!(numbers(view), numbers(&entries(0..4 + i))[..3 * (4 + i)], "view {i}, after all appends");
    }
}

#[test]
fn a_view_keeps_its_values_when_entries_are_replaced() {
    let mut buffer = buffer(8);
    buffer.append(&entries(0..5)).unwrap();
    let (before, late) = (both(&buffer), both(&buffer));
    let at = place(&buffer.view(0, 0..1).unwrap());
    before.eval().unwrap();
    buffer.truncate(2).unwrap();
    assert_eq!(numbers(&both(&buffer)), numbers(&entries(0..2)));
    buffer.append(&entries(6..7)).unwrap();
    let replaced = both(&buffer);
    replaced.eval().unwrap();
    assert_eq!(numbers(&before), numbers(&entries(0..5)), "a view from before");
    assert_eq!(numbers(&late), numbers(&entries(0..5)), "one that is evaluated afterwards");
    let row = |row: usize| [0, 1, 6].map(|entry| [0, 1, 2].map(|i| (1000 * row + 10 * entry + i) as f32)).concat();
    assert_eq!(numbers(&replaced), [row(0), row(1)].concat());

    // The copy is a buffer like any other.
    let copied_to = place(&buffer.view(0, 0..1).unwrap());
    assert_ne!(copied_to, at);
    buffer.append(&entries(3..4)).unwrap();
    assert_eq!(place(&buffer.view(0, 0..1).unwrap()), copied_to);
}

/// MLX counts the holders of a handle, and the view holds the memory under another.
#[test]
fn entries_seen_before_the_last_append_are_not_written_over() {
    let mut buffer = buffer(8);
    buffer.append(&entries(0..3)).unwrap();
    let seen = both(&buffer);
    seen.eval().unwrap();
    buffer.append(&entries(3..4)).unwrap();
    assert_eq!(numbers(&both(&buffer)), numbers(&entries(0..4)));
    buffer.truncate(1).unwrap();
    buffer.append(&entries(6..8)).unwrap();
    both(&buffer).eval().unwrap();
    assert_eq!(numbers(&seen), numbers(&entries(0..3)));
}

/// Nothing is evaluated in between, so nothing has been copied yet when the second append comes.
#[test]
fn entries_are_replaced_twice_in_one_evaluation() {
    let mut buffer = buffer(8);
    buffer.append(&entries(0..3)).unwrap();
    let seen = both(&buffer);
    seen.eval().unwrap();
    buffer.append(&entries(3..4)).unwrap();
    both(&buffer).eval().unwrap();
    for replacement in [6..7, 7..8] {
        buffer.truncate(1).unwrap();
        buffer.append(&entries(replacement)).unwrap();
    }
    let row = |row: usize| [0, 7].map(|entry| [0, 1, 2].map(|i| (1000 * row + 10 * entry + i) as f32)).concat();
    assert_eq!(numbers(&both(&buffer)), [row(0), row(1)].concat());
    assert_eq!(numbers(&seen), numbers(&entries(0..3)));
}

#[test]
fn no_entries_change_nothing() {
    let mut buffer = buffer(8);
    buffer.append(&entries(0..3)).unwrap();
    let seen = both(&buffer);
    seen.eval().unwrap();
    buffer.truncate(1).unwrap();
    buffer.append(&entries(3..3)).unwrap();
    buffer.append(&entries(6..7)).unwrap();
    both(&buffer).eval().unwrap();
    assert_eq!(numbers(&seen), numbers(&entries(0..3)));
}

/// An array that fills a buffer whole may become the buffer.
#[test]
fn a_full_buffer_does_not_write_into_what_filled_it() {
    let mut buffer = buffer(4);
    let filling = entries(0..4);
    buffer.append(&filling).unwrap();
    let seen = both(&buffer);
    seen.eval().unwrap();
    buffer.truncate(2).unwrap();
    buffer.append(&entries(6..8)).unwrap();
    both(&buffer).eval().unwrap();
    assert_eq!(numbers(&filling), numbers(&entries(0..4)));
    assert_eq!(numbers(&seen), numbers(&entries(0..4)));
    buffer.truncate(0).unwrap();
    buffer.append(&entries(4..5)).unwrap();
    assert_eq!(numbers(&both(&buffer)), numbers(&entries(4..5)));
}

#[test]
fn a_step_is_added_while_the_one_before_runs() {
    let mut buffer = buffer(64);
    let mut sums = Vec::new();
    for token in 0..64 {
        buffer.append(&entries(token..token + 1)).unwrap();
        let sum = both(&buffer).sum(None).unwrap();
        transforms::async_eval([&sum]).unwrap();
        sums.push(sum);
    }
    for (token, sum) in sums.iter().enumerate() {
        let expected: f32 = numbers(&entries(0..token + 1)).iter().sum();
        assert_eq!(sum.item_exact::<f32>(), expected, "the sum of {} entries", token + 1);
    }
}

/// Handles that hold each other would overflow the stack when the last is dropped.
#[test]
fn a_long_text_leaves_no_chain() {
    let on_a_small_stack = || {
        let mut buffer = AppendBuffer::new(&[1, 20_000], 1, Dtype::Float32).unwrap();
        let one = Array::from_slice(&[1.0_f32], &[1, 1]);
        for token in 0..20_000 {
            if token % 2 == 1 && token < 200 {
                buffer.truncate(buffer.len() - 1).unwrap();
            }
            buffer.append(&one).unwrap();
            buffer.view(0, 0..1).unwrap().eval().unwrap();
        }
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(on_a_small_stack).unwrap().join().unwrap();
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |outcome: Result<(), Exception>, expected: &str| {
        let message = outcome.expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    };
    let mut buffer = buffer(4);
    buffer.append(&entries(0..3)).unwrap();
    refused(buffer.append(&entries(3..5)), "2 entries do not fit into 1");
    refused(buffer.append(&Array::from_slice(&[0.0_f32; 8], &[2, 1, 4])), "[2, 1, 4] do not continue");
    refused(buffer.append(&Array::from_slice(&[0.0_f32; 3], &[3])), "[3] do not continue");
    refused(buffer.append(&Array::from_slice(&[0_i32; 6], &[2, 1, 3])), "Int32 entries");
    refused(buffer.truncate(4), "cannot keep 4 of 3");
    refused(buffer.view(1, 0..1).map(drop), "axis 1");
    refused(buffer.view(2, 0..4).map(drop), "0..4 along axis 2");
    refused(AppendBuffer::new(&[2, 4], 2, Dtype::Float32).map(drop), "no axis 2");
    assert_eq!(numbers(&both(&buffer)), numbers(&entries(0..3)), "nothing is lost");
}
