//! `ai.onnx.ml`.

use landfall_graph::Attribute;
use landfall_tensor::DType;

use super::draft::{Draft, Refusal};

/// The first `LabelEncoder` mapped texts to their positions in a list, or positions to texts.
pub(super) fn label_encoder(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let classes = match draft.attributes.remove("classes_strings") {
        Some(Attribute::Texts(classes)) => classes,
        _ => return Err("attribute 'classes_strings' is required".to_owned()),
    };
    let input = draft.required(0)?;
    let positions = Attribute::Ints((0..classes.len() as i64).collect());
    let (keys, values) = match draft.graph.value(input).dtype {
        Some(DType::String) => ("keys_strings", "values_int64s"),
        Some(DType::I64) => ("values_strings", "keys_int64s"),
        _ => return Err("its input must be known to be strings or 64-bit integers".to_owned()),
    };
    draft.set(keys, Attribute::Texts(classes));
    draft.set(values, positions);
    Ok(())
}

/// Exporters write any number but 0 for "multinomial".
pub(super) fn multi_class(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if let Some(choice) = draft.take_int("multi_class")? {
        draft.set("multi_class", Attribute::Int(i64::from(choice != 0)));
    }
    Ok(())
}
