//! The instrument /mandelbrot: a part of the set as a PNG. Proves that bytes come out as they are, and what computing costs.

use std::process::ExitCode;
use std::str::FromStr;

use wasio::Request;

/// More would take longer than a call may compute, and a palette has one byte.
const SIDE_MAX: u32 = 4096;
const PIXELS_MAX: u32 = 4 << 20;
const ITERATIONS_MAX: u32 = 100_000;

fn main() -> ExitCode {
    wasio::bytes(|request| {
        let part = Part {
            cx: number(request, "cx", -0.5, -4.0..=4.0)?,
            cy: number(request, "cy", 0.0, -4.0..=4.0)?,
            zoom: number(request, "zoom", 1.0, 1e-3..=1e13)?,
            width: number(request, "width", 800, 1..=SIDE_MAX)?,
            height: number(request, "height", 600, 1..=SIDE_MAX)?,
            iterations: number(request, "max_iter", 1000, 1..=ITERATIONS_MAX)?,
        };
        match part.width * part.height {
            0..=PIXELS_MAX => part.png().map_err(|error| error.to_string()),
            pixels => Err(format!("{pixels} pixels are more than {PIXELS_MAX}")),
        }
    })
}

/// A parameter within a range, or its default.
fn number<T>(request: &Request, key: &str, default: T, range: std::ops::RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display + Copy,
{
    let text = request.param_or(key, "");
    let value = if text.is_empty() { Some(default) } else { text.parse().ok() };
    value
        .filter(|value| range.contains(value))
        .ok_or_else(|| format!("'{text}' is not a number from {} to {}; '{key}' has to be one", range.start(), range.end()))
}

struct Part {
    cx: f64,
    cy: f64,
    zoom: f64,
    width: u32,
    height: u32,
    iterations: u32,
}

impl Part {
    fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(palette());
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels())?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Places in the palette, row by row.
    fn pixels(&self) -> Vec<u8> {
        // At a zoom of 1 the smaller side shows three units of the plane: all of the set.
        let step = 3.0 / self.zoom / f64::from(self.width.min(self.height));
        let at = |index: u32, size: u32| (f64::from(index) - f64::from(size - 1) / 2.0) * step;
        let rows = (0..self.height).map(|row| self.cy - at(row, self.height));
        rows.flat_map(|y| (0..self.width).map(move |column| self.color(self.cx + at(column, self.width), y))).collect()
    }

    /// 0 within the set, else the iterations it took to leave, around the rest of the palette.
    fn color(&self, cx: f64, cy: f64) -> u8 {
        if in_bulbs(cx, cy) {
            return 0;
        }
        let (mut x, mut y, mut xx, mut yy) = (0.0, 0.0, 0.0, 0.0);
        for iteration in 0..self.iterations {
            if xx + yy > 4.0 {
                return 1 + (iteration % 255) as u8;
            }
            y = 2.0 * x * y + cy;
            x = xx - yy + cx;
            (xx, yy) = (x * x, y * y);
        }
        0
    }
}

/// In the two largest parts of the set, where every point would take all iterations.
fn in_bulbs(x: f64, y: f64) -> bool {
    let q = (x - 0.25) * (x - 0.25) + y * y;
    q * (q + (x - 0.25)) <= 0.25 * y * y || (x + 1.0) * (x + 1.0) + y * y <= 0.0625
}

/// Black, and then from dark blue over white and orange back to where it began.
fn palette() -> Vec<u8> {
    const STOPS: [[u32; 3]; 5] = [[0, 7, 100], [32, 107, 203], [237, 255, 255], [255, 170, 0], [0, 2, 0]];
    let mut colors = vec![0, 0, 0];
    for index in 0..255_u32 {
        // Sixteen colours a stop: neighbours differ, and few iterations show already.
        let (stop, part) = ((index / 16) as usize % STOPS.len(), index % 16);
        let (from, to) = (STOPS[stop], STOPS[(stop + 1) % STOPS.len()]);
        colors.extend((0..3).map(|channel| ((from[channel] * (16 - part) + to[channel] * part) / 16) as u8));
    }
    colors
}
