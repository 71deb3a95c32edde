//! Names, types and the derived signature, in terms of what `model.yaml` says.

use landfall_graph::{DimSpec, Dims, Signature, TensorSpec};
use landfall_tensor::DType;
use serde_json::{Value, json};

use super::{PostStep, PreStep, Resolved};

fn spec(name: &str, dtype: DType, dims: &[&str]) -> TensorSpec {
    let dim = |dim: &&str| match dim.parse() {
        Ok(extent) => DimSpec::Known(extent),
        Err(_) => DimSpec::Symbol((*dim).to_owned()),
    };
    TensorSpec { name: name.into(), dtype, dims: Some(dims.iter().map(dim).collect()) }
}

fn resolve(pre: Value, post: Value, inner: &Signature) -> Result<String, String> {
    let pre: Vec<PreStep> = serde_json::from_value(pre).map_err(|e| e.to_string())?;
    let post: Vec<PostStep> = serde_json::from_value(post).map_err(|e| e.to_string())?;
    let outer = Resolved::new(&pre, &post, inner).map_err(|e| e.to_string())?.outer;
    let list = |specs: &[TensorSpec]| {
        let text: Vec<String> = specs
            .iter()
            .map(|s| {
                let dims = s.dims.as_ref().map_or("?".into(), |d| Dims(d).to_string());
                format!("{} {} {dims}", s.name, s.dtype)
            })
            .collect();
        text.join(", ")
    };
    Ok(format!("{} -> {}", list(&outer.inputs), list(&outer.outputs)))
}

fn bert() -> Signature {
    Signature {
        inputs: vec![
            spec("input_ids", DType::I64, &["n", "seq"]),
            spec("attention_mask", DType::I64, &["n", "seq"]),
        ],
        outputs: vec![
            spec("last_hidden_state", DType::F32, &["n", "seq", "384"]),
            spec("pooler_output", DType::F32, &["n", "384"]),
        ],
    }
}

fn classifier() -> Signature {
    Signature {
        inputs: vec![spec("images", DType::F32, &["batch", "3", "224", "224"])],
        outputs: vec![spec("logits", DType::F32, &["batch", "1000"])],
    }
}

fn image_steps() -> Value {
    json!([
        {"decode_image": {"input": "image"}},
        {"resize": {"size": 256, "mode": "shortest", "filter": "bicubic"}},
        {"center_crop": {"size": 224}},
        {"normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "scale": 0.0039}},
        {"to_layout": {"layout": "nchw", "output": "images"}},
    ])
}

#[test]
fn text_in_embedding_out() {
    let pre = json!([{"tokenize": {"tokenizer": "tokenizer.json", "max_length": 128}}]);
    let post = json!([
        {"mean_pool": {"input": "last_hidden_state", "output": "embedding"}},
        {"l2_normalize": {}},
        {"keep": {"outputs": ["embedding"]}},
    ]);
    let outer = resolve(pre, post, &bert()).unwrap();
    assert_eq!(outer, "text string [n] -> embedding f32 [n,384]");
}

#[test]
fn image_in_labels_out() {
    let post = json!([{"softmax": {}}, {"top_k": {"k": 5, "labels": "labels.txt"}}]);
    let outer = resolve(image_steps(), post, &classifier()).unwrap();
    assert_eq!(
        outer,
        "image bytes [batch] -> scores f32 [batch,5], indices i64 [batch,5], \
         labels string [batch,5]"
    );
}

#[test]
fn what_no_step_touches_passes_through() {
    assert_eq!(
        resolve(json!([]), json!([]), &bert()).unwrap(),
        "input_ids i64 [n,seq], attention_mask i64 [n,seq] -> \
         last_hidden_state f32 [n,seq,384], pooler_output f32 [n,384]"
    );
}

#[test]
fn types_of_what_callers_send_flow_back_from_the_graph() {
    let inner = Signature {
        inputs: vec![spec("x", DType::F32, &["batch", "3"]), spec("c", DType::I64, &["batch"])],
        outputs: vec![spec("y", DType::F32, &["batch"])],
    };
    let pre = json!([
        {"cast": {"input": "features", "from": "f64", "to": "f32", "output": "x"}},
        {"normalize": {"mean": [1, 2, 3], "std": [1.0]}},
        {"encode_category": {"mapping": "carriers.json", "input": "carrier", "output": "c"}},
    ]);
    let post = json!([{"sigmoid": {}}, {"threshold": {"value": 0.5, "output": "late"}}]);
    assert_eq!(
        resolve(pre, post, &inner).unwrap(),
        "features f64 [batch,3], carrier string [batch] -> late bool [batch]"
    );
}

#[test]
fn errors_name_the_step_and_what_it_found() {
    let case = |pre: Value, post: Value, inner: &Signature, expected: &str| {
        let error = resolve(pre, post, inner).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    };
    let mut steps = image_steps();
    steps[4] = json!({"rename": {"from": "image", "to": "images"}});
    case(
        steps,
        json!([]),
        &classifier(),
        "the steps give the model's input 'images' f32 [batch,224,224,3], it takes f32 \
         [batch,3,224,224]",
    );
    let mut steps = image_steps();
    steps[4] = json!({"to_layout": {"layout": "nchw"}});
    case(
        steps,
        json!([]),
        &classifier(),
        "preprocess: the steps leave 'image', which the model does not take; its inputs are images",
    );
    let mut steps = image_steps();
    steps[3] = json!({"normalize": {"mean": [0.5, 0.5], "std": [1]}});
    case(
        steps,
        json!([]),
        &classifier(),
        "preprocess step 3 (normalize): mean has 2 values, but the innermost axis must have as \
         many: u8 [batch,224,224,3]",
    );
    case(
        json!([{"cast": {"to": "f32"}}]),
        json!([]),
        &classifier(),
        "preprocess step 0 (cast): takes a value from callers: say which type they send",
    );
    case(
        json!([]),
        json!([{"mean_pool": {}}]),
        &bert(),
        "postprocess step 0 (mean_pool): the model has several outputs: say which with 'input'",
    );
    case(
        json!([]),
        json!([{"labels": {"asset": "l.txt"}}]),
        &classifier(),
        "postprocess step 0 (labels): takes i64 or i32, found f32 [batch,1000]",
    );
    case(
        json!([{"tokenize": {"tokenizer": "t.json", "max_length": 8}}]),
        json!([]),
        &classifier(),
        "preprocess step 0 (tokenize): the model has no input 'input_ids'",
    );
    case(
        json!([]),
        json!([{"keep": {"outputs": []}}]),
        &bert(),
        "postprocess step 0 (keep): outputs is empty",
    );
    case(json!([{"blur": {}}]), json!([]), &bert(), "unknown variant `blur`, expected one of");
}
