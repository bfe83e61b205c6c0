//! The N-API boundary: classes prefixed `Binding` that convert and never compute. Heavy work goes to one compute thread
//! or to a run's own; errors cross as JSON `{"code", "message"}`, which TypeScript turns into `FlatminError`.

mod analysis;
mod batches;
mod bench;
mod compute;
mod data_job;
mod dataset;
mod disposable;
mod errors;
mod json;
mod lifecycle;
mod model;
mod model_compute;
mod model_parts;
mod model_state;
mod module;
mod optimizer;
mod run;
mod source;
mod tensor;
