//! The sizes of the problem, and how it is cut into tiles.

/// Query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// B.
    pub batch: usize,
    /// H_q, a multiple of `num_kv_heads`.
    pub num_heads: usize,
    /// H_kv.
    pub num_kv_heads: usize,
    /// L.
    pub query_len: usize,
    /// S.
    pub key_len: usize,
    /// D.
    pub head_dim: usize,
}

impl AttentionShape {
    /// n: the number of query heads that share a key-value head.
    pub fn group(&self) -> usize {
        self.num_heads / self.num_kv_heads
    }

    /// Multiplications with a following addition, if no key is masked.
    pub fn multiply_adds(&self) -> usize {
        2 * self.batch * self.num_heads * self.query_len * self.key_len * self.head_dim
    }
}

/// How the work is cut up. Any tiling gives the same answer but for rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Positions in a tile of queries; it has as many rows for each head of the group.
    pub positions: usize,
    /// Keys in a tile of keys.
    pub keys: usize,
    /// Parts into which the S keys are split, each for another thread.
    pub splits: usize,
}

impl Tiling {
    /// A tile of keys and one of values take 32 KiB each at D = 64, and so stay in the second level of cache.
    const KEYS: usize = 128;
    /// The more rows use a tile of keys, the less its loading counts; their queries and accumulators take 96 KiB each.
    const ROWS: usize = 384;
    /// Below this, loading the keys costs more than computing with them.
    const FEWEST_ROWS: usize = 24;
    /// For a shorter part, merging would count.
    const FEWEST_KEYS_OF_A_SPLIT: usize = 64;
    /// With a few chunks per thread no thread waits long for the last one.
    const CHUNKS_PER_THREAD: usize = 4;

    /// Tiles that suit the caches, and give every thread something to do.
    pub fn new(shape: &AttentionShape, n_threads: usize) -> Self {
        let wanted = if n_threads > 1 { n_threads * Self::CHUNKS_PER_THREAD } else { 1 };
        let heads = (shape.batch * shape.num_kv_heads).max(1);
        let rows_to_positions = |rows: usize| rows.div_ceil(shape.group().max(1)).max(1);

        let evenly = shape.query_len.div_ceil(wanted.div_ceil(heads));
        let positions = evenly.clamp(rows_to_positions(Self::FEWEST_ROWS), rows_to_positions(Self::ROWS));
        let n_tiles = heads * shape.query_len.div_ceil(positions).max(1);
        let splits = wanted.div_ceil(n_tiles).min(shape.key_len / Self::FEWEST_KEYS_OF_A_SPLIT).max(1);
        Self { positions, keys: Self::KEYS, splits }
    }
}
