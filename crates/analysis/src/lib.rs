//! Measures of flatness: sharpness, curvature, landscapes, margins. Each looks at a model in evaluation mode on a data set
//! and leaves it as it was, bit for bit.

mod arena;
mod ascent;
mod curvature;
mod error;
mod excursion;
mod lanczos;
mod landscape;
mod margin;
mod monitor;
mod objective;
mod plane;
mod sharpness;
mod trace;
mod trajectory;

pub use curvature::{Curvature, CurvatureOptions, DensityOptions, Eigenvalue, SpectralDensity, curvature};
pub use error::{Error, Result};
pub use landscape::{Line, LineEnd, LineOptions, SurfaceOptions, interpolation, surface};
pub use margin::{MarginOptions, Margins, all_layer_margins};
pub use monitor::{Monitor, Progress};
pub use plane::{Axis, Surface};
pub use sharpness::{Method, Point, Sharpness, SharpnessOptions, Spread, sharpness};
pub use trace::Trace;
pub use trajectory::{Trajectory, TrajectoryOptions, trajectory};
