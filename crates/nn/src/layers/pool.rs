//! Maximum and mean over windows.

use tch::Tensor;

use crate::error::Result;
use crate::site::Site;
use crate::spec;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    Max,
    Mean,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Pool2d {
    pub reduction: Reduction,
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
}

impl Pool2d {
    pub fn compile_max(spec: &spec::Pool2d, site: &Site) -> Result<(Self, Vec<i64>)> {
        Self::compile(spec, Reduction::Max, site)
    }

    pub fn compile_mean(spec: &spec::Pool2d, site: &Site) -> Result<(Self, Vec<i64>)> {
        Self::compile(spec, Reduction::Mean, site)
    }

    fn compile(spec: &spec::Pool2d, reduction: Reduction, site: &Site) -> Result<(Self, Vec<i64>)> {
        let &spec::Pool2d { kernel_size: kernel, stride, padding } = spec;
        let stride = stride.unwrap_or(kernel);
        let [channels, ..] = site.image()?;
        let [height, width] = site.windows(kernel, stride, padding)?;
        if padding > kernel / 2 {
            return Err(site.option("padding", padding, format!("at most half of kernelSize, which is {kernel}")));
        }
        Ok((Self { reduction, kernel, stride, padding }, vec![channels, height, width]))
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (kernel, stride, padding) = ([self.kernel; 2], [self.stride; 2], [self.padding; 2]);
        Ok(match self.reduction {
            Reduction::Max => input.f_max_pool2d(kernel, stride, padding, [1, 1], false)?,
            Reduction::Mean => input.f_avg_pool2d(kernel, stride, padding, false, true, None)?,
        })
    }
}
