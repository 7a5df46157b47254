//! Task 2: a tile of queries over the keys.

use grader::{Fixture, Rng, check_close, check_rule, property};
use rstest::rstest;
use tiny_llm::flash_attention::available_variants;

use crate::tiled::{FirstKeys, TileByTile, Without, check_nan_rows};
use crate::{DAY, F32};

#[rstest]
fn attend(
    #[values(
        "one_tile",
        "whole_tiles",
        "last_tile_short",
        "rows_see_more_and_more",
        "many_rows",
        "tiles_unseen_by_some",
        "hidden_keys_score_high"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("tile/{name}"));
    let filter = FirstKeys(case.i32s("visible").iter().map(|&n| n as usize).collect());
    let tiles = TileByTile::of(case, case.i32("tile") as usize);
    for variant in available_variants() {
        case.check(Ok::<_, String>(tiles.run(variant, &filter)));
    }
}

/// Rows around the blocks of 6 and 24 and the change of layout, keys around vectors and tiles, D with a tail or without.
#[rstest]
fn sizes_around_blocks_vectors_and_tiles(#[values(1, 5, 6, 7, 11, 12, 13, 24, 25)] n_rows: usize) {
    let mut rng = Rng::new(n_rows as u64);
    let lengths = [(1, 1), (7, 8), (16, 16), (17, 16), (31, 32), (64, 64), (65, 64), (129, 64)];
    for ((n_keys, tile), head_dim) in pairs(&lengths, &[1, 7, 16, 48, 80]) {
        let tiles = TileByTile::random(&mut rng, [n_rows, n_keys, head_dim, tile]);
        let expected = tiles.expected(|_, _| true);
        for variant in available_variants() {
            let name = format!("{n_rows} rows, {n_keys} keys in tiles of {tile}, D = {head_dim}, {}", variant.name());
            check_close(&name, Ok::<_, String>(tiles.run(variant, &FirstKeys(vec![n_keys; n_rows]))), &expected, F32);
        }
    }
}

/// Each of the first with each of the second.
fn pairs<A: Copy, B: Copy>(first: &[A], second: &[B]) -> impl Iterator<Item = (A, B)> {
    first.iter().flat_map(|&a| second.iter().map(move |&b| (a, b)))
}

/// The filter is told the right row and the right first key, and is asked about visible keys only.
#[rstest]
fn hidden_keys(#[values(20, 60)] most_rows: i32) {
    property(12, |rng| {
        let sizes = [rng.between(1, most_rows), rng.between(8, 40), rng.between(1, 20), rng.between(1, 12)];
        let tiles = TileByTile::random(rng, sizes.map(|n| n as usize));
        // The first key stays visible.
        let visible: Vec<usize> = (0..tiles.n_rows).map(|_| rng.between(1, tiles.n_keys as i32) as usize).collect();
        // Rows 24 apart have other hidden keys: they may stand at the same place in two blocks.
        let hidden = |row: usize, key: usize| !key.is_multiple_of(7) && (row + key * key).is_multiple_of(5);
        let expected = tiles.expected(|row, key| key < visible[row] && !hidden(row, key));
        for variant in available_variants() {
            let name = format!("{sizes:?} = rows, keys, D, keys of a tile; {}", variant.name());
            let filter = Without(visible.clone(), hidden);
            check_close(&name, Ok::<_, String>(tiles.run(variant, &filter)), &expected, F32);
        }
    });
}

/// One key is hidden by the filter. It scores so high that next to it nothing else has any weight, or is no number at all.
#[test]
fn a_hidden_key_may_score_anything() {
    let hidden = |_row: usize, key: usize| key == 5;
    for number in [1e4, f32::INFINITY, f32::NAN] {
        let mut tiles = TileByTile::random(&mut Rng::new(4), [5, 16, 8, 8]);
        let expected = tiles.expected(|row, key| !hidden(row, key));
        tiles.key_mut(5).fill(number);
        for variant in available_variants() {
            let got = tiles.run(variant, &Without(vec![16; 5], hidden));
            let is_near = |(got, expected): (&f32, &f32)| (got - expected).abs() < 1e-4;
            let wrong = got.as_slice::<f32>().iter().zip(expected.as_slice::<f32>()).position(|pair| !is_near(pair));
            let holds = wrong.map_or(Ok(()), |at| Err(format!("row {} is not what its visible keys give", at / 8)));
            let cause = "looks like: a row's maximum or its weights come from scores before the filter has hidden keys";
            check_rule(&format!("{}: a hidden key of numbers {number}", variant.name()), holds, cause);
        }
    }
}

/// Keys that come late and score high, after tiles that were hidden altogether.
#[test]
fn hidden_tiles_leave_nothing_behind() {
    let mut rng = Rng::new(1);
    let tiles = TileByTile::random(&mut rng, [8, 12, 4, 3]);
    let hidden = |row: usize, key: usize| key < 3 * (row % 4);
    let expected = tiles.expected(|row, key| !hidden(row, key));
    for variant in available_variants() {
        let got = tiles.run(variant, &Without(vec![12; 8], hidden));
        check_close(variant.name(), Ok::<_, String>(got), &expected, F32);
    }
}

#[test]
fn rows_without_a_visible_key_are_nan() {
    let mut rng = Rng::new(2);
    let tiles = TileByTile::random(&mut rng, [7, 9, 4, 4]);
    for variant in available_variants() {
        let got = tiles.run(variant, &Without(vec![9, 0, 9, 9, 9, 9, 9], |row, _| row == 3));
        let rows: Vec<Vec<f32>> = got.as_slice::<f32>().chunks(4).map(<[f32]>::to_vec).collect();
        check_nan_rows(&format!("seven rows, {}", variant.name()), &rows, &[1, 3]);
    }
}
