//! The weights of a Hugging Face folder under their logical names and shapes, MLX-quantized or not.

use std::path::{Path, PathBuf};

use crate::architecture::TensorShapes;
use crate::error::{Error, Result};
use crate::host_tensor::{ElementType, HostTensor};
use crate::memory;
use crate::mlx_quantization::{MlxQuantization, PackedTensor, QuantizationParams, unpacked_shape};
use crate::shards::Shards;

#[derive(Debug)]
pub(crate) struct HfWeights {
    folder: PathBuf,
    shards: Shards,
    quantization: Option<MlxQuantization>,
}

impl HfWeights {
    /// `config` is the file that `quantization` comes from.
    pub(crate) fn open(folder: &Path, config: &Path, quantization: Option<MlxQuantization>) -> Result<Self> {
        let shards = Shards::open(folder)?;
        if let Some(quantization) = &quantization {
            quantization.check_layers(config, |layer| shards.shape(&format!("{layer}.weight")).is_some())?;
        }
        Ok(Self { folder: folder.to_owned(), shards, quantization })
    }

    /// The layer of a quantized `<layer>.weight`: there are scales beside it, and the configuration has parameters for it.
    fn quantized_layer<'n>(&self, name: &'n str) -> Result<Option<(&'n str, QuantizationParams)>> {
        let Some(layer) = name.strip_suffix(".weight") else { return Ok(None) };
        let has_scales = self.shards.file(&format!("{layer}.scales")).is_some();
        let is_packed =
            matches!(self.shards.file(name).and_then(|file| file.element(name)), Some(Ok(ElementType::U32)));
        let params = self.quantization.as_ref().and_then(|quantization| quantization.params(layer));
        match (has_scales, is_packed, params) {
            (true, true, Some(params)) => Ok(Some((layer, params))),
            (false, false, _) => Ok(None),
            (_, _, None) => Err(self.fault(name, "is quantized, but config.json has no `quantization` for it")),
            (true, false, _) => Err(self.fault(name, "has scales beside it, but is not packed in U32")),
            (false, true, _) => Err(self.fault(name, "is packed in U32, but has no scales beside it")),
        }
    }

    fn fault(&self, name: &str, problem: impl Into<String>) -> Error {
        Error::tensor(self.file(name), name, problem)
    }

    fn read_stored(&self, name: &str) -> Result<HostTensor<'_>> {
        self.shards.read(name).unwrap_or_else(|| Err(self.fault(name, "is missing")))
    }

    /// A floating-point tensor, or a quantized one with its packed integers, as they are stored.
    pub(crate) fn packed(&self, name: &str) -> Result<Option<PackedTensor<'_>>> {
        let Some((layer, params)) = self.quantized_layer(name)? else { return Ok(None) };
        self.shape(name)?;
        let float = |name: String| {
            let tensor = self.read_stored(&name)?;
            if tensor.element == ElementType::U32 {
                Err(self.fault(&name, "must be F32, F16 or BF16"))
            } else {
                Ok(tensor)
            }
        };
        Ok(Some(PackedTensor {
            params,
            packed: self.read_stored(name)?,
            scales: float(format!("{layer}.scales"))?,
            biases: float(format!("{layer}.biases"))?,
        }))
    }

    /// The tensor in floating point. A quantized one comes as f32, with the type of its scales as the type to store it in.
    pub(crate) fn read(&self, name: &str) -> Result<(HostTensor<'_>, ElementType)> {
        if let Some(packed) = self.packed(name)? {
            memory::ask(name, packed.dequantized_bytes())?;
            return Ok((packed.dequantize(), packed.scales.element));
        }
        let tensor = self.read_stored(name)?;
        if tensor.element == ElementType::U32 {
            return Err(self.fault(name, "holds integers, where weights are expected"));
        }
        let element = tensor.element;
        Ok((tensor, element))
    }

    /// The type in which [`HfWeights::read`] says to store the tensor.
    pub(crate) fn element(&self, name: &str) -> Result<ElementType> {
        let stored = match self.quantized_layer(name)? {
            Some((layer, _)) => format!("{layer}.scales"),
            None => name.to_owned(),
        };
        let element = self.shards.file(&stored).and_then(|file| file.element(&stored));
        element.unwrap_or_else(|| Err(self.fault(name, "is missing")))
    }

    /// How the tensor is stored, for people.
    pub(crate) fn storage(&self, name: &str) -> Result<String> {
        if let Some((_, QuantizationParams { group_size, bits })) = self.quantized_layer(name)? {
            return Ok(format!("{bits}-bit (group {group_size})"));
        }
        match self.shards.file(name).and_then(|file| file.element(name)) {
            Some(element) => Ok(element?.to_string()),
            None => Err(self.fault(name, "is missing")),
        }
    }

    pub(crate) fn release_pages(&self) {
        self.shards.release_pages();
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.shards.bytes_on_disk()
    }
}

impl TensorShapes for HfWeights {
    fn shape(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(file) = self.shards.file(name) else { return Ok(None) };
        let Some(stored) = file.shape(name) else { return Ok(None) };
        let Some((layer, params)) = self.quantized_layer(name)? else {
            // Asked here so that a checkpoint with a type that cannot be read does not even open.
            file.element(name).transpose()?;
            return Ok(Some(stored.to_vec()));
        };
        let [scales, biases] = ["scales", "biases"].map(|part| format!("{layer}.{part}"));
        let shape_of = |part: &str| {
            let missing = || Error::tensor(self.file(name), part, format!("is missing, but `{name}` is quantized"));
            self.shards.shape(part).ok_or_else(missing)
        };
        let (scales, biases) = (shape_of(&scales)?, shape_of(&biases)?);
        let unpacked = unpacked_shape(params, stored, scales, biases).ok_or_else(|| {
            let problem = format!(
                "packed {stored:?}, scales {scales:?} and biases {biases:?} do not fit {} bits in groups of {}",
                params.bits, params.group_size
            );
            self.fault(name, problem)
        })?;
        Ok(Some(unpacked.to_vec()))
    }

    fn names(&self) -> Vec<String> {
        // Scales and biases belong to the weight beside them.
        let is_part = |name: &str| {
            let layer = name.strip_suffix(".scales").or_else(|| name.strip_suffix(".biases"));
            layer.is_some_and(|layer| self.shards.shape(&format!("{layer}.weight")).is_some())
        };
        self.shards.names().filter(|name| !is_part(name)).map(str::to_owned).collect()
    }

    fn file(&self, name: &str) -> &Path {
        self.shards.file(name).map_or(&self.folder, |file| file.path())
    }
}
