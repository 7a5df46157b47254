//! Recognises an answer whose values are right but stand in the wrong places.

use crate::compare::{Tolerance, distance};
use crate::values::Values;

/// Answers with more dimensions or entries than this are not searched.
const MAX_DIMS: usize = 5;
const MAX_ENTRIES: usize = 1 << 16;

/// Says how `got` is a rearrangement of `expected`, or None when it is not.
pub fn rearrangement(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<String> {
    if got.len() != expected.len() || got.len() > MAX_ENTRIES || got.len() < 2 || expected.shape.len() > MAX_DIMS {
        return None;
    }
    let same = |values: &[f64]| distance(&got.data, values, tolerance) <= 1.0;
    if got.shape != expected.shape && same(&expected.data) {
        return Some(format!(
            "looks like: a reshape is missing at the end, the values are right in the shape {:?}",
            expected.shape
        ));
    }
    for axes in permutations(expected.shape.len()) {
        let moved = transposed(expected, &axes);
        if !same(&moved.data) {
            continue;
        }
        let swap = describe_axes(&axes);
        return Some(if moved.shape == got.shape {
            format!("looks like: {swap}; move the axes back")
        } else {
            format!("looks like: the values are right but {swap} in memory; swap axes instead of (or before) reshaping")
        });
    }
    if got.shape == expected.shape { moved_slices(got, expected, tolerance) } else { None }
}

/// All orders of `n` axes except the identity, simple swaps first.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for _ in 0..n {
        let longer = orders.iter().flat_map(|order: &Vec<usize>| {
            (0..n).filter(|axis| !order.contains(axis)).map(|axis| [order.as_slice(), &[axis]].concat())
        });
        orders = longer.collect();
    }
    let n_moved = |order: &Vec<usize>| order.iter().enumerate().filter(|(at, axis)| at != *axis).count();
    orders.retain(|order| n_moved(order) > 0);
    orders.sort_by_key(n_moved);
    orders
}

fn describe_axes(axes: &[usize]) -> String {
    let moved: Vec<_> = (0..axes.len()).filter(|&at| axes[at] != at).collect();
    match moved[..] {
        [a, b] => format!("axes {a} and {b} are swapped"),
        _ => format!("the axes stand in the order {axes:?}"),
    }
}

/// Axis `i` of the result is axis `axes[i]` of `values`.
fn transposed(values: &Values, axes: &[usize]) -> Values {
    let shape: Vec<usize> = axes.iter().map(|&axis| values.shape[axis]).collect();
    let mut result = Values { dtype: values.dtype, shape, data: Vec::with_capacity(values.len()) };
    let strides = strides(&values.shape);
    for flat in 0..values.len() {
        let index = result.index(flat);
        let source: usize = index.iter().zip(axes).map(|(&i, &axis)| i * strides[axis]).sum();
        result.data.push(values.data[source]);
    }
    result
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// Every slice along one axis is right but stands at another index: heads in another order, rows shifted.
fn moved_slices(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<String> {
    for axis in 0..expected.shape.len() {
        let n = expected.shape[axis];
        if !(2..=64).contains(&n) {
            continue;
        }
        let slices = |values| (0..n).map(|i| slice(values, axis, i)).collect::<Vec<_>>();
        let (got_slices, expected_slices) = (slices(got), slices(expected));
        let source = |slice: &Vec<f64>| {
            expected_slices.iter().position(|candidate| distance(slice, candidate, tolerance) <= 1.0)
        };
        let order: Option<Vec<usize>> = got_slices.iter().map(source).collect();
        let Some(order) = order else { continue };
        if order.iter().enumerate().all(|(at, &from)| at == from) {
            continue;
        }
        let every_slice_once = (0..n).all(|i| order.contains(&i));
        return Some(if every_slice_once {
            format!("looks like: the {n} slices along axis {axis} are right but stand in the order {order:?}")
        } else {
            format!("looks like: along axis {axis} slices are repeated, they are the answer's slices {order:?}")
        });
    }
    None
}

/// The entries with index `i` along `axis`, in row-major order.
fn slice(values: &Values, axis: usize, i: usize) -> Vec<f64> {
    let inner: usize = values.shape[axis + 1..].iter().product();
    let n = values.shape[axis];
    let belongs = |flat: &usize| flat / inner.max(1) % n == i;
    (0..values.len()).filter(belongs).map(|flat| values.data[flat]).collect()
}

/// Says where the mismatches lie, when they fill or leave out whole slices of one axis.
pub fn pattern(mismatches: &[usize], expected: &Values) -> Option<String> {
    if mismatches.len() == expected.len() || mismatches.is_empty() {
        return None;
    }
    for axis in 0..expected.shape.len() {
        let n = expected.shape[axis];
        let mut n_bad = vec![0; n];
        for &flat in mismatches {
            n_bad[expected.index(flat)[axis]] += 1;
        }
        let bad: Vec<usize> = (0..n).filter(|&i| n_bad[i] > 0).collect();
        if bad.len() == n {
            continue;
        }
        return Some(match bad[..] {
            [only] => format!("all of them have index {only} on axis {axis}"),
            [first, .., last] if last - first + 1 == bad.len() => {
                format!("all of them have indices {first} to {last} on axis {axis} (of 0 to {})", n - 1)
            }
            _ => format!("all of them have one of the indices {bad:?} on axis {axis}"),
        });
    }
    None
}
