//! How many operations and bytes a model's forward pass takes at least, whichever engine runs it.
//!
//! A multiplication and its addition count as two operations. Norms, rotary embedding, softmax and sampling are left out:
//! they are less than one percent of the sum.

use crate::measurements::Model;

impl Model {
    /// Parameters of the matrices that every token is multiplied with: all but the embedding, which is a look-up, and
    /// the output head, which only tokens need whose logits are read. (Norms and biases are counted in; they are few.)
    fn body_parameters(&self) -> u64 {
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        self.parameters - tables * self.head_parameters()
    }

    fn head_parameters(&self) -> u64 {
        self.vocab_size * self.hidden_size
    }

    /// Scores and weighted sums of one query in all heads and layers, over `context` keys.
    fn attention_flops(&self, context: u64) -> u64 {
        2 * 2 * self.num_hidden_layers * self.num_attention_heads * self.head_dim * context
    }

    /// Operations for a prompt of `n_tokens` whose last token alone gets logits. A causal query at position `i` attends to
    /// `i + 1` keys.
    pub fn prefill_flops(&self, n_tokens: u64) -> u64 {
        let attended = n_tokens * (n_tokens + 1) / 2;
        2 * self.body_parameters() * n_tokens + 2 * self.head_parameters() + self.attention_flops(attended)
    }

    /// Operations for one token that attends to `context` keys, itself among them.
    pub fn decode_flops(&self, context: u64) -> u64 {
        2 * (self.body_parameters() + self.head_parameters()) + self.attention_flops(context)
    }

    /// Bytes of the keys and values of `n_tokens` tokens.
    pub fn cache_bytes(&self, n_tokens: u64, dtype_bytes: u64) -> u64 {
        2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * n_tokens * dtype_bytes
    }
}

#[cfg(test)]
mod tests {
    use crate::measurements::examples;

    // SmolLM2-135M, counted by hand.
    const BODY: u64 = 30 * (576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536 + 2 * 576) + 576;
    const HEAD: u64 = 49_152 * 576;

    #[test]
    fn operations_follow_from_the_shape() {
        let mut model = examples::measurements(vec![]).model;
        assert_eq!(model.parameters, BODY + HEAD);
        assert_eq!(model.decode_flops(0), 2 * (BODY + HEAD));
        // 30 layers of 9 heads, 64 products for the score and 64 for the sum, each two operations.
        assert_eq!(model.decode_flops(10) - model.decode_flops(0), 30 * 9 * 256 * 10);
        assert_eq!(model.prefill_flops(1), model.decode_flops(1));
        assert_eq!(model.prefill_flops(3) - 2 * HEAD, 3 * 2 * BODY + 30 * 9 * 256 * (1 + 2 + 3));

        // A head of its own is computed with; an embedding is only looked up.
        model.tie_word_embeddings = false;
        model.parameters += HEAD;
        assert_eq!(model.decode_flops(0), 2 * (BODY + HEAD));
    }

    #[test]
    fn keys_and_values_of_every_layer_are_cached() {
        let model = examples::measurements(vec![]).model;
        assert_eq!(model.cache_bytes(100, 4), 2 * 30 * 192 * 100 * 4);
    }
}
