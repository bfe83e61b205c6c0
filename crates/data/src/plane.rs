//! Pictures as planes: one a colour component, each at its own resolution, possibly only a part of it.
//! The resampler reads them; decoders write them.

use multiversion::multiversion;

/// A part of an image in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// What the planes mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Colour {
    #[default]
    Grey,
    Rgb,
    /// Luma and two chroma planes (JFIF).
    Ycc,
}

/// One component of a picture.
#[derive(Debug, Default)]
pub(crate) struct Plane {
    /// Row by row, `stride` apart.
    pub(crate) data: Vec<u8>,
    pub(crate) stride: usize,
    /// Where `data` begins in the whole component.
    pub(crate) top: usize,
    pub(crate) left: usize,
    /// Size of the whole component.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Pixels that share a sample, across and down; 1 but for subsampled chroma.
    pub(crate) across: usize,
    pub(crate) down: usize,
}

/// A picture, or the part of it that was asked for. Kept from image to image, so that its memory is.
#[derive(Debug, Default)]
pub(crate) struct Planes {
    /// One for grey, else three.
    pub(crate) planes: Vec<Plane>,
    pub(crate) colour: Colour,
}

impl Planes {
    /// Brings luma and chroma to red, green and blue at full size, bit for bit as libjpeg does with its smooth upsampling.
    pub(crate) fn convert_to_rgb(&mut self) {
        if self.colour != Colour::Ycc {
            return;
        }
        self.colour = Colour::Rgb;
        let [luma, blue, red] = &mut self.planes[..] else { return };
        let (mut cb, mut cr) = (Upsampled::default(), Upsampled::default());
        let (stride, top, left, height, width) = (luma.stride, luma.top, luma.left, luma.height, luma.width);
        let (mut greens, mut blues) = (vec![0; luma.data.len()], vec![0; luma.data.len()]);
        let rows = luma.data.chunks_exact_mut(stride);
        let outputs = greens.chunks_exact_mut(stride).zip(blues.chunks_exact_mut(stride));
        for ((y, row), (green, to_blue)) in rows.enumerate().zip(outputs) {
            let (cb, cr) = (cb.row(blue, top + y, left, stride), cr.row(red, top + y, left, stride));
            convert(row, cb, cr, green, to_blue);
        }
        // Luma has become red.
        let whole = |data| Plane { data, stride, top, left, height, width, across: 1, down: 1 };
        (self.planes[1], self.planes[2]) = (whole(greens), whole(blues));
    }

    /// Takes a part of interleaved pixels, `[height, width, channels]` with 1 or 3 channels.
    pub(crate) fn fill(&mut self, pixels: &[u8], width: usize, channels: usize, region: Region) {
        self.colour = if channels == 1 { Colour::Grey } else { Colour::Rgb };
        self.planes.resize_with(channels, Plane::default);
        let height = pixels.len() / (width * channels).max(1);
        for plane in &mut self.planes {
            let Region { top, left, .. } = region;
            let data = std::mem::take(&mut plane.data);
            *plane = Plane { data, stride: region.width, top, left, height, width, across: 1, down: 1 };
            plane.data.resize(region.height * region.width, 0);
        }
        let rows = pixels.chunks_exact(width * channels).skip(region.top).take(region.height);
        for (y, row) in rows.enumerate() {
            let row = &row[region.left * channels..(region.left + region.width) * channels];
            let at = y * region.width..(y + 1) * region.width;
            for (c, plane) in self.planes.iter_mut().enumerate() {
                let samples = row.iter().skip(c).step_by(channels);
                plane.data[at.clone()].iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

/// Rows of a chroma plane at the size of the image.
#[derive(Default)]
struct Upsampled {
    /// Four times the samples of a row, mixed from two.
    sums: Vec<u32>,
    row: Vec<u8>,
}

impl Upsampled {
    /// The `width` pixels of row `y` of the image from column `left` on.
    fn row(&mut self, plane: &Plane, y: usize, left: usize, width: usize) -> &[u8] {
        let rows = plane.data.len() / plane.stride.max(1);
        let line = |row: usize| {
            let row = row.min(plane.height - 1).saturating_sub(plane.top).min(rows - 1);
            &plane.data[row * plane.stride..(row + 1) * plane.stride]
        };
        let near = y / plane.down;
        let far = match y % plane.down {
            _ if plane.down != 2 => near,
            0 => near.saturating_sub(1),
            _ => near + 1,
        };
        self.sums.clear();
        self.sums.extend(line(near).iter().zip(line(far)).map(|(&a, &b)| 3 * u32::from(a) + u32::from(b)));
        // What libjpeg adds before it shifts: first at even places, then at odd ones.
        let (even, odd) = match (plane.across, plane.down) {
            (2, 2) => (8, 7),
            (2, _) => (4, 8),
            _ if y.is_multiple_of(2) => (1, 1),
            _ => (2, 2),
        };
        let last = (plane.width - 1).saturating_sub(plane.left).min(plane.stride - 1);
        let sum = |at: usize| self.sums[at.min(last)];
        self.row.clear();
        self.row.extend((left..left + width).map(|x| {
            let at = (x / plane.across).saturating_sub(plane.left);
            let value = match (plane.across, x % 2) {
                (2, 0) => (3 * sum(at) + sum(at.saturating_sub(1)) + even) >> 4,
                (2, _) => (3 * sum(at) + sum(at + 1) + odd) >> 4,
                _ => (sum(at) + even) >> 2,
            };
            value as u8
        }));
        &self.row
    }
}

/// A row from JFIF's luma and chroma, in 16-bit fixed point; luma becomes red.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw", "x86_64+avx2"))]
fn convert(luma: &mut [u8], cb: &[u8], cr: &[u8], green: &mut [u8], blue: &mut [u8]) {
    let byte = |value: i32| value.clamp(0, 255) as u8;
    for ((((red, green), blue), &cb), &cr) in luma.iter_mut().zip(green).zip(blue).zip(cb).zip(cr) {
        let (y, cb, cr) = (i32::from(*red), i32::from(cb) - 128, i32::from(cr) - 128);
        *red = byte(y + ((91_881 * cr + 32_768) >> 16));
        *green = byte(y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16));
        *blue = byte(y + ((116_130 * cb + 32_768) >> 16));
    }
}
