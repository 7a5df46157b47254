//! Recognises an answer whose values are right but stand in the wrong places.

use crate::cause::Guess;
use crate::compare::{Tolerance, distance};
use crate::values::Values;

/// Answers with more dimensions or entries than this are not searched.
const MAX_DIMS: usize = 5;
const MAX_ENTRIES: usize = 1 << 16;

/// Slices nearer to each other than this many tolerances are one slice to a comparison.
const APART: f64 = 4.0;

/// Says how `got` is a rearrangement of `expected`, or None when it is not.
pub fn rearrangement(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<Guess> {
    if got.len() != expected.len() || got.len() > MAX_ENTRIES || got.len() < 3 || expected.shape.len() > MAX_DIMS {
        return None;
    }
    let same = |values: &[f64]| distance(&got.data, values, tolerance) <= 1.0;
    if got.shape != expected.shape && same(&expected.data) {
        let sentence =
            format!("a reshape is missing at the end, the values are right in the shape {:?}", expected.shape);
        return Some(Guess { pattern: "reshape", sentence });
    }
    for axes in permutations(expected.shape.len()) {
        let moved = transposed(expected, &axes);
        // In one shape an answer that this leaves almost as it was proves nothing.
        let moves = got.shape != expected.shape || distance(&moved.data, &expected.data, tolerance) >= APART;
        if !moves || !same(&moved.data) {
            continue;
        }
        let swap = describe_axes(&axes);
        let sentence = if moved.shape == got.shape {
            format!("{swap}; move the axes back")
        } else {
            format!("the values are right but {swap} in memory; swap axes instead of (or before) reshaping")
        };
        return Some(Guess { pattern: "axes", sentence });
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
fn moved_slices(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<Guess> {
    for axis in 0..expected.shape.len() {
        let n = expected.shape[axis];
        // A single number is soon equal to another one.
        if !(2..=64).contains(&n) || expected.len() / n < 2 {
            continue;
        }
        let slices = |values| (0..n).map(|i| slice(values, axis, i)).collect::<Vec<_>>();
        let (got_slices, expected_slices) = (slices(got), slices(expected));
        if !all_different(&expected_slices, tolerance) {
            continue;
        }
        let source = |slice: &Vec<f64>| {
            expected_slices.iter().position(|candidate| distance(slice, candidate, tolerance) <= 1.0)
        };
        let order: Option<Vec<usize>> = got_slices.iter().map(source).collect();
        let Some(order) = order else { continue };
        if order.iter().enumerate().all(|(at, &from)| at == from) {
            continue;
        }
        let every_slice_once = (0..n).all(|i| order.contains(&i));
        let which = shortened(&order);
        let (pattern, sentence) = if every_slice_once {
            ("order", format!("the {n} slices along axis {axis} are right but stand in the order {which}"))
        } else {
            ("repeated", format!("along axis {axis} slices are repeated, they are the answer's slices {which}"))
        };
        return Some(Guess { pattern, sentence });
    }
    None
}

/// Whether no slice can be taken for another one, nor for zeros.
fn all_different(slices: &[Vec<f64>], tolerance: Tolerance) -> bool {
    let zeros = vec![0.0; slices.first().map_or(0, Vec::len)];
    slices.iter().enumerate().all(|(i, slice)| {
        distance(&zeros, slice, tolerance) >= APART
            && slices[..i].iter().all(|other| distance(slice, other, tolerance) >= APART)
    })
}

/// At most four of the indices.
fn shortened(indices: &[usize]) -> String {
    match indices {
        [a, b, c, d, _, ..] => format!("[{a}, {b}, {c}, {d}, ..]"),
        _ => format!("{indices:?}"),
    }
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
        let n_bad = bad.len();
        let good = || (0..n).find(|i| !bad.contains(i)).unwrap_or_default();
        return Some(match bad[..] {
            [only] => format!("all of them have index {only} on axis {axis}"),
            [first, .., last] if last - first + 1 == n_bad => {
                format!("all of them have indices {first} to {last} on axis {axis} (of 0 to {})", n - 1)
            }
            _ if n_bad <= 4 => format!("all of them have one of the indices {bad:?} on axis {axis}"),
            _ if n_bad == n - 1 => format!("none of them has index {} on axis {axis}", good()),
            [first, .., last] if 2 * n_bad <= n => {
                format!("all of them have one of {n_bad} indices on axis {axis}, {first} to {last} (of 0 to {})", n - 1)
            }
            _ => continue,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx_rs::Dtype;

    const CLOSE: Tolerance = Tolerance { atol: 0.01, rtol: 0.0 };

    fn values(shape: &[usize], data: &[f64]) -> Values {
        Values { dtype: Dtype::Float32, shape: shape.to_vec(), data: data.to_vec() }
    }

    /// Where the rows `bad` of an array of `n` rows are wrong.
    fn of_rows(bad: &[usize], n: usize) -> Option<String> {
        let expected = values(&[n, 2], &vec![1.0; 2 * n]);
        let mismatches: Vec<usize> = bad.iter().flat_map(|row| [2 * row, 2 * row + 1]).collect();
        pattern(&mismatches, &expected)
    }

    #[test]
    fn no_more_than_four_indices_are_listed() {
        let said = |bad: &[usize], n| of_rows(bad, n).unwrap_or_default();
        assert_eq!(said(&[1, 3, 4, 7], 9), "all of them have one of the indices [1, 3, 4, 7] on axis 0");
        let five = "all of them have one of 5 indices on axis 0, 1 to 9 (of 0 to 11)";
        assert_eq!(said(&[1, 3, 4, 7, 9], 12), five);
        assert_eq!(of_rows(&[1, 3, 4, 7, 8], 9), None);
        assert_eq!(said(&[0, 1, 3, 4, 5, 6], 7), "none of them has index 2 on axis 0");
        assert_eq!(said(&[2, 3, 4, 5, 6], 9), "all of them have indices 2 to 6 on axis 0 (of 0 to 8)");
    }

    #[test]
    fn slices_that_a_comparison_takes_for_one_another_say_nothing() {
        // One output of four tokens, all near zero: the answer's values are each other's within the tolerance.
        let expected = values(&[1, 4], &[0.001, 0.02, -0.015, 0.0]);
        assert_eq!(rearrangement(&values(&[1, 4], &[0.0; 4]), &expected, CLOSE), None);
        let near_zero = values(&[3, 2], &[0.001, 0.02, 0.5, 0.25, -0.015, 0.0]);
        assert_eq!(moved_slices(&values(&[3, 2], &[0.0, 0.01, 0.0, 0.01, 0.0, 0.01]), &near_zero, CLOSE), None);
    }

    #[test]
    fn repeated_slices_are_seen_where_they_differ() {
        let expected = values(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let guess = moved_slices(&values(&[3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]), &expected, CLOSE).unwrap();
        assert_eq!(guess.sentence, "along axis 0 slices are repeated, they are the answer's slices [0, 0, 0]");
    }
}
