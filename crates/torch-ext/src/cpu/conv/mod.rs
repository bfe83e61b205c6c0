//! Convolutions with 3 x 3 filters, channels-last, where kernels of our own are faster than libtorch's.

#[cfg(target_arch = "x86_64")]
mod lanes;
mod pairs;
#[cfg(target_arch = "x86_64")]
mod products;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
pub mod winograd;

use std::sync::LazyLock;

#[cfg(target_arch = "x86_64")]
pub use lanes::Lanes;
pub use pairs::weight_gradient as weight_gradient_of_pairs;

/// Side of the filters.
pub const KERNEL: usize = 3;
/// Channels of a vector.
const LANES: usize = 16;

/// Whether the processor multiplies whole tiles of bfloat16 (Intel's AMX), as libtorch's convolutions do there.
pub fn has_matrix_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        // AMX-BF16 is in edx of leaf 7.
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (1 << 22) != 0
    });
    #[cfg(not(target_arch = "x86_64"))]
    static FOUND: LazyLock<bool> = LazyLock::new(|| false);
    *FOUND
}

/// A convolution without bias, groups or dilation.
#[derive(Debug, Clone, Copy)]
pub struct Convolution {
    pub batch: usize,
    /// Height and width.
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub in_channels: usize,
    pub out_channels: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Convolution {
    /// Whether vectors hold whole groups of its channels.
    fn has_full_vectors(&self) -> bool {
        self.in_channels.is_multiple_of(LANES) && self.out_channels.is_multiple_of(LANES) && self.batch > 0
    }

    /// Filter taps of one output channel.
    fn taps(&self) -> usize {
        KERNEL * KERNEL * self.in_channels
    }

    pub fn input_len(&self) -> usize {
        self.batch * self.input[0] * self.input[1] * self.in_channels
    }

    pub fn output_len(&self) -> usize {
        self.batch * self.output[0] * self.output[1] * self.out_channels
    }

    pub fn weight_len(&self) -> usize {
        self.taps() * self.out_channels
    }
}
