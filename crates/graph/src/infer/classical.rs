//! `ai.onnx.ml`: classical models and encoders of features.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands, add_dims, product};
use crate::{Dim, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let same = |dtype| Ok(vec![Fact::new(dtype, operands.dims(0).map(<[Dim]>::to_vec))]);
    Some(match operands.op {
        Op::Scaler(_) | Op::Normalizer(_) => same(Some(DType::F32)),
        Op::Binarizer(_) | Op::Imputer(_) => same(operands.dtype(0)),
        Op::CategoryMapper(_) => same(operands.dtype(0).map(|dtype| match dtype {
            DType::String => DType::I64,
            _ => DType::String,
        })),
        Op::LabelEncoder(op) => {
            same(Some(match (&op.values_tensor, &op.values_floats, &op.values_int64s) {
                (Some(values), ..) => values.dtype(),
                (None, floats, _) if !floats.is_empty() => DType::F32,
                (None, _, ints) if !ints.is_empty() => DType::I64,
                _ => DType::String,
            }))
        }
        Op::OneHotEncoder(op) => {
            let categories = op.cats_int64s.len().max(op.cats_strings.len());
            let dims = operands
                .dims(0)
                .map(|dims| dims.iter().cloned().chain([Dim::Known(categories)]).collect());
            Ok(vec![Fact::new(Some(DType::F32), dims)])
        }
        Op::FeatureVectorizer(_) => Ok(vec![Fact::new(Some(DType::F32), side_by_side(operands))]),
        Op::ArrayFeatureExtractor => extract(operands),
        op => return model(operands, op),
    })
}

/// Models: scores `[N, columns]`, of classifiers after labels `[N]`.
fn model(operands: &Operands<'_>, op: &Op) -> Option<Result<Vec<Fact>, InferError>> {
    let scores = |dtype, columns: usize| {
        let dims = rows(operands).map(|rows| vec![rows, Dim::Known(columns)]);
        Fact::new(dtype, dims)
    };
    let single = Some(DType::F32);
    let classifier = |strings: &[String], columns: usize| {
        let label = if strings.is_empty() { DType::I64 } else { DType::String };
        let labels = Fact::new(Some(label), rows(operands).map(|rows| vec![rows]));
        vec![labels, scores(single, columns)]
    };
    let targets = |declared: Option<i64>, ids: &[i64]| {
        let last = ids.iter().max().map_or(0, |id| id.saturating_add(1));
        usize::try_from(declared.unwrap_or(last)).unwrap_or(0)
    };
    Some(Ok(match op {
        Op::LinearClassifier(op) => {
            let classes = op.classlabels_ints.len().max(op.classlabels_strings.len());
            let columns = match op.intercepts.len() {
                0 => classes,
                1 if classes == 2 => 2,
                targets => targets,
            };
            classifier(&op.classlabels_strings, columns)
        }
        Op::SvmClassifier(op) => {
            let classes = op.classlabels_ints.len().max(op.classlabels_strings.len());
            let pairs = op.vectors_per_class.iter().any(|&count| count > 0) && op.prob_a.is_empty();
            let columns = match pairs {
                true => (classes * classes.saturating_sub(1) / 2).max(2),
                false => classes,
            };
            classifier(&op.classlabels_strings, columns)
        }
        Op::TreeEnsembleClassifier(op) => {
            let classes = op.classlabels_int64s.len().max(op.classlabels_strings.len());
            classifier(&op.classlabels_strings, classes)
        }
        Op::LinearRegressor(op) => vec![scores(single, usize::try_from(op.targets).unwrap_or(0))],
        Op::SvmRegressor(_) => vec![scores(single, 1)],
        Op::TreeEnsembleRegressor(op) => {
            vec![scores(single, targets(op.n_targets, &op.target_ids))]
        }
        Op::TreeEnsemble(op) => {
            vec![scores(operands.dtype(0), targets(op.n_targets, &op.leaf_targetids))]
        }
        _ => return None,
    }))
}

/// Rows of `[N, F]`; one row is `[F]`.
fn rows(operands: &Operands<'_>) -> Option<Dim> {
    match operands.dims(0)? {
        [_] => Some(Dim::Known(1)),
        [rows, _] => Some(rows.clone()),
        _ => None,
    }
}

fn side_by_side(operands: &Operands<'_>) -> Option<Vec<Dim>> {
    let mut width = Dim::Known(0);
    for index in 0..operands.len() {
        let columns = match operands.dims(index)? {
            [columns] => columns.clone(),
            [_, columns @ ..] => product(columns),
            [] => return None,
        };
        width = add_dims(&width, &columns);
    }
    Some(vec![rows(operands)?, width])
}

fn extract(operands: &Operands<'_>) -> Result<Vec<Fact>, InferError> {
    let indices = operands.dims(1).map(product);
    let dims = match (operands.dims(0), indices) {
        (Some([]), _) => return InferError::because("there is no last axis to extract from"),
        (Some([_]), Some(indices)) => Some(vec![Dim::Known(1), indices]),
        (Some([outer @ .., _]), Some(indices)) => {
            Some(outer.iter().cloned().chain([indices]).collect())
        }
        _ => None,
    };
    Ok(vec![Fact::new(operands.dtype(0), dims)])
}
