//! A layer's place in the model while it is compiled: its name and the shape that reaches it. All complaints about a
//! layer are worded here, so that each names the layer, what was found and what it needs.

use crate::error::{Error, Result};
use crate::spec::check_size;
use crate::summary::LayerSummary;

/// A layer's place in the model: what its errors name.
#[derive(Debug)]
pub(crate) struct Site {
    /// Dotted.
    pub name: String,
    pub kind: &'static str,
    /// Shape of one image's input, without the batch.
    pub input: Vec<i64>,
}

impl Site {
    /// The input as `[channels, height, width]`.
    pub fn image(&self) -> Result<[i64; 3]> {
        <[i64; 3]>::try_from(self.input.as_slice()).map_err(|_| self.misfit("[channels, height, width]"))
    }

    /// The features of `[features]` or of each token of `[tokens, features]`.
    pub fn vectors(&self) -> Result<i64> {
        match self.input[..] {
            [features] | [_, features] => Ok(features),
            _ => Err(self.misfit("[features] or [tokens, features]: put a flatten or toTokens before it")),
        }
    }

    /// The input as `[tokens, features]`.
    pub fn tokens(&self) -> Result<[i64; 2]> {
        let misfit = || self.misfit("[tokens, features]: put toTokens before it");
        <[i64; 2]>::try_from(self.input.as_slice()).map_err(|_| misfit())
    }

    /// The input does not suit the layer.
    pub fn misfit(&self, expected: impl Into<String>) -> Error {
        Error::shape(format!("the input of layer '{}' ({})", self.name, self.kind), &self.input, expected)
    }

    /// A setting of the layer is wrong.
    pub fn option(&self, field: &str, found: impl ToString, expected: impl Into<String>) -> Error {
        Error::option(self.field(field), found, expected)
    }

    pub fn check_size(&self, field: &str, size: i64, least: i64) -> Result<()> {
        check_size(self.field(field), size, least)
    }

    /// Names become parts of dotted names.
    pub fn check_name(&self, field: &str, name: &str) -> Result<()> {
        if name.is_empty() || name.contains(|c: char| c == '.' || c.is_whitespace()) {
            return Err(self.option(field, format!("'{name}'"), "a name without dots or spaces"));
        }
        Ok(())
    }

    pub fn check_eps(&self, eps: f64) -> Result<()> {
        if eps.is_finite() && eps >= 0.0 {
            return Ok(());
        }
        Err(self.option("eps", eps, "a number of at least 0"))
    }

    /// How many windows fit, `[rows, columns]`.
    pub fn windows(&self, kernel: i64, stride: i64, padding: i64) -> Result<[i64; 2]> {
        let [_, height, width] = self.image()?;
        self.check_size("kernelSize", kernel, 1)?;
        self.check_size("stride", stride, 1)?;
        self.check_size("padding", padding, 0)?;
        if height.min(width) + 2 * padding < kernel {
            let expected = format!("an image of at least {0} x {0} for kernelSize {kernel}", kernel - 2 * padding);
            return Err(self.misfit(expected));
        }
        Ok([height, width].map(|size| (size + 2 * padding - kernel) / stride + 1))
    }

    /// The product of the sizes, refused if no memory could hold it.
    pub fn element_count(&self, shape: &[i64]) -> Result<i64> {
        let product = shape.iter().try_fold(1i64, |product, &size| product.checked_mul(size));
        product.filter(|&count| count < 1 << 40).ok_or_else(|| {
            let what = format!("a tensor of layer '{}' ({})", self.name, self.kind);
            Error::shape(what, shape, "a size that fits into memory")
        })
    }

    fn field(&self, field: &str) -> String {
        format!("{field} of layer '{}' ({})", self.name, self.kind)
    }

    /// What the names of its layers begin with.
    pub fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}.", self.name) }
    }

    /// A row of the summary for a layer that costs nothing.
    pub fn row(&self, output_shape: &[i64]) -> LayerSummary {
        LayerSummary {
            name: self.name.clone(),
            kind: self.kind,
            output_shape: output_shape.to_vec(),
            parameters: 0,
            macs: 0,
            kept: 0,
        }
    }
}
