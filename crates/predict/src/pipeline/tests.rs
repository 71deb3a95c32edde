//! Whole pipelines: text to ids, files to pixels, scores to labels, and what they refuse.

use std::collections::HashMap;
use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_package::steps::{Filter, PostStep, PreStep};
use landfall_tensor::{Buffer, DType, Shape, Tensor};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::geometry::Image;
use super::{Limits, Pipeline, resample};
use crate::{ErrorKind, Steps};

fn spec(name: &str, dtype: DType, dims: &[&str]) -> TensorSpec {
    let dim = |dim: &&str| match dim.parse() {
        Ok(extent) => DimSpec::Known(extent),
        Err(_) => DimSpec::Symbol((*dim).to_owned()),
    };
    TensorSpec { name: name.into(), dtype, dims: Some(dims.iter().map(dim).collect()) }
}

fn signature(inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Signature {
    Signature { inputs: inputs.to_vec(), outputs: outputs.to_vec() }
}

fn compile_within(
    limits: Limits,
    pre: Value,
    post: Value,
    inner: &Signature,
) -> Result<Pipeline, String> {
    let pre: Vec<PreStep> = serde_json::from_value(pre).map_err(|e| e.to_string())?;
    let post: Vec<PostStep> = serde_json::from_value(post).map_err(|e| e.to_string())?;
    let assets = HashMap::from([
        ("tokenizer.json", tokenizer()),
        ("labels.txt", "cat\ndog\r\nfox\n".to_owned()),
        ("carriers.json", r#"{"AA": 0, "UA": 7}"#.to_owned()),
    ]);
    let asset = |name: &str| {
        assets.get(name).map(|text| text.clone().into_bytes()).ok_or("not found".to_owned())
    };
    Pipeline::compile(&pre, &post, asset, inner, limits).map_err(|e| e.to_string())
}

fn compile(pre: Value, post: Value, inner: &Signature) -> Result<Pipeline, String> {
    compile_within(Limits::default(), pre, post, inner)
}

/// A WordPiece tokenizer as BERT's, with ten entries.
fn tokenizer() -> String {
    let special = |id: usize, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"),
                         special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
                       "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "late": 4, "flight": 5,
                      "##s": 6, "the": 7, "!": 8, "##ly": 9}
        }
    })
    .to_string()
}

fn bert() -> Signature {
    let dims = ["n", "seq"];
    signature(
        &[
            spec("input_ids", DType::I64, &dims),
            spec("attention_mask", DType::I64, &dims),
            spec("token_type_ids", DType::I32, &dims),
        ],
        &[spec("hidden", DType::F32, &["n", "seq", "2"])],
    )
}

fn strings(values: &[&str]) -> Tensor {
    let values = values.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Tensor::from_strings(Shape::from([values.len()]), values).unwrap()
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(Shape::from(shape), values).unwrap()
}

fn tokenize() -> Value {
    json!([{"tokenize": {"tokenizer": "tokenizer.json", "max_length": 6}}])
}

#[test]
fn text_becomes_ids_padded_to_the_longest_and_vectors_are_pooled() {
    let post = json!([{"mean_pool": {"output": "embedding"}}, {"l2_normalize": {}}]);
    let pipeline = compile(tokenize(), post, &bert()).unwrap();
    assert_eq!(pipeline.outer_signature().inputs, [spec("text", DType::String, &["n"])]);
    assert_eq!(pipeline.outer_signature().outputs, [spec("embedding", DType::F32, &["n", "2"])]);

    let padding = pipeline.padding().unwrap();
    let padded: Vec<_> = padding.inputs.iter().map(|p| (&*p.input, p.axis, p.value)).collect();
    let names = ["input_ids", "attention_mask", "token_type_ids"];
    assert_eq!(padded, names.map(|name| (name, 1, 0.0)));
    let [cut] = padding.outputs.as_slice() else { panic!("{padding:?}") };
    assert_eq!((&*cut.output, cut.axis, &*cut.like), ("hidden", 1, "input_ids"));

    let inner = pipeline.preprocess(&[strings(&["The LATE flights!", "", "zzz"])]).unwrap();
    let ids = [2, 7, 4, 5, 6, 3, 2, 3, 0, 0, 0, 0, 2, 1, 3, 0, 0, 0i64];
    assert_eq!(inner[0], Tensor::from_slice(Shape::from([3, 6]), &ids).unwrap());
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0i64];
    assert_eq!(inner[1], Tensor::from_slice(Shape::from([3, 6]), &mask).unwrap());
    assert_eq!(inner[2], Tensor::zeros(DType::I32, Shape::from([3, 6])).unwrap());
    let made = Steps::preprocess(&pipeline, &[strings(&["The LATE flights!", "", "zzz"])]);
    assert_eq!(made.unwrap().tokens, Some(11), "no padding, no truncated text");

    let inner = pipeline.preprocess(&[strings(&["late"])]).unwrap();
    assert_eq!(inner[0].shape(), &Shape::from([1, 3]), "no longer than the request needs");
    // One token more than the mask: a batch was padded further.
    let hidden = floats(&[1, 4, 2], &[3.0, 0.0, 3.0, 6.0, 3.0, 6.0, 1e9, 1e9]);
    let outer = pipeline.postprocess(&inner, vec![hidden]).unwrap();
    assert_eq!(outer, [floats(&[1, 2], &[0.6, 0.8])]);
}

#[test]
fn pairs_and_fixed_lengths_are_tokenized() {
    let dims = ["1", "9"];
    let inner = signature(
        &[spec("ids", DType::I32, &dims), spec("types", DType::I32, &dims)],
        &[spec("score", DType::F32, &["1"])],
    );
    let pre = json!([{"tokenize": {
        "tokenizer": "tokenizer.json", "max_length": 9, "text": "query", "text_pair": "passage",
        "outputs": {"input_ids": "ids", "token_type_ids": "types"},
    }}]);
    let pipeline = compile(pre, json!([]), &inner).unwrap();
    let given = [strings(&["late"]), strings(&["the flight"])];
    assert_eq!(pipeline.padding(), None, "nothing masks what would be added");
    let made = pipeline.preprocess(&given).unwrap();
    assert_eq!(made[0].as_slice::<i32>().unwrap(), &[2, 4, 3, 7, 5, 3, 0, 0, 0]);
    assert_eq!(made[1].as_slice::<i32>().unwrap(), &[0, 0, 0, 1, 1, 1, 0, 0, 0]);
}

#[test]
fn text_is_bounded() {
    let limits = Limits { text_bytes: 10, tensor_bytes: 100, ..Limits::default() };
    let pipeline = compile_within(limits, tokenize(), json!([]), &bert()).unwrap();
    let error = pipeline.preprocess(&[strings(&["a", "0123456789a"])]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert_eq!(error.to_string(), "input 'text' row 1 has 11 bytes, at most 10 are allowed");
    let error = pipeline.preprocess(&[strings(&["late"; 9])]).unwrap_err().to_string();
    assert!(error.starts_with("9 rows of 24 bytes after preprocessing exceed"), "{error}");
    let pre = json!([{"tokenize": {"tokenizer": "tokenizer.json", "max_length": 2}}]);
    let error = compile(pre, json!([]), &bert()).unwrap_err();
    assert!(error.ends_with("the tokenizer adds 2 special tokens a row"), "{error}");
}

fn classifier() -> Signature {
    signature(
        &[spec("pixels", DType::F32, &["batch", "3", "4", "4"])],
        &[spec("logits", DType::F32, &["batch", "3"])],
    )
}

fn image_steps() -> Value {
    json!([
        {"decode_image": {"input": "image"}},
        {"resize": {"size": 6, "mode": "shortest"}},
        {"center_crop": {"size": 4}},
        {"normalize": {"mean": [0.0, 0.5, 1.0], "std": [1.0], "scale": 1.0 / 255.0}},
        {"to_layout": {"layout": "nchw"}},
        {"rename": {"from": "image", "to": "pixels"}},
    ])
}

fn flat(height: u32, width: u32, format: ImageFormat) -> Buffer {
    let mut file = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(width, height, image::Rgb([255, 0, 128]));
    image.write_to(&mut file, format).unwrap();
    Buffer::copy_of(file.get_ref())
}

fn blobs(values: Vec<Buffer>) -> Tensor {
    Tensor::from_blobs(Shape::from([values.len()]), values).unwrap()
}

#[test]
fn files_become_pixels_and_scores_become_labels() {
    let post = json!([{"softmax": {}}, {"top_k": {"k": 2, "labels": "labels.txt"}}]);
    let pipeline = compile(image_steps(), post, &classifier()).unwrap();
    let files = blobs(vec![flat(12, 20, ImageFormat::Png), flat(40, 9, ImageFormat::Jpeg)]);
    let inner = pipeline.preprocess(&[files]).unwrap();
    assert_eq!(inner[0].shape(), &Shape::from([2, 3, 4, 4]));
    let values = inner[0].as_slice::<f32>().unwrap();
    for (row, tolerance) in [(0, 1e-6), (1, 3.0 / 255.0)] {
        for (channel, expected) in [(0, 1.0), (1, -0.5), (2, 128.0 / 255.0 - 1.0)] {
            let plane = &values[(row * 3 + channel) * 16..][..16];
            assert!(plane.iter().all(|x| (x - expected).abs() <= tolerance), "{plane:?}");
        }
    }
    let logits = floats(&[2, 3], &[0.0, 2.0, 1.0, 5.0, 5.0, -1.0]);
    let outer = pipeline.postprocess(&inner, vec![logits]).unwrap();
    let [scores, indices, labels] = outer.as_slice() else { panic!("{outer:?}") };
    let scores = scores.as_slice::<f32>().unwrap();
    assert!((scores[0] - 0.665_240_9).abs() < 1e-6 && scores[2] == scores[3], "{scores:?}");
    assert_eq!(indices.as_slice::<i64>().unwrap(), &[1, 2, 0, 1], "the first of equals first");
    assert_eq!(labels.strings().unwrap(), ["dog", "fox", "cat", "dog"]);
}

#[test]
fn a_bad_image_is_named_by_its_row() {
    let pipeline = compile(image_steps(), json!([]), &classifier()).unwrap();
    let good = flat(8, 8, ImageFormat::Png);
    let refused = |file: &[u8]| {
        let files = blobs(vec![good.clone(), Buffer::copy_of(file)]);
        let error = pipeline.preprocess(&[files]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        error.to_string()
    };
    assert_eq!(
        refused(b"GIF89a"),
        "input 'image' row 1: is neither JPEG nor PNG: 6 bytes starting with '47 49 46 38'"
    );
    assert!(refused(&[]).contains("0 bytes"));
    assert!(refused(&good[..good.len() / 2]).contains("row 1: is damaged"));
    let jpeg = flat(8, 8, ImageFormat::Jpeg);
    assert!(refused(&jpeg[..30]).contains("row 1: is damaged"));
}

fn photograph() -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/vision/images");
    std::fs::read(format!("{folder}/cat.jpg")).unwrap()
}

#[test]
fn a_jpeg_file_cut_short_is_refused() {
    let pipeline = compile(image_steps(), json!([]), &classifier()).unwrap();
    let file = photograph();
    let whole = pipeline.preprocess(&[blobs(vec![Buffer::copy_of(&file)])]).unwrap();
    let step = file.len() / 61;
    let lengths = (0..file.len()).step_by(step).chain([3000, file.len() - 200, file.len() - 16]);
    for length in lengths {
        let cut = pipeline.preprocess(&[blobs(vec![Buffer::copy_of(&file[..length])])]);
        let error = cut.expect_err(&format!("{length} bytes are a picture"));
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
    // All that is missing is the marker of the end.
    for length in [file.len() - 1, file.len() - 2] {
        let cut = pipeline.preprocess(&[blobs(vec![Buffer::copy_of(&file[..length])])]);
        assert!(cut.is_err() || cut.unwrap()[0].bytes() == whole[0].bytes(), "{length}");
    }
}

#[test]
fn bombs_are_refused_by_their_header() {
    let limits = Limits { image_pixels: 400, ..Limits::default() };
    let pipeline = compile_within(limits, image_steps(), json!([]), &classifier()).unwrap();
    let refused = |height, width| {
        let file = blobs(vec![flat(height, width, ImageFormat::Png)]);
        pipeline.preprocess(&[file]).unwrap_err().to_string()
    };
    assert_eq!(refused(30, 20), "input 'image' row 0: has 30x20 pixels, at most 400 are allowed");
    assert_eq!(
        refused(1, 300),
        "input 'image' row 0: 1x300 pixels would grow to 10800, at most 400 are allowed"
    );
    let limits = Limits { tensor_bytes: 1000, ..Limits::default() };
    let pipeline = compile_within(limits, image_steps(), json!([]), &classifier()).unwrap();
    let files = blobs(vec![flat(8, 8, ImageFormat::Png); 6]);
    let error = pipeline.preprocess(&[files]).unwrap_err().to_string();
    assert!(error.starts_with("6 rows of 192 bytes after preprocessing exceed"), "{error}");
}

#[test]
fn images_of_different_sizes_need_a_step() {
    let inner = signature(
        &[spec("image", DType::U8, &["batch", "h", "w", "3"])],
        &[spec("y", DType::F32, &["batch"])],
    );
    let pipeline =
        compile(json!([{"decode_image": {"input": "image"}}]), json!([]), &inner).unwrap();
    let of = |h, w| flat(h, w, ImageFormat::Png);
    let same = pipeline.preprocess(&[blobs(vec![of(2, 3), of(2, 3)])]).unwrap();
    assert_eq!(same[0].shape(), &Shape::from([2, 2, 3, 3]));
    let error = pipeline.preprocess(&[blobs(vec![of(2, 3), of(3, 2)])]).unwrap_err();
    assert!(error.message.contains("row 1: has 3x2 pixels, but row 0 has 2x3"), "{error}");
}

#[test]
fn what_the_steps_make_must_fit_the_model() {
    let inner = signature(
        &[spec("image", DType::U8, &["batch", "4", "4", "3"])],
        &[spec("y", DType::F32, &["batch"])],
    );
    let steps = json!([
        {"decode_image": {"input": "image"}},
        {"resize": {"size": 4, "mode": "shortest"}},
    ]);
    let pipeline = compile(steps, json!([]), &inner).unwrap();
    let of = |h, w| pipeline.preprocess(&[blobs(vec![flat(h, w, ImageFormat::Png)])]);
    assert_eq!(of(9, 9).unwrap()[0].shape(), &Shape::from([1, 4, 4, 3]));
    assert_eq!(
        of(8, 16).unwrap_err().message,
        "after preprocessing, input 'image' has shape [1,4,8,3], expected [batch,4,4,3]"
    );
}

#[test]
fn raw_pixels_and_features_go_through_steps_too() {
    let pre = json!([{"resize": {"size": [1, 2], "filter": "nearest"}}]);
    let inner = signature(
        &[spec("image", DType::U8, &["batch", "1", "2", "3"])],
        &[spec("y", DType::F32, &["batch"])],
    );
    let pipeline = compile(pre, json!([]), &inner).unwrap();
    let pixels: Vec<u8> = (0..24).collect();
    let pixels = Tensor::from_slice(Shape::from([1, 2, 4, 3]), &pixels).unwrap();
    let made = pipeline.preprocess(&[pixels]).unwrap();
    assert_eq!(made[0].bytes().unwrap(), [15, 16, 17, 21, 22, 23]);

    let inner = signature(
        &[spec("c", DType::I64, &["batch"]), spec("x", DType::F32, &["batch", "2"])],
        &[spec("p", DType::F32, &["batch"])],
    );
    let pre = json!([
        {"encode_category": {"mapping": "carriers.json", "input": "carrier", "output": "c"}},
        {"scale": {"factor": 2.0, "offset": 1.0, "input": "x"}},
    ]);
    let post = json!([{"sigmoid": {}}, {"threshold": {"value": 0.5, "output": "late"}}]);
    let pipeline = compile(pre, post, &inner).unwrap();
    let names: Vec<_> = pipeline.outer_signature().inputs.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["carrier", "x"]);
    let x = floats(&[2, 2], &[0.0, 1.0, 2.0, 3.0]);
    let made = pipeline.preprocess(&[strings(&["UA", "AA"]), x.clone()]).unwrap();
    assert_eq!(made[0].as_slice::<i64>().unwrap(), &[7, 0]);
    assert_eq!(made[1].as_slice::<f32>().unwrap(), &[1.0, 3.0, 5.0, 7.0]);
    let late = pipeline.postprocess(&made, vec![floats(&[2], &[-0.1, 0.0])]).unwrap();
    assert_eq!(late[0].bytes().unwrap(), [0, 1]);
    let error = pipeline.preprocess(&[strings(&["UA", "XX"]), x]).unwrap_err();
    assert_eq!(error.message, "input 'carrier' element 1: \"XX\" is not one of the 2 known values");
}

#[test]
fn a_pipeline_without_steps_changes_nothing() {
    let pipeline = compile(json!([]), json!([]), &classifier()).unwrap();
    assert!(pipeline.is_identity());
    assert_eq!(pipeline.outer_signature(), &classifier());
    let x = Tensor::zeros(DType::F32, Shape::from([1, 3, 4, 4])).unwrap();
    assert_eq!(pipeline.preprocess(std::slice::from_ref(&x)).unwrap(), [x]);
    assert!(pipeline.preprocess(&[]).is_err());
}

#[test]
fn assets_must_be_what_their_steps_take() {
    let refused = |pre, post| compile(pre, post, &classifier()).unwrap_err();
    assert_eq!(
        refused(json!([]), json!([{"top_k": {"k": 1, "labels": "gone.txt"}}])),
        "postprocess step 0 (top_k): asset 'gone.txt': not found"
    );
    let wrong = json!([{"tokenize": {"tokenizer": "labels.txt", "max_length": 6}}]);
    let error = compile(wrong, json!([]), &bert()).unwrap_err();
    assert!(error.contains("(tokenize): asset 'labels.txt' is not a tokenizer.json"), "{error}");
}

proptest! {
    #[test]
    fn damaged_files_are_decoded_or_refused(
        jpeg in any::<bool>(),
        edits in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        cut in proptest::option::weighted(0.2, any::<Index>()),
    ) {
        let kind = if jpeg { "jpeg" } else { "png" };
        let mut file = bytes_of(&fixture()[kind]["file"]);
        for (index, value) in edits {
            let at = index.index(file.len());
            file[at] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let limits = Limits { image_pixels: 1 << 20, ..Limits::default() };
        let pipeline = compile_within(limits, image_steps(), json!([]), &classifier()).unwrap();
        match pipeline.preprocess(&[blobs(vec![Buffer::copy_of(&file)])]) {
            Ok(made) => prop_assert_eq!(made[0].shape(), &Shape::from([1, 3, 4, 4])),
            Err(error) => {
                prop_assert_eq!(error.kind, ErrorKind::InvalidArgument);
                prop_assert!(error.message.starts_with("input 'image' row 0: "), "{}", error);
            }
        }
    }
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../fixtures/pillow.json")).unwrap()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn size_of(value: &Value) -> (usize, usize) {
    let side = |name: &str| value[name].as_u64().unwrap() as usize;
    (side("height"), side("width"))
}

#[test]
fn resizing_gives_pillows_pixels() {
    let fixture = fixture();
    let (height, width) = size_of(&fixture["source"]);
    let source = Image { height, width, pixels: bytes_of(&fixture["source"]["pixels"]) };
    let cases = fixture["resized"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let filter: Filter = serde_json::from_value(case["filter"].clone()).unwrap();
        let (height, width) = size_of(case);
        let resized = resample::resize(&source, height, width, filter);
        assert_eq!(resized.pixels, bytes_of(&case["pixels"]), "{filter:?} to {height}x{width}");
    }
}

#[test]
fn decoding_gives_pillows_pixels() {
    let inner = signature(
        &[spec("image", DType::U8, &["batch", "h", "w", "3"])],
        &[spec("y", DType::F32, &["batch"])],
    );
    let pipeline =
        compile(json!([{"decode_image": {"input": "image"}}]), json!([]), &inner).unwrap();
    let fixture = fixture();
    // A conforming JPEG decoder may be off by 1 in luminance and in chrominance, which the
    // conversion to blue multiplies by 1.772 (ITU-T T.871): 2.772, rounded up.
    for (kind, tolerance) in [("png", 0), ("jpeg", 3)] {
        let case = &fixture[kind];
        let file = Buffer::copy_of(&bytes_of(&case["file"]));
        let decoded = pipeline.preprocess(&[blobs(vec![file])]).unwrap();
        let (height, width) = size_of(case);
        assert_eq!(decoded[0].shape(), &Shape::from([1, height, width, 3]));
        let expected = bytes_of(&case["pixels"]);
        let found = decoded[0].bytes().unwrap();
        let furthest = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(furthest.unwrap() <= tolerance, "{kind}: off by {furthest:?}");
    }
}

/// Levels by which pixels of a photograph may differ from libjpeg-turbo's: at most, and on average
/// over a crop. Upsampling in two roundings rather than one adds to what explains the tolerance of
/// the small fixture.
const PHOTOGRAPH_TOLERANCE: (u8, f64) = (4, 0.4);

#[test]
fn photographs_are_close_to_pillows_pixels() {
    let inner = signature(
        &[spec("image", DType::U8, &["batch", "h", "w", "3"])],
        &[spec("y", DType::F32, &["batch"])],
    );
    let pipeline =
        compile(json!([{"decode_image": {"input": "image"}}]), json!([]), &inner).unwrap();
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../fixtures/photographs.json")).unwrap();
    assert_eq!(cases.len(), 27);
    for case in &cases {
        let file = Buffer::copy_of(&bytes_of(&case["file"]));
        let decoded = pipeline.preprocess(&[blobs(vec![file])]).unwrap();
        let (height, width) = size_of(case);
        assert_eq!(decoded[0].shape(), &Shape::from([1, height, width, 3]));
        let expected = bytes_of(&case["pixels"]);
        let found = decoded[0].bytes().unwrap().iter();
        let off: Vec<u8> = found.zip(&expected).map(|(a, b)| a.abs_diff(*b)).collect();
        let mean = off.iter().map(|&d| f64::from(d)).sum::<f64>() / off.len() as f64;
        let most = off.iter().max().copied().unwrap_or(0);
        let (name, (bound, average)) = (&case["name"], PHOTOGRAPH_TOLERANCE);
        assert!(most <= bound && mean <= average, "{name}: at most {most}, on average {mean:.3}");
    }
}
