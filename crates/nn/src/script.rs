//! TorchScript modules as trainable models: the module's code over parameters that lie in our arenas, so that every optimizer
//! works on it, and over running statistics that are staged like those of our own batch norms.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use flatmin_torch_ext::{ScriptModule, ScriptTensor};
use serde::Deserialize;
use tch::{Device, Kind, Tensor, no_grad};

use crate::arena::{MemoryFormat, ParamKind, ParamSpec, ParameterArena};
use crate::buffers::BufferArena;
use crate::compile::StateEntry;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::layers::{ParamId, Pass, Statistics};
use crate::model::{Model, Network};
use crate::spec::{FORMAT, ModelSpec, Normalization};
use crate::state_dict::copy_of;
use crate::summary::LayerSummary;

/// What a TorchScript file does not tell of its model.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScriptOptions {
    /// `[channels, height, width]` of one image.
    pub input_shape: [i64; 3],
    /// Default: what the module answers.
    #[serde(default)]
    pub num_classes: Option<i64>,
    /// Default: the file's name.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub class_names: Option<Vec<String>>,
    #[serde(default)]
    pub normalization: Option<Normalization>,
}

/// A module and where its tensors hang in it.
pub(crate) struct Script {
    module: ScriptModule,
    /// Place and position in the arena of each parameter, in the order of the state dict.
    parameters: Vec<usize>,
    positions: Vec<usize>,
    norms: Vec<NormPlaces>,
}

/// Where a batch norm's statistics hang.
struct NormPlaces {
    mean: usize,
    variance: usize,
    batches_tracked: Option<usize>,
}

impl Model {
    /// Opens a file of `torch.jit.save`. Its program computes the logits, `[batch, numClasses]` of images
    /// `[batch, channels, height, width]`; parameters that do not require a gradient are frozen.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH`, `ERR_FLATMIN_FORMAT`; `ERR_FLATMIN_SHAPE` if it does not compute logits of such images;
    /// `ERR_FLATMIN_OPTION` for a dtype of 16 bits.
    pub fn from_torch_script(path: &Path, options: ScriptOptions, dtype: Dtype) -> Result<Self> {
        if dtype.is_half() {
            let expected = "float32 or float64: a TorchScript program fixes where it rounds";
            return Err(Error::option("dtype of a TorchScript model", dtype.name(), expected));
        }
        File::open(path).map_err(|error| Error::io("read", path, error))?;
        let malformed = |error: flatmin_torch_ext::Error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Error::format(path, format!("it is no TorchScript module that this libtorch reads ({first})"))
        };
        let module = ScriptModule::load(path).map_err(malformed)?;
        let stem = || path.file_stem().map_or_else(|| "script".into(), |stem| stem.to_string_lossy().into_owned());
        let spec = ModelSpec {
            format: FORMAT,
            name: options.name.unwrap_or_else(stem),
            input_shape: options.input_shape,
            num_classes: options.num_classes.unwrap_or(1),
            layers: vec![],
            class_names: None,
            normalization: None,
        };
        spec.validate()?;
        let mut model = Self::from_module(module, spec, dtype)?;
        let classes = model.count_classes(path, options.num_classes)?;
        model.describe_script(classes, options.class_names, options.normalization)?;
        Ok(model)
    }

    /// The size of the logits, found by trying.
    fn count_classes(&self, path: &Path, given: Option<i64>) -> Result<i64> {
        let [channels, height, width] = self.spec().input_shape;
        let shape = [2, channels, height, width];
        let images = Tensor::f_zeros(shape, (self.dtype().kind(), Device::Cpu))?;
        let logits = no_grad(|| self.forward(&images, Pass::Eval)).map_err(|error| {
            Error::format(path, format!("its program fails for images {shape:?}; is inputShape right? ({error})"))
        })?;
        let expected = |classes: String| format!("{classes} for images {shape:?}: logits, one row an image");
        let what = || format!("the answer of the module in {}", path.display());
        match (&logits.size()[..], given) {
            (&[2, classes], None) => Ok(classes),
            (&[2, classes], Some(given)) if classes == given => Ok(classes),
            (_, None) => Err(Error::shape(what(), &logits.size(), expected("[2, numClasses]".into()))),
            (_, Some(given)) => Err(Error::shape(what(), &logits.size(), expected(format!("[2, {given}]")))),
        }
    }

    /// A model over the tensors of a module, which are copied.
    pub(crate) fn from_module(module: ScriptModule, spec: ModelSpec, dtype: Dtype) -> Result<Self> {
        let tensors = module.tensors()?;
        let plan = Plan::new(&tensors)?;
        let mut parameters = ParameterArena::with_format(&plan.specs, dtype, MemoryFormat::Contiguous)?;
        let mut buffers = BufferArena::new(&plan.norms, dtype)?;
        let mut positions = Vec::new();
        for (spec, &place) in plan.specs.iter().zip(&plan.parameters) {
            // The arena was made of these names.
            let Some(position) = parameters.position(&spec.name) else { continue };
            let value = &tensors[place].value;
            parameters.write(position, value)?;
            parameters.set_trainable(position, value.requires_grad())?;
            module.set(place, &parameters.leaves()[position])?;
            positions.push(position);
        }
        for (norm, places) in plan.places.iter().enumerate() {
            let committed = buffers.committed(norm);
            no_grad(|| -> Result<()> {
                committed.mean.shallow_clone().f_copy_(&tensors[places.mean].value)?;
                committed.variance.shallow_clone().f_copy_(&tensors[places.variance].value)?;
                Ok(())
            })?;
            if let Some(count) = places.batches_tracked {
                buffers.set_batches_tracked(norm, tensors[count].value.f_int64_value(&[])?);
            }
        }
        for (place, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| !tensor.is_parameter) {
            if tensor.value.f_is_floating_point()? {
                module.set(place, &tensor.value.f_to_kind(dtype.kind())?)?;
            }
        }
        let script = Script { module, parameters: plan.parameters, positions: positions.clone(), norms: plan.places };
        let rows = vec![summary(&spec, &parameters)];
        Ok(Self::of(spec, Network::Script(script), parameters, buffers, positions, plan.entries, rows))
    }
}

/// Which tensors of a module are what.
struct Plan {
    specs: Vec<ParamSpec>,
    parameters: Vec<usize>,
    norms: Vec<(String, i64)>,
    places: Vec<NormPlaces>,
    entries: Vec<StateEntry>,
}

impl Plan {
    fn new(tensors: &[ScriptTensor]) -> Result<Self> {
        let by_name: HashMap<&str, usize> =
            tensors.iter().enumerate().map(|(place, tensor)| (tensor.name.as_str(), place)).collect();
        let mut plan = Self { specs: vec![], parameters: vec![], norms: vec![], places: vec![], entries: vec![] };
        let mut owners = HashMap::new();
        for (place, ScriptTensor { name, is_parameter, value }) in tensors.iter().enumerate() {
            let sibling = |last: &str| {
                let name =
                    name.rsplit_once('.').map_or_else(|| last.to_owned(), |(module, _)| format!("{module}.{last}"));
                by_name.get(name.as_str()).copied()
            };
            if *is_parameter {
                if let Some(other) = owners.insert(value.data_ptr() as usize, name) {
                    let expected = "each parameter to have values of its own";
                    return Err(Error::option(format!("'{name}'"), format!("tied to '{other}'"), expected));
                }
                let weight = sibling("weight").map(|place| tensors[place].value.dim());
                plan.entries.push(StateEntry::Parameter(ParamId(plan.specs.len())));
                plan.specs.push(ParamSpec { name: name.clone(), shape: value.size(), kind: kind(name, value, weight) });
                plan.parameters.push(place);
            } else if let (Some(layer), Some(variance)) = (name.strip_suffix(".running_mean"), sibling("running_var")) {
                plan.entries.push(StateEntry::Statistics(plan.norms.len()));
                plan.norms.push((layer.to_owned(), value.numel() as i64));
                plan.places.push(NormPlaces { mean: place, variance, batches_tracked: sibling("num_batches_tracked") });
            }
        }
        if plan.specs.is_empty() {
            return Err(Error::option(
                "a TorchScript module",
                "without parameters",
                "one that was not frozen (torch.jit.freeze)",
            ));
        }
        Ok(plan)
    }
}

/// `weight` is the number of dimensions of the weight beside it.
fn kind(name: &str, value: &Tensor, weight: Option<usize>) -> ParamKind {
    let bias = name.ends_with("bias");
    match value.dim() {
        4.. => ParamKind::ConvWeight,
        2..=3 => ParamKind::LinearWeight,
        _ if bias && weight == Some(1) => ParamKind::NormBias,
        _ if bias => ParamKind::Bias,
        _ => ParamKind::NormWeight,
    }
}

/// The one row that a module has.
fn summary(spec: &ModelSpec, parameters: &ParameterArena) -> LayerSummary {
    let output_shape = vec![spec.num_classes];
    LayerSummary {
        name: spec.name.clone(),
        kind: "torchScript",
        output_shape,
        parameters: parameters.parameter_count() as i64,
        // What a module computes and keeps cannot be read off it.
        macs: 0,
        kept: 0,
    }
}

impl Script {
    pub fn module(&self) -> &ScriptModule {
        &self.module
    }

    /// Lets another copy of the module compute, over the parameters as they lie now. Statistics hang in it from pass to pass.
    pub fn adopt(&mut self, module: ScriptModule, parameters: &ParameterArena) -> Result<()> {
        for (&place, &position) in self.parameters.iter().zip(&self.positions) {
            module.set(place, &parameters.leaves()[position])?;
        }
        self.module = module;
        Ok(())
    }

    /// Logits. In training, random numbers (dropout) follow the mask seed, by way of torch's global generator.
    pub fn forward(&self, images: &Tensor, pass: Pass, buffers: &BufferArena) -> Result<Tensor> {
        self.module.train(pass != Pass::Eval)?;
        for (norm, places) in self.norms.iter().enumerate() {
            self.hang_statistics(norm, places, pass, buffers)?;
        }
        let images = images.f_contiguous()?;
        let Pass::Train { mask_seed, .. } = pass else { return Ok(self.module.forward(&images)?) };
        // One generator for the process: who has seeded it draws from it before anybody else does.
        static DRAWING: Mutex<()> = Mutex::new(());
        let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(mask_seed as i64);
        Ok(self.module.forward(&images)?)
    }

    /// Lets a batch norm read the statistics of the pass, and write only where they are staged.
    fn hang_statistics(&self, norm: usize, places: &NormPlaces, pass: Pass, buffers: &BufferArena) -> Result<()> {
        let committed = buffers.committed(norm);
        let (mean, variance) = match pass {
            Pass::Train { statistics: Statistics::Average, .. } => {
                let expected = "statistics 'average': a TorchScript module fixes its momentum";
                return Err(Error::option("the batch norm of averaged weights", "'estimate'", expected));
            }
            Pass::Train { statistics: Statistics::Stage, .. } if !buffers.is_frozen(norm) => {
                let staged = buffers.staged(norm);
                (staged.mean.shallow_clone(), staged.variance.shallow_clone())
            }
            Pass::Train { statistics: Statistics::Ignore, .. } if !buffers.is_frozen(norm) => {
                (committed.mean.f_alias_copy()?, committed.variance.f_alias_copy()?)
            }
            Pass::Train { .. } => {
                self.module.evaluate_owner(places.mean)?;
                (committed.mean.shallow_clone(), committed.variance.shallow_clone())
            }
            Pass::Eval => (committed.mean.shallow_clone(), committed.variance.shallow_clone()),
        };
        self.module.set(places.mean, &mean)?;
        self.module.set(places.variance, &variance)?;
        if let Some(place) = places.batches_tracked {
            // Filled on the device, which no pass waits for.
            let count = Tensor::f_full([], buffers.batches_tracked(norm), (Kind::Int64, mean.device()))?;
            self.module.set(place, &count)?;
        }
        Ok(())
    }

    /// The module's file with the values of w and the committed statistics, uint8. All of it lies on the CPU, so that it opens on
    /// any machine.
    pub fn bytes(&self, parameters: &ParameterArena, buffers: &BufferArena) -> Result<Tensor> {
        let copy = self.module.copy(Device::Cpu)?;
        for (&place, &position) in self.parameters.iter().zip(&self.positions) {
            let value = parameters.read(position)?.f_set_requires_grad(parameters.is_trainable(position))?;
            copy.set(place, &value)?;
        }
        for (norm, places) in self.norms.iter().enumerate() {
            copy.set(places.mean, &copy_of(&buffers.committed(norm).mean)?)?;
            copy.set(places.variance, &copy_of(&buffers.committed(norm).variance)?)?;
            if let Some(place) = places.batches_tracked {
                copy.set(place, &Tensor::f_full([], buffers.batches_tracked(norm), (Kind::Int64, Device::Cpu))?)?;
            }
        }
        copy.train(true)?;
        Ok(copy.bytes()?)
    }
}
