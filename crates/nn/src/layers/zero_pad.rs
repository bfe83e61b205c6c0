//! Zeros around an image and after its channels; negative widths cut off.

use tch::Tensor;

use crate::error::Result;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct ZeroPad {
    /// Left, right, top, bottom, before and after the channels, as torch counts them.
    pub widths: [i64; 6],
}

impl ZeroPad {
    /// Answers the layer and its output shape.
    pub fn compile(spec: &spec::ZeroPad, site: &Site) -> Result<(Self, Vec<i64>)> {
        let &spec::ZeroPad { left, right, top, bottom, channels } = spec;
        let [in_channels, height, width] = site.image()?;
        for (field, size, least) in
            [("left", left, -width), ("right", right, -width), ("top", top, -height), ("bottom", bottom, -height)]
        {
            site.check_size(field, size, least)?;
        }
        site.check_size("channels", channels, 0)?;
        let shape = vec![in_channels + channels, height + top + bottom, width + left + right];
        if shape[1] < 1 || shape[2] < 1 {
            return Err(site.misfit("an image of which the negative widths leave something"));
        }
        Ok((Self { widths: [left, right, top, bottom, 0, channels] }, shape))
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        Ok(input.f_constant_pad_nd(self.widths)?)
    }
}
