//! Task 1: activations of 16 bits.

use grader::{Fixture, Guarded, Rng, property};
use mlx_rs::Array;
use rstest::rstest;
use tiny_llm::quantized::activations::{self, LANES};

use crate::quantized_matrices::{Format, f32s, formats, random_activations};
use crate::{DAY, bits, group_size};

#[rstest]
fn quantize_row(
    #[values(
        "4_bits_groups_of_32",
        "4_bits_half_chunk",
        "4_bits_one_group",
        "4_bits_groups_of_64",
        "4_bits_groups_of_128",
        "8_bits_groups_of_32",
        "8_bits_groups_of_64",
        "8_bits_groups_of_128",
        "zeros_in_the_middle",
        "halves"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("row/{name}"));
    let row = rounded_row(&f32s(&case.array("x")), Format { group_size: group_size(case), bits: bits(case) });
    let vector = |values: &[f32]| Ok::<_, tiny_llm::Error>(Array::from_slice(values, &[values.len() as i32]));
    let integers: Vec<i32> = row.integers.iter().map(|&integer| i32::from(integer)).collect();
    case.check(Ok::<_, tiny_llm::Error>(Array::from_slice(&integers, &[integers.len() as i32])));
    case.check_named("scales", vector(&row.scales));
    case.check_named("sums", vector(&row.sums));
}

/// Every number is within half a step of a group's `max |x| / 32767`, and the sums are those of the integers.
#[test]
fn errors_are_half_a_step() {
    property(8, |rng| {
        for format in formats() {
            let n_groups = rng.between(1, 5) as usize;
            let x = random_activations(rng, 1, n_groups * format.group_size);
            let row = rounded_row(&x, format);
            for (group, values) in x.chunks_exact(format.group_size).enumerate() {
                let step = f64::from(values.iter().fold(0.0_f32, |most, x| most.max(x.abs()))) / 32767.0;
                let mut sum = 0.0;
                for (i, value) in values.iter().enumerate() {
                    let back = f64::from(row.scales[group]) * row.integer(group * format.group_size + i);
                    let error = (back - f64::from(*value)).abs();
                    assert!(error <= 0.51 * step, "{format}: {value} became {back}; off by {} steps", error / step);
                    sum += back;
                }
                let off = (f64::from(row.sums[group]) - sum).abs();
                assert!(off <= 1e-6 * sum.abs() + 1e-30, "{format}: the sum is {}, not {sum}", row.sums[group]);
            }
        }
    });
}

#[rstest]
fn what_is_not_finite_spoils_its_group_and_no_other(
    #[values(f32::NAN, f32::INFINITY, f32::NEG_INFINITY)] bad: f32,
    #[values(64, 70, 95)] at: usize,
) {
    let x = random_activations(&mut Rng::new(5), 1, 160);
    let format = Format { group_size: 32, bits: 4 };
    let clean = rounded_row(&x, format);
    let mut spoiled = x;
    spoiled[at] = bad;
    let row = rounded_row(&spoiled, format);
    for group in 0..5 {
        let (scale, sum) = (row.scales[group], row.sums[group]);
        if group == 2 {
            assert!(scale.is_nan() && sum.is_nan(), "the group with {bad}: scale {scale}, sum {sum}; both must be NaN");
        } else {
            assert_eq!((scale, sum), (clean.scales[group], clean.sums[group]), "group {group}, when group 2 has {bad}");
        }
    }
}

#[test]
fn zeros_give_zeros() {
    let format = Format { group_size: 32, bits: 8 };
    let zeros = rounded_row(&[0.0; 64], format);
    assert!(zeros.integers.iter().all(|&integer| integer == 0), "integers of zeros");
    assert_eq!((zeros.scales, zeros.sums), (vec![0.0; 2], vec![0.0; 2]), "scales and sums of zeros");
}

/// A step that is no normal number has no inverse to speak of: such a group counts as zeros. Above that, half a step is the limit.
#[rstest]
fn tiny_groups(
    #[values(1e-45_f32, 1e-42, 1e-38, 9e-35, 3.8e-34, 3.9e-34, 1e-30)] tiny: f32,
    #[values(4, 8)] bits: usize,
) {
    let format = Format { group_size: 32, bits };
    let x: Vec<f32> = (0..32).map(|i| if i % 2 == 0 { tiny } else { -tiny / 3.0 }).collect();
    let row = rounded_row(&x, format);
    let step = f64::from(tiny) / 32767.0;
    if tiny / 32767.0 < f32::MIN_POSITIVE {
        assert_eq!(
            (row.scales[0], row.sums[0]),
            (0.0, 0.0),
            "scale and sum of a group up to {tiny:e}: it counts as zeros"
        );
        assert!(
            row.integers.iter().all(|&integer| integer == 0),
            "integers of a group up to {tiny:e}: it counts as zeros"
        );
        return;
    }
    for (i, value) in x.iter().enumerate() {
        let back = f64::from(row.scales[0]) * row.integer(i);
        assert!((back - f64::from(*value)).abs() <= 0.51 * step, "{value:e} became {back:e}, a step is {step:e}");
    }
}

/// One group with numbers as large as f32 has them beside one with small ones.
#[test]
fn the_largest_numbers_do_not_overflow() {
    let format = Format { group_size: 32, bits: 4 };
    let mut x = vec![f32::MAX; 32];
    x[7] = f32::MIN;
    x.extend([1.0; 32]);
    let row = rounded_row(&x, format);
    assert!((f64::from(row.scales[0]) * 32767.0 / f64::from(f32::MAX) - 1.0).abs() < 1e-6, "scale {:e}", row.scales[0]);
    assert_eq!((row.integer(0), row.integer(7), row.integer(40)), (32767.0, -32767.0, 32767.0));
    assert_eq!(row.sums[1], 32.0 * 32767.0 * row.scales[1], "the sum of the other group");
}

/// What is bought with two bytes instead of one. Other engines round to 8 bits here.
#[test]
fn eight_bits_would_be_258_times_coarser() {
    let x = random_activations(&mut Rng::new(6), 1, 4096);
    let format = Format { group_size: 32, bits: 4 };
    let row = rounded_row(&x, format);
    let error = |back: &dyn Fn(usize) -> f64| {
        let squares: f64 = x.iter().enumerate().map(|(i, x)| (f64::from(*x) - back(i)).powi(2)).sum();
        (squares / x.len() as f64).sqrt()
    };
    let sixteen = error(&|i| f64::from(row.scales[i / 32]) * row.integer(i));
    let eight = error(&|i| {
        let step = x[i / 32 * 32..][..32].iter().fold(0.0_f64, |most, x| most.max(f64::from(x.abs()))) / 127.0;
        (f64::from(x[i]) / step).round() * step
    });
    let ratio = eight / sixteen;
    assert!((230.0..290.0).contains(&ratio), "8 bits: {eight:e}, 16 bits: {sixteen:e}, ratio {ratio}");
}

/// A row of activations; what a longer buffer holds behind it is not its business.
struct RoundedRow {
    integers: Vec<i16>,
    scales: Vec<f32>,
    sums: Vec<f32>,
    planes: usize,
}

impl RoundedRow {
    /// The integer of number `at`.
    fn integer(&self, at: usize) -> f64 {
        let chunk = self.planes * LANES;
        f64::from(self.integers[at / chunk * chunk + at % self.planes * LANES + at % chunk / self.planes])
    }
}

fn rounded_row(x: &[f32], format: Format) -> RoundedRow {
    let planes = 16 / format.bits;
    let n_groups = x.len() / format.group_size;
    let mut row = RoundedRow {
        integers: vec![0; x.len().next_multiple_of(planes * LANES)],
        scales: vec![f32::NAN; n_groups],
        sums: vec![f32::NAN; n_groups],
        planes,
    };
    // What is read or written beside these fails the test.
    let (x, mut integers) = (Guarded::new(x), Guarded::new(&row.integers));
    let (mut scales, mut sums) = (Guarded::new(&row.scales), Guarded::new(&row.sums));
    activations::quantize_row(&x, format.group_size, planes, &mut integers, &mut scales, &mut sums);
    x.expect_untouched("x");
    integers.expect_untouched("the row's integers");
    scales.expect_untouched("the row's scales");
    sums.expect_untouched("the row's sums");
    (row.integers, row.scales, row.sums) = (integers.to_vec(), scales.to_vec(), sums.to_vec());
    row
}
