//! One paragraph about a model, for people.

use std::collections::BTreeMap;
use std::fmt;

use crate::architecture;
use crate::config::Config;
use crate::error::Result;

/// What `Display` prints: layers, heads, parameters, storage and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub config: Config,
    /// Positions that the model was made for: those of `config`, or more.
    pub positions_in_file: usize,
    /// Number of weights, counted before quantization; a tied head counts once.
    pub parameters: u64,
    /// Parameters by how they are stored, such as `bf16`, `Q4_1` or `4-bit (group 64)`.
    pub storage: BTreeMap<String, u64>,
    pub bytes_on_disk: u64,
}

impl Summary {
    pub(crate) fn new(
        config: &Config,
        positions_in_file: usize,
        storage_of: impl Fn(&str) -> Result<String>,
        bytes_on_disk: u64,
    ) -> Result<Self> {
        let mut storage = BTreeMap::new();
        for (name, shape) in architecture::tensors(config) {
            *storage.entry(storage_of(&name)?).or_default() += shape.iter().map(|&size| size as u64).product::<u64>();
        }
        let parameters = storage.values().sum();
        Ok(Self { config: config.clone(), positions_in_file, parameters, storage, bytes_on_disk })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { num_hidden_layers, hidden_size, num_attention_heads, num_key_value_heads, .. } = self.config;
        let head = if self.config.tie_word_embeddings { "tied" } else { "untied" };
        write!(
            f,
            "{:.1}M parameters, {num_hidden_layers} layers, hidden {hidden_size}, heads {num_attention_heads} ({num_key_value_heads} kv) of {}, vocabulary {} ({head}), context {}",
            self.parameters as f64 / 1e6,
            self.config.head_dim,
            self.config.vocab_size,
            self.config.max_position_embeddings,
        )?;
        if self.positions_in_file > self.config.max_position_embeddings {
            write!(f, " (of the {} that it was made for)", self.positions_in_file)?;
        }
        f.write_str("; ")?;
        let mut storage: Vec<_> = self.storage.iter().collect();
        storage.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let parts: Vec<_> = storage
            .iter()
            .map(|(kind, count)| format!("{kind} {:.1} %", **count as f64 / self.parameters.max(1) as f64 * 100.0))
            .collect();
        write!(f, "{}; {:.0} MB on disk", parts.join(", "), self.bytes_on_disk as f64 / 1e6)
    }
}
