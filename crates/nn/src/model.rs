//! A model: its spec, its parameters and running statistics in flat arenas, and the forward pass over them.

use std::cell::Cell;

use flatmin_torch_ext::{Generator, Seed, channels_last};
use tch::{Device, Kind, Tensor};

use crate::arena::ParameterArena;
use crate::buffers::BufferArena;
use crate::compile::{StateEntry, compile};
use crate::dtype::Dtype;
use crate::engine::{Engine, device_name};
use crate::error::{Error, Result};
use crate::init::ParamInit;
use crate::layers::{Context, Node, Pass, Statistics, run};
use crate::script::Script;
use crate::spec::{ModelSpec, Normalization};
use crate::summary::{LayerSummary, Summary};

/// What runs in a forward pass.
pub(crate) enum Network {
    Layers(Vec<Node>),
    Script(Script),
}

/// May move between threads, is used by one at a time.
pub struct Model {
    spec: ModelSpec,
    parameters: ParameterArena,
    buffers: BufferArena,
    network: Network,
    /// Position in the arena of each parameter, counted as in the spec.
    positions: Vec<usize>,
    entries: Vec<StateEntry>,
    rows: Vec<LayerSummary>,
    statistics: Statistics,
    loss_scale: f64,
    fused: bool,
    /// The size of images that was accepted last.
    accepted: Cell<[i64; 3]>,
}

impl Model {
    /// Builds the model and initialises it as PyTorch does; the same seed gives the same weights in every dtype.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` or `ERR_FLATMIN_SHAPE`, naming the layer that does not fit and the shape of its input.
    pub fn new(spec: ModelSpec, dtype: Dtype, seed: u64) -> Result<Self> {
        let (mut model, inits) = Self::build(spec, dtype)?;
        let generator = Generator::new(seed)?;
        for (init, &position) in inits.iter().zip(&model.positions) {
            let values = init.draw(&model.parameters.segments()[position].shape, &generator)?;
            model.parameters.write(position, &values)?;
        }
        Ok(model)
    }

    /// Builds the model with all parameters 0, for values that are about to be read.
    pub(crate) fn without_values(spec: ModelSpec, dtype: Dtype) -> Result<Self> {
        Ok(Self::build(spec, dtype)?.0)
    }

    fn build(spec: ModelSpec, dtype: Dtype) -> Result<(Self, Vec<ParamInit>)> {
        let (plan, nodes) = compile(&spec)?;
        let parameters = ParameterArena::new(&plan.parameters, dtype)?;
        let positions = plan.parameters.iter().filter_map(|param| parameters.position(&param.name)).collect();
        let buffers = BufferArena::new(&plan.norms, dtype)?;
        let network = Network::Layers(nodes);
        Ok((Self::of(spec, network, parameters, buffers, positions, plan.entries, plan.rows), plan.inits))
    }

    /// A new model of parts that belong together.
    pub(crate) fn of(
        spec: ModelSpec,
        network: Network,
        parameters: ParameterArena,
        buffers: BufferArena,
        positions: Vec<usize>,
        entries: Vec<StateEntry>,
        rows: Vec<LayerSummary>,
    ) -> Self {
        let (statistics, loss_scale, fused) = (Statistics::Stage, 1.0, true);
        let accepted = Cell::new(spec.input_shape);
        Self { spec, parameters, buffers, network, positions, entries, rows, statistics, loss_scale, fused, accepted }
    }

    /// Another model of the same architecture, dtype and engine, with the same parts frozen; its values are still to be set.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn twin(&self) -> Result<Self> {
        let mut twin = match &self.network {
            Network::Layers(_) => Self::without_values(self.spec.clone(), self.dtype())?,
            Network::Script(script) => {
                Self::from_module(script.module().copy(Device::Cpu)?, self.spec.clone(), self.dtype())?
            }
        };
        twin.to(self.engine())?;
        for position in 0..self.parameters.segments().len() {
            twin.parameters.set_trainable(position, self.parameters.is_trainable(position))?;
        }
        for norm in 0..self.buffers.len() {
            twin.buffers.set_frozen(norm, self.buffers.is_frozen(norm));
        }
        Ok(twin)
    }

    /// What could only be told once the module had answered.
    pub(crate) fn describe_script(
        &mut self,
        num_classes: i64,
        class_names: Option<Vec<String>>,
        normalization: Option<Normalization>,
    ) -> Result<()> {
        self.spec.num_classes = num_classes;
        for row in &mut self.rows {
            row.output_shape = vec![num_classes];
        }
        self.set_class_names(class_names)?;
        self.set_normalization(normalization)
    }

    /// None for a TorchScript model.
    pub(crate) fn layers(&self) -> Option<&[Node]> {
        match &self.network {
            Network::Layers(nodes) => Some(nodes),
            Network::Script(_) => None,
        }
    }

    /// Whether a TorchScript module computes the logits: a program, whose code is not ours.
    pub fn is_script(&self) -> bool {
        self.script().is_some()
    }

    pub(crate) fn script(&self) -> Option<&Script> {
        match &self.network {
            Network::Layers(_) => None,
            Network::Script(script) => Some(script),
        }
    }

    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// # Errors
    /// `ERR_FLATMIN_OPTION` if there is not one name for each class.
    pub fn set_class_names(&mut self, names: Option<Vec<String>>) -> Result<()> {
        self.spec.check_class_names(names.as_deref())?;
        self.spec.class_names = names;
        Ok(())
    }

    /// # Errors
    /// `ERR_FLATMIN_OPTION` if there is not one mean and one positive deviation for each channel.
    pub fn set_normalization(&mut self, normalization: Option<Normalization>) -> Result<()> {
        self.spec.check_normalization(normalization.as_ref())?;
        self.spec.normalization = normalization;
        Ok(())
    }

    pub fn dtype(&self) -> Dtype {
        self.parameters.dtype()
    }

    /// What computes the model.
    pub fn engine(&self) -> Engine {
        self.parameters.engine()
    }

    /// Dtype and device of the images that [`Self::forward`] takes.
    pub fn input_options(&self) -> (Kind, Device) {
        (self.dtype().kind(), self.engine().device())
    }

    /// Moves the model to another engine: weights and statistics keep their values, gradients and staged statistics go.
    /// Optimizers that were made for it serve no more.
    ///
    /// # Errors
    /// What libtorch answers if the device is not there or has no room.
    pub fn to(&mut self, engine: Engine) -> Result<()> {
        if engine == self.engine() {
            return Ok(());
        }
        let module = self.script().map(|script| script.module().copy(engine.device())).transpose()?;
        self.parameters.to(engine)?;
        self.buffers.to(engine.device(), self.parameters.dtype())?;
        if let (Network::Script(script), Some(module)) = (&mut self.network, module) {
            script.adopt(module, &self.parameters)?;
        }
        Ok(())
    }

    /// As [`Self::to`].
    ///
    /// # Errors
    /// As there.
    pub fn moved(mut self, engine: Engine) -> Result<Self> {
        self.to(engine)?;
        Ok(self)
    }

    pub fn parameters(&self) -> &ParameterArena {
        &self.parameters
    }

    pub fn parameters_mut(&mut self) -> &mut ParameterArena {
        &mut self.parameters
    }

    pub fn buffers(&self) -> &BufferArena {
        &self.buffers
    }

    pub fn buffers_mut(&mut self) -> &mut BufferArena {
        &mut self.buffers
    }

    pub(crate) fn positions(&self) -> &[usize] {
        &self.positions
    }

    pub(crate) fn entries(&self) -> &[StateEntry] {
        &self.entries
    }

    /// What the next training pass of the current step does with running statistics: optimizers set it between passes.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    pub fn set_statistics(&mut self, statistics: Statistics) {
        self.statistics = statistics;
    }

    /// What the loss is multiplied by before a backward pass, so that gradients do not vanish in float16: optimizers set
    /// it between steps, and divide it out of the gradients they get.
    pub fn loss_scale(&self) -> f64 {
        self.loss_scale
    }

    pub fn set_loss_scale(&mut self, loss_scale: f64) {
        self.loss_scale = loss_scale;
    }

    /// Whether training passes may use fused layers (the default). They have no second derivative: a pass that is to be
    /// differentiated twice needs the composite ones.
    pub fn set_fused(&mut self, fused: bool) {
        self.fused = fused;
    }

    pub fn is_fused(&self) -> bool {
        self.fused
    }

    /// Makes the running statistics that passes staged real.
    pub fn commit_statistics(&mut self) {
        self.buffers.commit();
    }

    /// Forgets the running statistics that passes staged.
    pub fn discard_statistics(&mut self) {
        self.buffers.discard();
    }

    /// Logits `[batch, numClasses]` of images `[batch, channels, height, width]`, which lie channels-last (others are
    /// copied). Both have [`Dtype::kind`], which is float32 for a model that computes in 16 bits. A model reads images of another
    /// size, too, where nothing stands against it ([`Self::obstacle`]). Gradients flow to the parameters, and to the
    /// images if they ask for them.
    ///
    /// # Errors
    /// `ERR_FLATMIN_SHAPE`, `ERR_FLATMIN_DTYPE` or `ERR_FLATMIN_DEVICE` for images that do not fit; `ERR_FLATMIN_SHAPE`
    /// if a batch norm in training gets a single value for each channel.
    pub fn forward(&self, images: &Tensor, pass: Pass) -> Result<Tensor> {
        let mask_seed = match pass {
            Pass::Eval => None,
            Pass::Train { mask_seed, .. } => Some(Seed::Value(mask_seed)),
        };
        self.run(images, pass, mask_seed)
    }

    /// A training pass as [`Self::forward`] makes it, with a mask seed that may lie in the memory of the device.
    ///
    /// # Errors
    /// As there.
    pub fn forward_train(&self, images: &Tensor, statistics: Statistics, mask_seed: Seed<'_>) -> Result<Tensor> {
        let value = match mask_seed {
            // A module draws by libtorch's generator, which wants a number.
            Seed::Memory(_) if self.script().is_none() => 0,
            seed => seed.value()?,
        };
        self.run(images, Pass::Train { statistics, mask_seed: value }, Some(mask_seed))
    }

    fn run(&self, images: &Tensor, pass: Pass, mask_seed: Option<Seed<'_>>) -> Result<Tensor> {
        self.check_images(images)?;
        if let Pass::Train { statistics: Statistics::Stage | Statistics::Average, .. } = pass {
            self.buffers.begin_pass()?;
        }
        let nodes = match &self.network {
            Network::Layers(nodes) => nodes,
            Network::Script(script) => return script.forward(images, pass, &self.buffers),
        };
        Ok(run(nodes, channels_last(images)?, &self.context(pass, mask_seed))?.f_to_kind(self.dtype().kind())?)
    }

    fn context<'a>(&'a self, pass: Pass, mask_seed: Option<Seed<'a>>) -> Context<'a> {
        Context {
            leaves: self.parameters.leaves(),
            positions: &self.positions,
            buffers: &self.buffers,
            pass,
            mask_seed,
            dtype: self.dtype(),
            engine: self.engine(),
            fused: self.fused,
        }
    }

    /// The layers that the model is a composition of: each begins with a convolution, a linear layer or a residual block
    /// and takes what follows without such weights along (normalisation, activation, pooling). A TorchScript module is one.
    pub fn layer_count(&self) -> usize {
        self.layer_starts().len()
    }

    /// The output of one layer in evaluation mode; the input of the first is what [`Self::forward`] takes, and the output
    /// of the last is the logits.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_layer(&self, layer: usize, input: &Tensor) -> Result<Tensor> {
        let Network::Layers(nodes) = &self.network else { return self.forward(input, Pass::Eval) };
        if layer == 0 {
            self.check_images(input)?;
        }
        let starts = self.layer_starts();
        let end = starts.get(layer + 1).copied().unwrap_or(nodes.len());
        // Layers may work in place.
        let input = if layer == 0 { channels_last(input)? } else { input.f_alias_copy()? };
        run(&nodes[starts[layer]..end], input, &self.context(Pass::Eval, None))
    }

    fn layer_starts(&self) -> Vec<usize> {
        let Network::Layers(nodes) = &self.network else { return vec![0] };
        let begins = |node: &Node| matches!(node, Node::Conv2d(_) | Node::Linear(_) | Node::Residual(_));
        let starts = nodes.iter().enumerate().filter(|(_, node)| begins(node)).map(|(index, _)| index);
        // What comes before the first weights belongs to them.
        std::iter::once(0).chain(starts.skip(1)).collect()
    }

    /// As [`ModelSpec::obstacle`], which compiles the spec anew for another size: passes go on with one size for long, so the
    /// last that was accepted is remembered.
    pub fn obstacle(&self, image: &[i64]) -> Option<String> {
        if image == self.accepted.get() {
            return None;
        }
        let obstacle = self.spec.obstacle(image);
        if let (None, Ok(image)) = (&obstacle, image.try_into()) {
            self.accepted.set(image);
        }
        obstacle
    }

    fn check_images(&self, images: &Tensor) -> Result<()> {
        let (kind, shape, [channels, height, width]) = (images.kind(), images.size(), self.spec.input_shape);
        if kind != self.dtype().kind() {
            let expected = if self.dtype() == Dtype::Float64 { "float64" } else { "float32" };
            return Err(Error::dtype("the input of the model", kind, expected));
        }
        let device = self.engine().device();
        if images.device() != device {
            return Err(Error::device("the input of the model", images.device(), device_name(device)));
        }
        let obstacle = match shape.split_first() {
            Some((1.., image)) => self.obstacle(image),
            _ => Some(String::new()),
        };
        if let Some(obstacle) = obstacle {
            let expected = format!("[batch, {channels}, {height}, {width}] with at least one image{obstacle}");
            return Err(Error::shape(format!("the input of the model '{}'", self.spec.name), &shape, expected));
        }
        Ok(())
    }

    /// Layers, shapes, parameters and costs.
    pub fn summary(&self) -> Summary {
        Summary::new(self.rows.clone(), self.buffers.element_count() as i64, self.dtype())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{self, ZooOptions};

    #[test]
    fn the_size_that_was_accepted_last_is_remembered() {
        let model = Model::new(zoo::spec("demo", &ZooOptions::default()).unwrap(), Dtype::Float32, 1).unwrap();
        let [channels, height, width] = model.spec().input_shape;
        let (own, larger, wrong) =
            ([channels, height, width], [channels, 2 * height, width], [channels + 1, height, width]);
        for image in [larger, larger, own, larger] {
            assert_eq!(model.obstacle(&image), None);
            assert_eq!(model.accepted.get(), image);
        }
        assert!(model.obstacle(&wrong).is_some() && model.obstacle(&wrong).is_some());
        assert_eq!(model.accepted.get(), larger);
    }
}
