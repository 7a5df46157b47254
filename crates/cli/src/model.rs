//! From the command line to a loaded model.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use checkpoint::{Checkpoint, Summary, Tokenizer, untrusted};
use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Array, Device, DeviceType, Dtype};

use crate::arguments::{DeviceArgument, DtypeArgument, Input, ModelArguments};
use crate::engine::quantized::kernel::chosen_kernel;
use crate::engine::{self, Qwen2Model, Stage};
use crate::kernels;
use crate::output::note;
use crate::progress::ProgressLine;

/// The folder or file of a model, downloaded first if need be. What is no text can only be a path.
pub fn resolve(name: &OsStr) -> Result<PathBuf> {
    match name.to_str() {
        Some(name) => Ok(checkpoint::registry::resolve(name)?),
        None => Ok(PathBuf::from(name)),
    }
}

/// What was asked for, found to be possible on this machine. Nothing has been read yet.
pub struct Setting<'a> {
    arguments: &'a ModelArguments,
    device: engine::Device,
    /// Of the activations.
    dtype: Dtype,
}

/// A model of which everything but the weights is known.
pub struct Opened<'a> {
    pub checkpoint: Checkpoint,
    setting: Setting<'a>,
}

/// Everything that a command needs.
pub struct Loaded {
    pub checkpoint: Checkpoint,
    pub model: Qwen2Model,
    /// Of the activations.
    pub dtype: Dtype,
    /// Whether a real GPU computes, and not the CPU or the emulator.
    pub is_on_gpu: bool,
    /// Which kernel multiplies by quantized weights on the CPU, if the model has any, and who wrote it.
    pub kernel: Option<String>,
    stage: Stage,
}

impl<'a> Setting<'a> {
    /// Also makes the device that is chosen MLX's own.
    ///
    /// # Errors
    /// When an option or a variable of the environment asks for what this machine does not have.
    pub fn new(arguments: &'a ModelArguments) -> Result<Self> {
        let device = choose_device(arguments.device)?;
        match device {
            // Before the first kernel that is started says the same.
            engine::Device::Gpu => GpuBackend::current()?.check_ready()?,
            engine::Device::Cpu if arguments.stage >= Stage::Quantized => {
                chosen_kernel().map_err(|problem| anyhow!(problem))?;
            }
            engine::Device::Cpu => (),
        }
        let dtype = match (arguments.dtype, device) {
            (Some(DtypeArgument::F32), _) | (None, engine::Device::Cpu) => Dtype::Float32,
            (Some(DtypeArgument::F16), _) => Dtype::Float16,
            (Some(DtypeArgument::Bf16), _) | (None, engine::Device::Gpu) => Dtype::Bfloat16,
        };
        Ok(Self { arguments, device, dtype })
    }

    /// Finds the model, downloads it if need be, and reads all but its weights.
    pub fn open(self) -> Result<Opened<'a>> {
        let checkpoint = Checkpoint::open(&resolve(&self.arguments.model)?)?;
        Ok(Opened { checkpoint, setting: self })
    }
}

impl Opened<'_> {
    /// Read only where text is involved: token ids work without a tokenizer. What is doubtful about it is said once.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        static SAID: Once = Once::new();
        let tokenizer = self.checkpoint.tokenizer()?;
        SAID.call_once(|| {
            for warning in tokenizer.warnings() {
                note!("warning: tokenizer: {}", untrusted::one_line(warning));
            }
        });
        Ok(tokenizer)
    }

    /// Reads the weights.
    pub fn load(self) -> Result<Loaded> {
        let Self { checkpoint, setting: Setting { arguments, device, dtype } } = self;
        let name = untrusted::one_line(&arguments.model.to_string_lossy());
        let spinner = ProgressLine::spinner(format!("loading {name}"));
        let start = Instant::now();
        let model = Qwen2Model::load_on(device, &checkpoint, dtype, arguments.stage)?;
        if device == engine::Device::Gpu && GpuBackend::current()? == GpuBackend::Cuda {
            kernels::compile(&model, |n_kernels| {
                spinner.suspend(|| note!("compiling {n_kernels} kernels for this GPU (kept for the next time)"));
            });
        }
        drop(spinner);
        let summary = checkpoint.summary()?;
        let kernel = match (device, arguments.stage) {
            (engine::Device::Gpu, _) | (_, Stage::Dense | Stage::Cached) => None,
            _ if !is_quantized(&summary) => None,
            (_, Stage::Packed) => Some("plain loops".to_owned()),
            _ => kernel_and_author(),
        };
        let place = match (device, &kernel) {
            (engine::Device::Cpu, Some(kernel)) => format!("CPU ({kernel})"),
            (engine::Device::Cpu, None) => "CPU".to_owned(),
            (engine::Device::Gpu, _) => format!("GPU ({})", GpuBackend::current()?.word()),
        };
        note!(
            "{name}: {summary}; running in {dtype:?} on the {place}, stage {}, loaded in {:.1} s",
            arguments.stage,
            start.elapsed().as_secs_f64()
        );
        let is_on_gpu = device == engine::Device::Gpu && GpuBackend::current()? != GpuBackend::Emulator;
        Ok(Loaded { checkpoint, model, dtype, is_on_gpu, kernel, stage: arguments.stage })
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

/// How much there is, and how much of it one token needs: an embedding that is no output head is a look-up.
pub struct WeightBytes {
    pub all: u64,
    pub per_token: u64,
}

impl Loaded {
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

    /// What the engine refused, in words of one who chose the dtype.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref() {
            Some(engine::Error::InvalidArgument { message, .. })
                if self.dtype == Dtype::Float16 && message.starts_with("the logits contain") =>
            {
                self.not_finite()
            }
            _ => error,
        }
    }

    /// Refuses logits that mean nothing.
    pub fn check_finite(&self, logits: &[f32]) -> Result<()> {
        if logits.iter().all(|logit| logit.is_finite()) { Ok(()) } else { Err(self.not_finite()) }
    }

    fn not_finite(&self) -> anyhow::Error {
        match self.dtype {
            Dtype::Float16 => anyhow!(
                "with --dtype f16 the model's activations overflow (f16 ends at 65504), and its logits are not finite; \
                 use --dtype bf16 or --dtype f32"
            ),
            dtype => anyhow!(
                "the model's logits are not finite, although it was computed in {dtype:?}, which does not overflow: its \
                 weights or the engine are at fault"
            ),
        }
    }
}

/// Whether some of the weights are in a form that a kernel of quantized weights multiplies by.
fn is_quantized(summary: &Summary) -> bool {
    let has_kernel = |kind: &String| kind.contains("-bit") || ["Q4_0", "Q4_1", "Q8_0"].contains(&kind.as_str());
    summary.storage.keys().any(has_kernel)
}

/// `avx2 kernel`. In the learner's crate one of the kernels is given: who measures must know whose it was.
fn kernel_and_author() -> Option<String> {
    let name = chosen_kernel().ok()?.name();
    let is_learners = cfg!(not(feature = "reference"));
    Some(match (is_learners, name) {
        (false, _) => format!("{name} kernel"),
        (true, "avx512") => format!("{name} kernel, given"),
        (true, _) => format!("{name} kernel, your own"),
    })
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
        Some(_) if GpuBackend::is_named() && is_emulator => {
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
