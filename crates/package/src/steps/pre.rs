//! The steps before the graph.

use serde::{Deserialize, Serialize};

use crate::DatatypeName;

/// A step before the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreStep {
    /// Text to token ids.
    Tokenize(Tokenize),
    /// JPEG or PNG bytes to RGB pixels.
    DecodeImage(DecodeImage),
    /// Pixels to another size.
    Resize(Resize),
    /// The middle of an image.
    CenterCrop(CenterCrop),
    /// `(x * scale - mean) / std` per channel.
    Normalize(Normalize),
    /// Channels last to first, or back.
    ToLayout(ToLayout),
    /// Another number type.
    Cast(Cast),
    /// `x * factor + offset`.
    Scale(Scale),
    /// Another name for a value.
    Rename(Rename),
    /// Text to the integer that a mapping gives it.
    EncodeCategory(EncodeCategory),
}

/// Text `[batch]` to token ids, mask and segment ids `[batch, sequence]`, by a `tokenizer.json`.
///
/// Rows are padded to the longest of the request, or to the model's own length where that is fixed,
/// and cut at `max_length`. The ids have the integer type that the model takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenize {
    /// Asset: a `tokenizer.json` of the `tokenizers` library.
    pub tokenizer: String,
    /// Most tokens of a row, special tokens included.
    pub max_length: usize,
    /// The text's name for callers.
    #[serde(default = "text_name")]
    pub text: String,
    /// A second text of each row, for models of pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// What the results are called; by default those of `input_ids`, `attention_mask` and
    /// `token_type_ids` that the model takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<TokenNames>,
}

fn text_name() -> String {
    "text".to_owned()
}

/// Names of a tokenizer's results; what has none is not produced.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenNames {
    /// Ids of the tokens.
    pub input_ids: String,
    /// 1 for a token, 0 for padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_mask: Option<String>,
    /// 0 for the first text, 1 for the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type_ids: Option<String>,
}

/// JPEG or PNG files, one a row, to RGB pixels `[batch, height, width, 3]` of `u8`.
///
/// Transparency is dropped, grey becomes RGB, and the orientation tag is not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeImage {
    /// The files' name for callers.
    pub input: String,
    /// The pixels' name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Pixels to another size, filtered against aliasing as Pillow does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// The size to reach.
    pub size: Size,
    /// How the size is meant.
    #[serde(default)]
    pub mode: ResizeMode,
    /// How pixels are weighted.
    #[serde(default)]
    pub filter: Filter,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// `224` or `[height, width]`, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// The same height and width.
    Square(usize),
    /// Height and width.
    HeightWidth([usize; 2]),
}

impl Size {
    /// Height and width.
    pub fn height_width(self) -> (usize, usize) {
        match self {
            Size::Square(side) => (side, side),
            Size::HeightWidth([height, width]) => (height, width),
        }
    }
}

/// What a resize's `size` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// Exactly this height and width, whatever the proportions.
    #[default]
    Exact,
    /// The shorter side has this many pixels, proportions are kept; the longer side is rounded
    /// down, as torchvision does.
    Shortest,
}

/// How a resize weights pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The pixel at the centre, without filtering.
    Nearest,
    /// A triangle.
    #[default]
    Bilinear,
    /// Cubic convolution with a = -0.5.
    Bicubic,
    /// A sinc in a window of three lobes.
    Lanczos,
}

/// The middle of an image, by `size` or by `fraction`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Height and width to keep; a smaller image gets a black border.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// A square with this fraction of the shorter side, above 0 up to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// `(x * scale - mean) / std` along the innermost axis, from `u8` or `f32` to `f32`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// One value a channel, or one for all.
    pub mean: Vec<f64>,
    /// One value a channel, or one for all; not 0.
    pub std: Vec<f64>,
    /// Applied first; 1 if left out.
    #[serde(default = "one")]
    pub scale: f64,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// Which axis of images holds the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageLayout {
    /// `[batch, channel, height, width]`.
    Nchw,
    /// `[batch, height, width, channel]`.
    Nhwc,
}

/// Images from the other layout to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToLayout {
    /// The layout to reach.
    pub layout: ImageLayout,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Numbers to another type: floats to integers towards zero and saturating, NaN to 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The type to reach: `u8`, `i32`, `i64`, `f32`, `f64` or `bool`.
    pub to: DatatypeName,
    /// The type that callers send; needed where no step before tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DatatypeName>,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// `x * factor + offset`, from `u8` or `f32` to `f32`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Multiplied first.
    pub factor: f64,
    /// Added then.
    #[serde(default)]
    pub offset: f64,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Another name for a value: `from` is what it has been called, for a first step by callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The name so far.
    pub from: String,
    /// The name from here on.
    pub to: String,
}

/// Text to the integer that a mapping gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodeCategory {
    /// Asset: a JSON object from text to integer.
    pub mapping: String,
    /// The integer of text that the mapping lacks; without it such text is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<i64>,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

impl PreStep {
    /// The step's key where it is declared.
    pub fn name(&self) -> &'static str {
        match self {
            PreStep::Tokenize(_) => "tokenize",
            PreStep::DecodeImage(_) => "decode_image",
            PreStep::Resize(_) => "resize",
            PreStep::CenterCrop(_) => "center_crop",
            PreStep::Normalize(_) => "normalize",
            PreStep::ToLayout(_) => "to_layout",
            PreStep::Cast(_) => "cast",
            PreStep::Scale(_) => "scale",
            PreStep::Rename(_) => "rename",
            PreStep::EncodeCategory(_) => "encode_category",
        }
    }

    /// The asset that the step reads.
    pub fn asset(&self) -> Option<&str> {
        match self {
            PreStep::Tokenize(step) => Some(&step.tokenizer),
            PreStep::EncodeCategory(step) => Some(&step.mapping),
            _ => None,
        }
    }

    /// The declared `input` and `output` of a step that takes and writes one value.
    pub(super) fn ports(&self) -> (Option<&str>, Option<&str>) {
        match self {
            PreStep::Tokenize(_) => (None, None),
            PreStep::DecodeImage(s) => (Some(&s.input), s.output.as_deref()),
            PreStep::Resize(s) => (s.input.as_deref(), s.output.as_deref()),
            PreStep::CenterCrop(s) => (s.input.as_deref(), s.output.as_deref()),
            PreStep::Normalize(s) => (s.input.as_deref(), s.output.as_deref()),
            PreStep::ToLayout(s) => (s.input.as_deref(), s.output.as_deref()),
            PreStep::Cast(s) => (s.input.as_deref(), s.output.as_deref()),
            PreStep::Scale(s) => (s.input.as_deref(), s.output.as_deref()),
            PreStep::Rename(s) => (Some(&s.from), Some(&s.to)),
            PreStep::EncodeCategory(s) => (s.input.as_deref(), s.output.as_deref()),
        }
    }
}
