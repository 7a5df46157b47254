//! From the command line to a loaded model.

use std::io::IsTerminal;
use std::sync::Once;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, Tokenizer};
use indicatif::ProgressBar;
use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Array, Device, DeviceType, Dtype};

use crate::arguments::{DeviceArgument, DtypeArgument, Input, ModelArguments};
use crate::engine::quantized::kernel::chosen_kernel;
use crate::engine::{self, Qwen2Model, Stage};
use crate::kernels;

/// Everything that a command needs.
pub struct Loaded {
    pub checkpoint: Checkpoint,
    pub model: Qwen2Model,
    /// Of the activations.
    pub dtype: Dtype,
    /// Whether a real GPU computes, and not the CPU or the emulator.
    pub is_on_gpu: bool,
    stage: Stage,
}

/// Finds, downloads if need be, and loads the model.
pub fn load(arguments: &ModelArguments) -> Result<Loaded> {
    let device = choose_device(arguments.device)?;
    let dtype = match (arguments.dtype, device) {
        (Some(DtypeArgument::F32), _) | (None, engine::Device::Cpu) => Dtype::Float32,
        (Some(DtypeArgument::F16), _) => Dtype::Float16,
        (Some(DtypeArgument::Bf16), _) | (None, engine::Device::Gpu) => Dtype::Bfloat16,
    };
    let path = checkpoint::registry::resolve(&arguments.model)?;
    let spinner = spinner(format!("loading {}", arguments.model));
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&path)?;
    let model = Qwen2Model::load_on(device, &checkpoint, dtype, arguments.stage)?;
    if device == engine::Device::Gpu && GpuBackend::current()? == GpuBackend::Cuda {
        kernels::compile(&model, |n_kernels| {
            spinner.suspend(|| eprintln!("compiling {n_kernels} kernels for this GPU (kept for the next time)"));
        });
    }
    spinner.finish_and_clear();
    let summary = checkpoint.summary()?;
    let place = match device {
        engine::Device::Cpu => format!("CPU{}", way_to_multiply(arguments.stage)?),
        engine::Device::Gpu => format!("GPU ({})", GpuBackend::current()?.word()),
    };
    eprintln!(
        "{}: {summary}; running in {dtype:?} on the {place}, stage {}, loaded in {:.1} s",
        arguments.model,
        arguments.stage,
        start.elapsed().as_secs_f64()
    );
    let is_on_gpu = device == engine::Device::Gpu && GpuBackend::current()? != GpuBackend::Emulator;
    Ok(Loaded { checkpoint, model, dtype, is_on_gpu, stage: arguments.stage })
}

/// What multiplies by packed weights on the CPU, where a stage has them: " (avx2 kernel)".
fn way_to_multiply(stage: Stage) -> Result<String> {
    Ok(match stage {
        Stage::Dense | Stage::Cached => String::new(),
        Stage::Packed => " (plain loops)".to_owned(),
        _ => format!(" ({} kernel)", chosen_kernel().map_err(anyhow::Error::msg)?.name()),
    })
}

/// How much there is, and how much of it one token needs: an embedding that is no output head is a look-up.
pub struct WeightBytes {
    pub all: u64,
    pub per_token: u64,
}

impl Loaded {
    /// Read only where text is involved: token ids work without a tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        static SAID: Once = Once::new();
        let tokenizer = self.checkpoint.tokenizer()?;
        SAID.call_once(|| tokenizer.warnings().iter().for_each(|warning| eprintln!("warning: tokenizer: {warning}")));
        Ok(tokenizer)
    }

    /// Bytes of the weights in the form in which the model computes with them.
    pub fn weight_bytes(&self) -> Result<WeightBytes> {
        let mut bytes = WeightBytes { all: 0, per_token: 0 };
        for (name, shape) in self.checkpoint.tensors() {
            let quantized = match self.stage >= Stage::Packed {
                true => self.checkpoint.quantized(&name)?,
                false => None,
            };
            let of_tensor = match quantized {
                Some(tensor) => [tensor.packed, tensor.scales, tensor.biases].iter().map(Array::nbytes).sum(),
                None => shape.iter().product::<usize>() * if self.dtype == Dtype::Float32 { 4 } else { 2 },
            } as u64;
            bytes.all += of_tensor;
            let is_look_up = name == "model.embed_tokens.weight" && !self.checkpoint.config().tie_word_embeddings;
            bytes.per_token += if is_look_up { 0 } else { of_tensor };
        }
        Ok(bytes)
    }

    /// The token ids of the input; refused when it is empty or names a token that the model lacks.
    pub fn tokens(&self, input: &Input) -> Result<Vec<u32>> {
        let tokens = match (&input.text, &input.tokens) {
            (Some(text), _) => self.tokenizer()?.encode(text, true)?,
            (None, Some(tokens)) => tokens.clone(),
            (None, None) => bail!("give a text or --tokens"),
        };
        if tokens.is_empty() {
            bail!("the text is empty");
        }
        let vocab_size = self.checkpoint.config().vocab_size;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            bail!("token {token} is not in the model's vocabulary of {vocab_size} tokens");
        }
        Ok(tokens)
    }
}

/// Where the model computes. MLX's own operations follow.
fn choose_device(wanted: Option<DeviceArgument>) -> Result<engine::Device> {
    if let Some(DeviceArgument::Cpu) = wanted {
        Device::set_default(&Device::cpu());
        return Ok(engine::Device::Cpu);
    }
    // MLX starts on its GPU when it was built with one.
    let has_gpu = matches!(Device::try_default()?.get_type().context("asking MLX for its device")?, DeviceType::Gpu);
    let is_emulator = GpuBackend::current()? == GpuBackend::Emulator;
    match wanted {
        None if has_gpu && !is_emulator => Ok(engine::Device::Gpu),
        None => {
            Device::set_default(&Device::cpu());
            Ok(engine::Device::Cpu)
        }
        // Asked for by name: not what somebody gets who only forgot to set up their GPU.
        Some(_) if std::env::var_os("TINY_LLM_GPU").is_some() && is_emulator => {
            Device::set_default(&Device::cpu());
            Ok(engine::Device::Gpu)
        }
        Some(_) if has_gpu => Ok(engine::Device::Gpu),
        Some(_) => bail!(
            "this MLX has no GPU; on Linux with an NVIDIA GPU run `cargo xtask setup --backend cuda`, and without one \
             set TINY_LLM_GPU=emulator to run the kernels on the CPU, slowly"
        ),
    }
}

/// A spinner on a terminal, nothing in a log.
pub fn spinner(message: String) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    spinner
}
