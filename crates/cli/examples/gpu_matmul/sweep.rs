//! All ways to cut up one kernel's work, for tuning.

use crate::MLX;
use crate::engine::quantized::gpu::matvec::{MAX_TOKENS, MatvecShape};
use crate::engine::quantized::gpu::tiled::TileShape;
use crate::work::{Candidate, Kind};

pub fn matvec(tokens: usize) -> Vec<Candidate> {
    let mut candidates = vec![Candidate::new(MLX, Kind::Mlx)];
    let mut at_once: Vec<usize> = [1, 2, 4, 8].into_iter().filter(|&n| n < tokens.min(MAX_TOKENS)).collect();
    at_once.push(tokens.min(MAX_TOKENS));
    for tokens in at_once {
        for rows in [1, 2, 4, 8] {
            if tokens * rows > 32 {
                continue;
            }
            for simd_groups in [1, 2, 4, 8, 16] {
                let shape = MatvecShape { tokens, rows, simd_groups };
                let name = format!("{tokens} tokens, {rows} rows, {simd_groups} SIMD groups");
                candidates.push(Candidate::new(name, Kind::Matvec(shape)));
            }
        }
    }
    candidates
}

pub fn tiled() -> Vec<Candidate> {
    let mut candidates = vec![Candidate::new(MLX, Kind::Mlx)];
    let shapes = [
        [16, 64, 1, 4],
        [16, 128, 1, 4],
        [32, 64, 1, 4],
        [32, 64, 2, 2],
        [32, 128, 1, 4],
        [64, 64, 2, 2],
        [64, 128, 1, 4],
        [64, 128, 2, 4],
        [128, 64, 2, 2],
        [128, 64, 4, 2],
        [128, 128, 2, 2],
        [128, 128, 2, 4],
        [128, 128, 4, 2],
        [256, 64, 4, 2],
        [64, 256, 2, 4],
    ];
    for [m, n, simd_m, simd_n] in shapes {
        for splits in [1, 2, 4, 8] {
            if splits > 1 && m > 64 {
                continue;
            }
            let shape = TileShape { m, n, k: 32, simd_m, simd_n, splits };
            let name = format!("{m} x {n}, SIMD {simd_m} x {simd_n}, {splits} splits");
            candidates.push(Candidate::new(name, Kind::Tiled(shape)));
        }
    }
    candidates
}
