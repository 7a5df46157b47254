//! Provisions MLX without the runner: `cargo run -p mlx-setup --example provision`.

use std::path::Path;

fn main() -> Result<(), mlx_setup::Error> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    mlx_setup::ensure(None, &workspace, &mut |line| eprintln!("{line}"))?;
    Ok(())
}
