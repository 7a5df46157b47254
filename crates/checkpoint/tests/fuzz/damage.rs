//! How a file is damaged: by its bytes, or as the JSON that it holds.

use std::ops::Range;

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Numbers that parsers stumble over.
const EXTREMES: [u64; 14] = [
    0,
    1,
    3,
    7,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    u64::MAX - 7,
    u64::MAX,
];

/// Texts that readers and terminals stumble over.
const TEXTS: [&str; 12] = [
    "",
    " ",
    "\u{1b}]0;title\u{7}",
    "line\nerror: another",
    "\u{9b}31m\u{202e}",
    "../../etc/passwd",
    "true",
    "F32",
    "default",
    "{{ 1 / 0 }}",
    "\u{0}",
    "ä🦀e\u{301}",
];

/// A few changes within `range`, often one: flipped bits, extreme numbers, bytes taken out, doubled or cut off.
pub fn bytes(bytes: &mut Vec<u8>, range: Range<usize>, rng: &mut Rng) {
    for _ in 0..[1, 1, 1, 2, 4][rng.usize(0..5)] {
        let end = range.end.min(bytes.len());
        if range.start >= end {
            return;
        }
        let at = rng.usize(range.start..end);
        match rng.u8(0..8) {
            0..=2 => bytes[at] ^= 1 << rng.u8(0..8),
            3 | 4 => {
                let width = [1, 2, 4, 8][rng.usize(0..4)];
                let number = EXTREMES[rng.usize(0..EXTREMES.len())].to_le_bytes();
                if let Some(target) = bytes.get_mut(at..at + width) {
                    target.copy_from_slice(&number[..width]);
                }
            }
            5 => drop(bytes.drain(at..(at + rng.usize(1..=16)).min(end))),
            6 => {
                let copy = bytes[at..(at + rng.usize(1..=64)).min(end)].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(at.max(end / 2)),
        }
    }
}

/// The text of a JSON value after one to three changes; now and then some bytes of the text change as well.
pub fn json(original: &Value, rng: &mut Rng) -> Vec<u8> {
    let mut value = original.clone();
    for _ in 0..rng.usize(1..=3) {
        let mut place = rng.usize(0..count(&value));
        change(&mut value, &mut place, rng);
    }
    let mut text = value.to_string().into_bytes();
    if rng.u8(0..6) == 0 {
        let all = 0..text.len();
        bytes(&mut text, all, rng);
    }
    text
}

/// The nodes of a tree.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum::<usize>(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the node that comes `place` after this one.
fn change(value: &mut Value, place: &mut usize, rng: &mut Rng) {
    if *place == 0 {
        *place = usize::MAX;
        return change_here(value, rng);
    }
    *place -= 1;
    match value {
        Value::Array(values) => {
            for child in values {
                change(child, place, rng);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        Value::Object(fields) => {
            for child in fields.values_mut() {
                change(child, place, rng);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        _ => {}
    }
}

fn change_here(value: &mut Value, rng: &mut Rng) {
    match (rng.u8(0..4), &mut *value) {
        // By its own kind first: another number, another text, fewer or more entries.
        (0 | 1, Value::Number(number)) => {
            let old = number.as_u64().unwrap_or(1);
            let near = [old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2), old / 2, old.wrapping_neg()];
            *value = near[rng.usize(0..near.len())].into();
        }
        (0, Value::String(text)) => {
            let at = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).nth(rng.usize(0..=text.chars().count()));
            text.insert_str(at.unwrap_or(0), TEXTS[rng.usize(0..TEXTS.len())]);
        }
        (0..=2, Value::Array(values)) if !values.is_empty() => {
            let at = rng.usize(0..values.len());
            match rng.u8(0..3) {
                0 => drop(values.remove(at)),
                1 => values.insert(at, values[at].clone()),
                _ => values.swap(at, 0),
            }
        }
        (0..=2, Value::Object(fields)) if !fields.is_empty() => change_fields(fields, rng),
        _ => *value = anything(rng),
    }
}

fn change_fields(fields: &mut Map<String, Value>, rng: &mut Rng) {
    let name = fields.keys().nth(rng.usize(0..fields.len())).unwrap().clone();
    let other = fields.keys().nth(rng.usize(0..fields.len())).unwrap().clone();
    match rng.u8(0..4) {
        0 => drop(fields.remove(&name)),
        1 => {
            let moved = fields.remove(&name).unwrap_or_default();
            fields.insert(format!("{name}{}", TEXTS[rng.usize(0..TEXTS.len())]), moved);
        }
        2 => drop(fields.insert(name, fields[&other].clone())),
        _ => drop(fields.insert(TEXTS[rng.usize(0..TEXTS.len())].to_owned(), anything(rng))),
    }
}

fn anything(rng: &mut Rng) -> Value {
    match rng.u8(0..12) {
        0 => Value::Null,
        1 => rng.bool().into(),
        2 | 3 => EXTREMES[rng.usize(0..EXTREMES.len())].into(),
        4 => json!(-1),
        5 => json!([0.0, -0.5, 1e308, 1e-320, 1e39][rng.usize(0..5)]),
        6 | 7 => TEXTS[rng.usize(0..TEXTS.len())].into(),
        8 => "x".repeat(rng.usize(0..5_000)).into(),
        9 => json!([]),
        10 => json!({}),
        _ => (0..rng.usize(1..200)).fold(Value::Null, |inner, _| json!([inner])),
    }
}
