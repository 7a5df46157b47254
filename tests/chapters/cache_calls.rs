//! Feeding caches and looking at what comes back.

use std::sync::Arc;

use crate::named::check_that;
use grader::{Case, Rng, Tolerance, check_close, strided};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use tiny_llm::{Error, FullKvCache, KvAppend, KvBuffers, KvCache, Result};

/// The result of the case's append; the stored buffers are given up, as a cache does. New keys and values may come
/// out of a transpose.
pub fn append(case: &Case, stored: Option<KvBuffers>, other_memory_order: bool) -> Result<KvBuffers> {
    let new = |name: &str| {
        let array = case.array(name);
        if other_memory_order { strided(&array) } else { Ok(array) }
    };
    let operation = KvAppend::new(case.i32("len") as usize, case.i32("capacity") as usize, Arc::default());
    operation.apply(stored.as_ref(), &new("keys")?, &new("values")?)
}

pub fn stored_buffers(case: &Case) -> Option<KvBuffers> {
    case.optional_array("stored_keys").map(|keys| KvBuffers { keys, values: case.array("stored_values") })
}

/// Checks the stored and the new tokens of both buffers; what lies behind them is nobody's business.
#[track_caller]
pub fn check_filled(case: &Case, result: Result<KvBuffers>) {
    let (len, capacity) = (case.i32("len") + case.i32("new"), case.i32("capacity"));
    let filled = |array: &Array| {
        assert_eq!(array.dim(2), capacity, "the capacity of the result");
        array.try_index((.., .., ..len))
    };
    match result {
        Ok(buffers) => {
            check_every_row(case, &buffers.keys);
            case.check(filled(&buffers.keys));
            case.check_named("values", filled(&buffers.values));
        }
        Err(error) => case.check(Err(error)),
    }
}

/// What a row or a head that was forgotten holds is rubbish, which no stored mistake equals.
#[track_caller]
fn check_every_row(case: &Case, keys: &Array) {
    let (from, to) = (case.i32("len"), case.i32("len") + case.i32("new"));
    let (got, new) = (tokens(keys, from, to), case.array("keys"));
    let (batch, kv_heads) = (new.dim(0), new.dim(1));
    let is_written = |row: i32, head: i32| {
        let same = got.try_index((row, head)).and_then(|got| got.eq(&new.try_index((row, head))?)?.all(None));
        must(same.map_err(Error::from)).item_cast::<bool>()
    };
    let rows: Vec<bool> = (0..batch).map(|row| (0..kv_heads).all(|head| is_written(row, head))).collect();
    let heads: Vec<bool> = (0..kv_heads).map(|head| (0..batch).all(|row| is_written(row, head))).collect();
    let only_first = |written: &[bool]| written.len() > 1 && written[0] && written[1..].iter().all(|written| !written);
    let cause = if only_first(&rows) {
        "looks like: only the heads of the first batch row were written; every row has heads of its own"
    } else {
        "looks like: only the first head was written"
    };
    let fails = only_first(&rows) || only_first(&heads);
    check_that(
        &format!("{}: the new tokens' keys", case.name()),
        !fails,
        || format!("rows written: {rows:?}"),
        Some(cause),
    );
}

/// Appends `keys` and `values` in chunks; returns what the last one fetched.
pub fn feed(cache: &mut FullKvCache, keys: &Array, values: &Array, chunks: &[i32]) -> Result<(Array, Array)> {
    let mut from = 0;
    let mut fetched = (keys.clone(), values.clone());
    for n_new in chunks {
        fetched = cache.update_and_fetch(&tokens(keys, from, from + n_new), &tokens(values, from, from + n_new))?;
        from += n_new;
    }
    Ok(fetched)
}

/// `len` as a sum of `chunk`s and a rest.
pub fn chunks_of(len: i32, chunk: i32) -> Vec<i32> {
    (0..len).step_by(chunk as usize).map(|from| chunk.min(len - from)).collect()
}

/// Keys as the case's first output, then values.
#[track_caller]
pub fn check_pair(case: &Case, fetched: Result<(Array, Array)>) {
    match fetched {
        Ok((keys, values)) => {
            case.check(Ok::<_, Error>(keys));
            case.check_named("values", Ok::<_, Error>(values));
        }
        Err(error) => case.check(Err(error)),
    }
}

/// Nothing is computed in a cache, so nothing may be rounded.
#[track_caller]
pub fn check_both(what: &str, fetched: Result<(Array, Array)>, (keys, values): (&Array, &Array)) {
    let exact = Tolerance { atol: 0.0, rtol: 0.0 };
    match fetched {
        Ok((fetched_keys, fetched_values)) => {
            check_close(&format!("{what}: keys"), Ok::<_, Error>(fetched_keys), keys, exact);
            check_close(&format!("{what}: values"), Ok::<_, Error>(fetched_values), values, exact);
        }
        Err(error) => check_close(what, Err(error), keys, exact),
    }
}

/// Tokens `from..to` of `[B, H_kv, S, D]`.
pub fn tokens(array: &Array, from: i32, to: i32) -> Array {
    must(array.try_index((.., .., from..to)).map_err(Error::from))
}

/// Numbers counted up from `first` in eighths, rounded to `dtype`.
pub fn numbers(shape: &[i32], first: i32, dtype: Dtype) -> Array {
    let n: i32 = shape.iter().product();
    let numbers = Array::from_iter((0..n).map(|i| ((first + i) % 2003) as f32 / 8.0), shape);
    must(numbers.as_dtype(dtype).map_err(Error::from))
}

/// Keys and values of one shape that differ everywhere.
pub fn two_kinds(shape: &[i32], dtype: Dtype) -> (Array, Array) {
    (numbers(shape, 0, dtype), numbers(shape, 1000, dtype))
}

pub fn random(rng: &mut Rng, [batch, kv_heads, head_dim]: [i32; 3], n_tokens: i32) -> Array {
    must(rng.array(&[batch, kv_heads, n_tokens, head_dim], Dtype::Float32).map_err(Error::from))
}

/// Where an array's numbers lie in memory, whatever their type.
pub fn place_of(array: &Array) -> usize {
    match array.dtype() {
        Dtype::Float16 => array.as_slice::<half::f16>().as_ptr() as usize,
        Dtype::Bfloat16 => array.as_slice::<half::bf16>().as_ptr() as usize,
        _ => array.as_slice::<f32>().as_ptr() as usize,
    }
}

#[track_caller]
pub fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the call returned an error: {error}"))
}
