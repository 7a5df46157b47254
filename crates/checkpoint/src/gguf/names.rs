//! GGUF's tensor names and the Hugging Face names of the same tensors.

const WHOLE_MODEL: &[(&str, &str)] = &[
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

const IN_LAYER: &[(&str, &str)] = &[
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
];

/// `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; `None` for a name without a counterpart.
pub(crate) fn to_hf(name: &str) -> Option<String> {
    if let Some((_, hf_name)) = WHOLE_MODEL.iter().find(|(gguf_name, _)| *gguf_name == name) {
        return Some((*hf_name).to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    // Only the canonical spelling of a number: `03` and `+3` name no layer.
    layer.parse::<u32>().ok().filter(|number| number.to_string() == layer)?;
    let (module, kind) = rest.rsplit_once('.')?;
    let (_, hf_module) = IN_LAYER.iter().find(|(gguf_module, _)| *gguf_module == module)?;
    matches!(kind, "weight" | "bias").then(|| format!("model.layers.{layer}.{hf_module}.{kind}"))
}

/// Whether a name is one that the same tensor has outside of GGUF, and that no writer of GGUF files gives.
pub(crate) fn is_hf(name: &str) -> bool {
    name.starts_with("model.") || name.starts_with("lm_head.")
}

#[cfg(test)]
mod tests {
    use super::{is_hf, to_hf};

    #[test]
    fn known_names_are_translated() {
        assert_eq!(to_hf("token_embd.weight").as_deref(), Some("model.embed_tokens.weight"));
        assert_eq!(to_hf("blk.12.attn_k.bias").as_deref(), Some("model.layers.12.self_attn.k_proj.bias"));
        assert_eq!(to_hf("blk.0.ffn_norm.weight").as_deref(), Some("model.layers.0.post_attention_layernorm.weight"));
    }

    #[test]
    fn other_spellings_name_nothing() {
        for name in
            ["", "blk.", "blk.0", "blk.03.attn_q.weight", "blk.+3.attn_q.weight", "blk.0.attn_q", "blk.0.attn_q.scale"]
        {
            assert_eq!(to_hf(name), None, "{name}");
        }
    }

    #[test]
    fn no_name_of_gguf_looks_like_one_of_hugging_face() {
        for (gguf, hf) in super::WHOLE_MODEL {
            assert!(is_hf(hf) && !is_hf(gguf));
        }
        assert!(is_hf("model.layers.0.mlp.up_proj.weight") && !is_hf("blk.0.ffn_up.weight"));
    }
}
