//! A model on disk, whatever its format.

use std::path::{Path, PathBuf};

use mlx_rs::{Array, Dtype};

use crate::architecture::{self, TensorShapes, weight_of_implied_bias};
use crate::array::to_array;
use crate::chat_template::ChatTemplate;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gguf::GgufFile;
use crate::hf_text;
use crate::hf_weights::HfWeights;
use crate::host_tensor::{ElementType, HostTensor};
use crate::mlx_quantization::{MlxQuantization, QuantizationParams};
use crate::summary::Summary;
use crate::tokenizer::Tokenizer;
use crate::{files, hf_config, json, memory, mlx_folder};

/// What to do where the tokenizer is missing.
const NO_TOKENIZER: &str = "the file is not there; download it with the model. Where a model has only tokenizer.model, or \
    vocab.json and merges.txt, `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers writes it";

/// An open model: configuration, weights, tokenizer and chat template behind one set of names, the Hugging Face ones.
///
/// [`Checkpoint::open`] compares the configuration with the header of every weight file, so that afterwards all tensors of
/// the architecture are known to be there, in the right shapes. The weights themselves stay on disk until asked for.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    /// What the file gives as `max_position_embeddings`, which `config` may bound.
    positions_in_file: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    Folder(HfWeights),
    Gguf(GgufFile),
}

/// A quantized weight matrix as it is stored, for kernels that compute with it directly.
#[derive(Clone, Debug)]
pub struct QuantizedTensor {
    /// `[O, I * bits / 32]` u32: the integers, the first in the lowest bits.
    pub packed: Array,
    /// `[O, I / group_size]`, in the stored floating-point type.
    pub scales: Array,
    /// `[O, I / group_size]`; `weight = scale * integer + bias`.
    pub biases: Array,
    pub group_size: usize,
    pub bits: usize,
}

impl Checkpoint {
    /// Opens a Hugging Face folder (plain or MLX-quantized) or a `.gguf` file.
    ///
    /// # Errors
    /// If anything is missing, malformed, contradictory or not supported; the message names the file and the tensor or field.
    pub fn open(path: &Path) -> Result<Self> {
        memory::start_threads().map_err(|problem| Error::Threads { problem })?;
        if path.is_dir() {
            return Self::open_folder(path);
        }
        let (gguf, mut config) = GgufFile::open(path)?;
        architecture::check(&config, &gguf)?;
        let positions_in_file = config.bound_positions();
        Ok(Self { path: path.to_owned(), config, positions_in_file, weights: Weights::Gguf(gguf) })
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let file = folder.join("config.json");
        if !files::is_there(&file)? {
            return Err(Error::malformed(folder, what_a_folder_lacks(folder)));
        }
        let json = json::read_json(&file)?;
        let mut config = hf_config::from_json(&file, &json)?;
        let from_config = std::mem::take(&mut config.eos_token_ids);
        config.add_eos(hf_text::generation_eos(folder)?);
        config.add_eos(from_config);
        config.add_eos(hf_text::tokenizer_eos(folder)?);
        config.validate(&file)?;
        let weights = HfWeights::open(folder, &file, MlxQuantization::from_config(&file, &json)?)?;
        if json["tie_word_embeddings"].is_null() {
            // transformers and mlx-lm fill this in differently, and each runs the models that the other's default fits.
            config.tie_word_embeddings = weights.shape("lm_head.weight")?.is_none();
        }
        architecture::check(&config, &weights)?;
        let positions_in_file = config.bound_positions();
        Ok(Self { path: folder.to_owned(), config, positions_in_file, weights: Weights::Folder(weights) })
    }

    /// The folder or file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's shape and special tokens.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The positions that the model was made for; the configuration may have fewer.
    pub(crate) fn positions_in_file(&self) -> usize {
        self.positions_in_file
    }

    /// The names and shapes of the tensors that the model is made of; implied biases are not among them.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        architecture::tensors(&self.config)
    }

    /// Whether [`Checkpoint::tensor`] has this tensor, stored or implied.
    pub fn has(&self, name: &str) -> bool {
        let stored = |name: &str| matches!(self.shapes().shape(name), Ok(Some(_)));
        stored(name) || weight_of_implied_bias(&self.config, name).is_some_and(|weight| stored(&weight))
    }

    /// A tensor by its Hugging Face name, such as `model.layers.0.self_attn.q_proj.weight`, as an array of `shape`.
    ///
    /// `dtype` must be float32, float16 or bfloat16; `None` keeps the stored type, which for MLX-quantized weights is that
    /// of the scales and for quantized GGUF weights f32. Quantized tensors are dequantized in f32 and rounded once. Where a
    /// model has no q, k and v biases, they are zeros.
    ///
    /// # Errors
    /// If there is no such tensor, if it has another shape, or if `dtype` is not a floating-point type.
    pub fn tensor(&self, name: &str, shape: &[usize], dtype: Option<Dtype>) -> Result<Array> {
        let fault = |problem: String| Error::tensor(self.shapes().file(name), name, problem);
        if let Some(dtype) = dtype
            && !matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
        {
            return Err(fault(format!("was asked for as {dtype:?}; weights can be Float32, Float16 or Bfloat16")));
        }
        let (tensor, element) = self.read(name)?;
        if tensor.shape != shape {
            return Err(fault(format!("has shape {:?}, but {shape:?} was asked for", tensor.shape)));
        }
        let array = to_array(name, &tensor, dtype.unwrap_or(element.dtype()))?;
        self.release_pages();
        Ok(array)
    }

    /// A weight matrix in its quantized form, or `None` if it is stored in another form than MLX's affine quantization
    /// or GGUF's Q4_0, Q4_1 and Q8_0, which equal it.
    ///
    /// # Errors
    /// If the tensor's parts do not fit each other.
    pub fn quantized(&self, name: &str) -> Result<Option<QuantizedTensor>> {
        let packed = match &self.weights {
            Weights::Folder(weights) => weights.packed(name)?,
            Weights::Gguf(file) => {
                memory::ask(name, file.stored_bytes(name))?;
                file.packed(name)
            }
        };
        let Some(tensor) = packed else { return Ok(None) };
        let array = |part: &HostTensor<'_>| to_array(name, part, part.element.dtype());
        let QuantizationParams { group_size, bits } = tensor.params;
        let quantized = QuantizedTensor {
            packed: array(&tensor.packed)?,
            scales: array(&tensor.scales)?,
            biases: array(&tensor.biases)?,
            group_size,
            bits,
        };
        self.release_pages();
        Ok(Some(quantized))
    }

    /// What has become an array need not stay in memory as a part of the mapped file as well.
    fn release_pages(&self) {
        match &self.weights {
            Weights::Folder(weights) => weights.release_pages(),
            Weights::Gguf(file) => file.release_pages(),
        }
    }

    /// Writes a GGUF file's model as the folder that mlx-lm reads, its weights unchanged.
    ///
    /// # Errors
    /// If `folder` exists or cannot be written, if this is no GGUF file, or if a matrix is stored in a form that has no equal
    /// in MLX's quantization.
    pub fn write_mlx_folder(&self, folder: &Path) -> Result<()> {
        match &self.weights {
            Weights::Gguf(gguf) => mlx_folder::write(self, gguf, folder),
            Weights::Folder(_) => {
                Err(Error::unsupported(&self.path, "is a folder already; only a GGUF file is converted"))
            }
        }
    }

    /// The tokenizer, checked against the model's vocabulary.
    ///
    /// # Errors
    /// If there is none, if it is not valid, or if it does not fit the embedding.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        if !memory::has(memory::FOR_TOKENIZER) {
            return Err(Error::tokenizer(&self.path, "there is not enough memory for it"));
        }
        let vocab_size = Some(self.config.vocab_size);
        match &self.weights {
            Weights::Folder(_) => {
                let file = self.path.join(hf_text::TOKENIZER);
                if !files::is_there(&file)? {
                    return Err(Error::tokenizer(&file, NO_TOKENIZER));
                }
                let json = json::read_text(&file)?;
                Tokenizer::from_json(&file, json, hf_text::added_tokens(&self.path)?, vocab_size)
            }
            Weights::Gguf(gguf) => {
                let text = gguf.tokenizer()?;
                let tokenizer =
                    Tokenizer::from_json(gguf.path(), text.tokenizer_json.to_string(), Vec::new(), vocab_size)?;
                Ok(tokenizer.with_warnings(text.warnings))
            }
        }
    }

    /// The chat template with the tokenizer's special tokens.
    ///
    /// # Errors
    /// If the model has none (a base model, not made for chats), or if it is not valid.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        let none = || Error::ChatTemplate {
            file: self.path.clone(),
            problem: "the model has none: it continues texts, and was not made for chats; use `generate`".to_owned(),
        };
        match &self.weights {
            Weights::Folder(_) => {
                let template = hf_text::chat_template(&self.path)?.ok_or_else(none)?;
                ChatTemplate::new(&template.file, &template.source, hf_text::special_tokens(&self.path)?)
            }
            Weights::Gguf(gguf) => {
                let text = gguf.tokenizer()?;
                ChatTemplate::new(gguf.path(), &text.chat_template.ok_or_else(none)?, text.special_tokens)
            }
        }
    }

    /// A description for people: size, parameters, how the weights are stored.
    ///
    /// # Errors
    /// If a tensor's dtype is not supported.
    pub fn summary(&self) -> Result<Summary> {
        let storage = |name: &str| match &self.weights {
            Weights::Folder(weights) => weights.storage(name),
            Weights::Gguf(gguf) => Ok(gguf.storage(name).unwrap_or_default()),
        };
        let bytes_on_disk = match &self.weights {
            Weights::Folder(weights) => weights.bytes_on_disk(),
            Weights::Gguf(gguf) => gguf.bytes_on_disk(),
        };
        Summary::new(&self.config, self.positions_in_file, storage, bytes_on_disk)
    }

    fn shapes(&self) -> &dyn TensorShapes {
        match &self.weights {
            Weights::Folder(weights) => weights,
            Weights::Gguf(gguf) => gguf,
        }
    }

    fn read(&self, name: &str) -> Result<(HostTensor<'_>, ElementType)> {
        let stored = |name: &str| match &self.weights {
            Weights::Folder(weights) => weights.read(name),
            Weights::Gguf(gguf) => gguf.read(name),
        };
        match weight_of_implied_bias(&self.config, name) {
            // By the weight's header alone: dequantizing it for its number of rows would double the time of loading.
            Some(weight) => {
                let shape = self.shapes().shape(&weight)?;
                let missing = || Error::tensor(self.shapes().file(&weight), &weight, "is missing");
                let rows = shape.and_then(|shape| shape.first().copied()).ok_or_else(missing)?;
                let element = match &self.weights {
                    Weights::Folder(weights) => weights.element(&weight)?,
                    Weights::Gguf(gguf) => gguf.element(&weight).ok_or_else(missing)?,
                };
                Ok((HostTensor::zeros(element, vec![rows]), element))
            }
            None => stored(name),
        }
    }
}

/// What to say of a folder without `config.json`.
fn what_a_folder_lacks(folder: &Path) -> String {
    let gguf = files::names_ending_in(folder, ".gguf");
    if gguf.is_empty() {
        return "has no config.json: it is not the folder of a model, or a part of the download is missing".to_owned();
    }
    let listed: Vec<_> = gguf.iter().take(3).map(|name| format!("`{name}`")).collect();
    let more = if gguf.len() > listed.len() { ", ..." } else { "" };
    format!("is a folder of GGUF files, and each of them is a model of its own: give one ({}{more})", listed.join(", "))
}
