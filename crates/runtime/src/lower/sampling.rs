//! Sampling of images: grids, regions of interest, moved windows, and the inverse of pooling.

use landfall_graph::infer::unpooled_extents;
use landfall_graph::{Op, ops};
use landfall_kernels::elementwise::CastElement;
use landfall_kernels::sample::{
    DeformableConv, DeformableOperands, GridMode, GridPadding, GridSample, Region, RegionMaps,
    RoiAlign, affine_grid, deformable_conv, grid_sample, max_roi_pool, roi_align,
};
use landfall_tensor::{DType, Shape, TensorView};

use super::types::{any_type, float_type, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::AffineGrid(op) => lower_affine(site, op.align_corners),
        Op::DeformConv(op) => lower_deformable(site, op),
        Op::GridSample(op) => lower_grid(site, op),
        Op::MaxRoiPool(op) => lower_regions(site, op.spatial_scale, None),
        Op::MaxUnpool(op) => lower_unpool(site, op),
        Op::RoiAlign(op) => lower_regions(site, op.spatial_scale, Some(op)),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// The points of affine maps.
struct Affine {
    extents: Vec<usize>,
    align_corners: bool,
}

fn lower_affine(site: &Site<'_>, align_corners: bool) -> Result<Lowered, KernelError> {
    let (theta, out) = (site.shape(0)?, site.output_shape(0)?);
    let axes = out.rank().saturating_sub(2);
    if axes == 0 || *theta != [out[0], axes, axes + 1] {
        return KernelError::invalid(format!(
            "theta has shape {:?} for a grid of shape {:?}, expected [N, {axes}, {}]",
            &*theta,
            &*out,
            axes + 1
        ));
    }
    boxed(Affine { extents: out[1..=axes].to_vec(), align_corners })
}

impl Kernel for Affine {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let theta = io.input(0)?;
        let out = &mut io.outputs[0];
        float_type!(theta.dtype(), T => {
            let (theta, out) = (theta.as_slice::<T>()?, out.as_mut_slice()?);
            affine_grid::<T>(&self.extents, self.align_corners, theta, out);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("affine_grid", "f64")
    }
}

/// Sampling at grid points.
struct Grid(GridSample);

fn lower_grid(site: &Site<'_>, op: &ops::GridSample) -> Result<Lowered, KernelError> {
    let (x, grid) = (site.shape(0)?, site.shape(1)?);
    let axes = x.rank().saturating_sub(2);
    if !(1..=3).contains(&axes) || grid.rank() != x.rank() {
        return KernelError::unsupported(format!(
            "an image of rank {} with a grid of rank {}; one to three spatial axes are supported",
            x.rank(),
            grid.rank()
        ));
    }
    if grid[0] != x[0] || grid[axes + 1] != axes {
        return KernelError::invalid(format!(
            "a grid of shape {:?} for an image of shape {:?}",
            &*grid, &*x
        ));
    }
    let mode = match op.mode.as_str() {
        "nearest" => GridMode::Nearest,
        "linear" => GridMode::Linear,
        "cubic" => GridMode::Cubic,
        other => return KernelError::unsupported(format!("grid sampling of mode '{other}'")),
    };
    let padding = match op.padding_mode.as_str() {
        "zeros" => GridPadding::Zeros,
        "border" => GridPadding::Border,
        "reflection" => GridPadding::Reflection,
        other => return KernelError::unsupported(format!("grid padding of mode '{other}'")),
    };
    let mut input = [1; 3];
    input[3 - axes..].copy_from_slice(&x[2..]);
    let points = grid[1..=axes].iter().product();
    if input.contains(&0) && points > 0 {
        return KernelError::invalid("the image has no pixels");
    }
    let align_corners = op.align_corners;
    let (batch, channels) = (x[0], x[1]);
    let sample = GridSample { batch, channels, input, axes, points, mode, padding, align_corners };
    boxed(Grid(sample))
}

impl Kernel for Grid {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, grid, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let out = &mut io.outputs[0];
        number_type!(x.dtype(), T => {
            float_type!(grid.dtype(), G => {
                let (x, grid) = (x.as_slice::<T>()?, grid.as_slice::<G>()?);
                grid_sample(exec, &self.0, x, grid, out.as_mut_slice()?);
            })
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("grid_sample", "f32")
    }
}

/// Pooling over regions of interest.
struct Regions {
    batch: usize,
    maps: RegionMaps,
    /// Sampling, or `None` for the maximum of whole pixels.
    align: Option<RoiAlign>,
}

fn lower_regions(
    site: &Site<'_>,
    scale: f32,
    op: Option<&ops::RoiAlign>,
) -> Result<Lowered, KernelError> {
    let (x, rois, out) = (site.shape(0)?, site.shape(1)?, site.output_shape(0)?);
    let columns = if op.is_some() { 4 } else { 5 };
    let (&[batch, channels, height, width], &[count, found]) = (&*x, &*rois) else {
        return KernelError::invalid(format!(
            "maps of rank {} and regions of rank {}, expected 4 and 2",
            x.rank(),
            rois.rank()
        ));
    };
    if found != columns || out.rank() != 4 || (height * width == 0 && out.elements() > 0) {
        return KernelError::invalid(format!(
            "regions of {found} numbers for results of rank {} from maps of {height} by {width}; \
             expected {columns} numbers and rank 4",
            out.rank()
        ));
    }
    let maps =
        RegionMaps { channels, height, width, bins: [out[2], out[3]], scale: f64::from(scale) };
    let Some(op) = op else { return boxed(Regions { batch, maps, align: None }) };
    if site.shape(2)?.elements() != count {
        return KernelError::invalid(format!("{count} regions need as many batch indices"));
    }
    let half_pixel = match op.coordinate_transformation_mode.as_str() {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return KernelError::unsupported(format!("region coordinates '{other}'")),
    };
    let largest = match op.mode.as_str() {
        "avg" => false,
        "max" => true,
        other => return KernelError::unsupported(format!("region pooling of mode '{other}'")),
    };
    let samples = usize::try_from(op.sampling_ratio).unwrap_or(0);
    boxed(Regions { batch, maps, align: Some(RoiAlign { maps, samples, half_pixel, largest }) })
}

/// More samples than this in a bin are a mistake in the region, not a wish.
const SAMPLES: usize = 1 << 14;

impl Regions {
    fn region(&self, row: &[f64], image: f64) -> Result<Region, KernelError> {
        let corners = match row {
            &[a, b, c, d] | &[_, a, b, c, d] => [a, b, c, d],
            _ => return KernelError::invalid("a region of other than 4 or 5 numbers"),
        };
        if !(0.0..self.batch as f64).contains(&image) || !corners.iter().all(|x| x.is_finite()) {
            return KernelError::invalid(format!(
                "region {corners:?} of image {image}, expected finite corners of one of {} images",
                self.batch
            ));
        }
        let region = Region { image: image as usize, corners };
        let bins = self.align.map_or([0; 2], |align| align.bin_samples(&region));
        if bins.iter().any(|&samples| samples > SAMPLES) {
            return KernelError::invalid(format!(
                "region {corners:?} needs {bins:?} samples a bin"
            ));
        }
        Ok(region)
    }

    fn regions<T: CastElement>(&self, io: &Io<'_>) -> Result<Vec<Region>, KernelError> {
        let numbers = io.input(1)?;
        let numbers: Vec<f64> = numbers.as_slice::<T>()?.iter().map(|x| x.to_real()).collect();
        if self.align.is_none() {
            return numbers.chunks_exact(5).map(|row| self.region(row, row[0])).collect();
        }
        let images: Vec<f64> = reals(io.input(2)?)?;
        let pairs = numbers.chunks_exact(4).zip(images);
        pairs.map(|(row, image)| self.region(row, image)).collect()
    }

    fn typed<T: CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let regions = self.regions::<T>(io)?;
        let (x, exec) = (io.input(0)?.as_slice::<T>()?, io.exec);
        let out = io.outputs[0].as_mut_slice::<T>()?;
        match &self.align {
            _ if out.is_empty() => {}
            Some(align) => roi_align(exec, align, &regions, x, out),
            None => max_roi_pool(exec, &self.maps, &regions, x, out),
        }
        Ok(())
    }
}

/// Elements of any numeric type as reals.
fn reals(view: TensorView<'_>) -> Result<Vec<f64>, KernelError> {
    number_type!(view.dtype(), T => {
        Ok(view.as_slice::<T>()?.iter().map(|x| x.to_real()).collect())
    })
}

impl Kernel for Regions {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        float_type!(io.input(0)?.dtype(), T => self.typed::<T>(io))
    }

    fn info(&self) -> KernelInfo {
        let kernel = if self.align.is_some() { "roi_align" } else { "max_roi_pool" };
        KernelInfo::portable(kernel, "f64")
    }
}

/// Deformable convolution.
struct Deformable(DeformableConv);

fn lower_deformable(site: &Site<'_>, op: &ops::DeformConv) -> Result<Lowered, KernelError> {
    let (x, w, offsets) = (site.shape(0)?, site.shape(1)?, site.shape(2)?);
    let (&[batch, channels, ih, iw], &[out_channels, inputs, kh, kw], &[ob, oc, oh, ow]) =
        (&*x, &*w, &*offsets)
    else {
        return KernelError::unsupported("deformable convolution needs two spatial axes");
    };
    let positive = |n: i64| usize::try_from(n).unwrap_or(0);
    let (groups, offset_groups) = (positive(op.group), positive(op.offset_group));
    let divides = |n: usize, by: usize| by > 0 && n.is_multiple_of(by);
    if !divides(channels, groups)
        || !divides(out_channels, groups)
        || !divides(channels, offset_groups)
        || channels != inputs * groups
        || ob != batch
        || oc != offset_groups * kh * kw * 2
    {
        return KernelError::invalid(format!(
            "operands of shapes {:?}, {:?} and {:?} with {groups} groups and {offset_groups} \
             groups of offsets",
            &*x, &*w, &*offsets
        ));
    }
    let pair = |list: &[i64], default: i64| -> Result<[usize; 2], KernelError> {
        let at = |i: usize| list.get(i).copied().unwrap_or(default);
        match (usize::try_from(at(0)), usize::try_from(at(1))) {
            (Ok(y), Ok(x)) if y.max(x) <= i32::MAX as usize => Ok([y, x]),
            _ => KernelError::invalid(format!("strides, dilations or pads of {list:?}")),
        }
    };
    let mask = site.has(4).then(|| site.shape(4)).transpose()?;
    let bias = site.has(3).then(|| site.shape(3)).transpose()?;
    let elements =
        |shape: Option<Shape>, wanted: usize| shape.is_none_or(|shape| shape.elements() == wanted);
    if !elements(mask, ob * offset_groups * kh * kw * oh * ow) || !elements(bias, out_channels) {
        return KernelError::invalid("the mask or the bias has another number of elements");
    }
    boxed(Deformable(DeformableConv {
        batch,
        channels,
        out_channels,
        groups,
        offset_groups,
        input: [ih, iw],
        output: [oh, ow],
        kernel: [kh, kw],
        stride: pair(&op.strides, 1)?,
        dilation: pair(&op.dilations, 1)?,
        pad: pair(&op.pads, 0)?,
    }))
}

impl Kernel for Deformable {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, exec) = (io.input(0)?, io.exec);
        float_type!(x.dtype(), T => {
            let optional = |index: usize| io.optional(index).map(|v| v.as_slice::<T>()).transpose();
            let operands = DeformableOperands {
                x: x.as_slice::<T>()?,
                w: io.input(1)?.as_slice()?,
                offsets: io.input(2)?.as_slice()?,
                bias: optional(3)?,
                mask: optional(4)?,
            };
            deformable_conv(exec, &self.0, &operands, io.outputs[0].as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("deformable_conv", "f64")
    }
}

/// Puts pooled elements back where they were.
struct Unpool {
    /// Shape that the indices count in.
    inferred: Shape,
    /// Shape of the result.
    output: Shape,
}

fn lower_unpool(site: &Site<'_>, op: &ops::MaxUnpool) -> Result<Lowered, KernelError> {
    let (x, output) = (site.shape(0)?, site.output_shape(0)?);
    let spatial = unpooled_extents(op, x.get(2..).unwrap_or(&[]))?;
    let inferred: Shape = x.iter().take(2).copied().chain(spatial).collect();
    let fits = inferred.rank() == output.rank()
        && inferred.iter().zip(output.iter()).all(|(inner, outer)| inner <= outer);
    if !fits || site.shape(1)? != x {
        return KernelError::invalid(format!(
            "unpooling {:?} to {:?} by indices of shape {:?} needs at least {:?}",
            &*x,
            &*output,
            &*site.shape(1)?,
            &*inferred
        ));
    }
    if site.dtype(1)? != DType::I64 {
        return KernelError::invalid("indices must be i64");
    }
    boxed(Unpool { inferred, output })
}

impl Unpool {
    /// Where in the result an index of the unpadded tensor lies.
    fn place(&self, index: i64) -> Result<usize, KernelError> {
        let elements = self.inferred.elements();
        let Some(mut rest) = usize::try_from(index).ok().filter(|&index| index < elements) else {
            return KernelError::invalid(format!("index {index} of {elements} elements"));
        };
        let (mut place, mut stride) = (0, 1);
        for (&inner, &outer) in self.inferred.iter().zip(self.output.iter()).rev() {
            place += rest % inner * stride;
            rest /= inner;
            stride *= outer;
        }
        Ok(place)
    }
}

impl Kernel for Unpool {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, indices) = (io.input(0)?, io.input(1)?.as_slice::<i64>()?);
        let out = &mut io.outputs[0];
        any_type!(x.dtype(), T => {
            let (x, out) = (x.as_slice::<T>()?, out.as_mut_slice::<T>()?);
            out.fill(T::from_real(0.0));
            for (&value, &index) in x.iter().zip(indices) {
                out[self.place(index)?] = value;
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("max_unpool", "any")
    }
}
