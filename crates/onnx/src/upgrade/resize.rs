//! Resizing and sampling of images.

use landfall_graph::{Attribute, ValueId};
use landfall_tensor::{Shape, Tensor};

use super::draft::{Draft, Refusal, text};

/// `Upsample` is a `Resize` that repeats, or interpolates from the corner of the image.
pub(super) fn upsample(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let scales = match draft.version {
        ..7 => {
            let height = draft.take_float("height_scale")?.unwrap_or(1.0);
            Some(vec![1.0, 1.0, height, draft.take_float("width_scale")?.unwrap_or(1.0)])
        }
        _ => draft.take_floats("scales")?,
    };
    let scales = match scales {
        Some(scales) => {
            let scales = Tensor::from_slice(Shape::from([scales.len()]), &scales);
            draft.constant(scales.map_err(|error| error.to_string())?)
        }
        None => draft.required(1)?,
    };
    if draft.attributes.get("mode") == Some(&text("bilinear")) {
        draft.set("mode", text("linear"));
    }
    from_corner(draft, scales, "floor")
}

/// The first `Resize` knew one way to map coordinates, and rounded by whether it enlarges.
pub(super) fn resize_10(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let scales = draft.required(1)?;
    let enlarges = draft.graph.constant(scales).is_some_and(|tensor| {
        let tensor = tensor.aligned();
        tensor.as_slice::<f32>().is_ok_and(|scales| scales.iter().all(|&scale| scale >= 1.0))
    });
    from_corner(draft, scales, if enlarges { "floor" } else { "simple" })
}

fn from_corner(draft: &mut Draft<'_>, scales: ValueId, nearest_mode: &str) -> Result<(), Refusal> {
    draft.inputs = vec![Some(draft.required(0)?), None, Some(scales)];
    draft.become_standard("Resize");
    draft.set("coordinate_transformation_mode", text("asymmetric"));
    if draft.attributes.get("mode").is_none_or(|mode| *mode == text("nearest")) {
        draft.set("nearest_mode", text(nearest_mode));
    }
    Ok(())
}

/// Exporters give empty constants for inputs that they mean to leave out.
pub(super) fn drop_empty_inputs(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    for index in 1..draft.inputs.len() {
        let tensor = draft.input(index).and_then(|id| draft.graph.constant(id));
        if tensor.is_some_and(|tensor| tensor.elements() == 0) {
            draft.set_input(index, None);
        }
    }
    Ok(())
}

/// Coordinates were not shifted by half a pixel.
pub(super) fn roi_align(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.set("coordinate_transformation_mode", text("output_half_pixel"));
    Ok(())
}

/// Modes were named after their two-dimensional case.
pub(super) fn grid_sample(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    match draft.attributes.get("mode") {
        Some(Attribute::Text(mode)) if mode == "bilinear" => draft.set("mode", text("linear")),
        Some(Attribute::Text(mode)) if mode == "bicubic" => draft.set("mode", text("cubic")),
        _ => (),
    }
    Ok(())
}
