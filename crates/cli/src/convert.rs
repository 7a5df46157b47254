//! `tiny-llm convert`: a GGUF file as the folder that mlx-lm reads.

use anyhow::Result;
use checkpoint::{Checkpoint, registry};

use crate::arguments::Convert;

pub fn run(arguments: &Convert) -> Result<()> {
    let checkpoint = Checkpoint::open(&registry::resolve(&arguments.model)?)?;
    checkpoint.write_mlx_folder(&arguments.output)?;
    eprintln!("wrote {}", arguments.output.display());
    Ok(())
}
