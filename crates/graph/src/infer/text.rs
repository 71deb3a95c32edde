//! Operators on strings.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands, broadcast_dims};
use crate::{Dim, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dims = || operands.dims(0).map(<[Dim]>::to_vec);
    let text = Some(DType::String);
    Some(match operands.op {
        Op::RegexFullMatch(_) => Ok(vec![Fact::new(Some(DType::Bool), dims())]),
        Op::StringConcat => match (operands.dims(0), operands.dims(1)) {
            (Some(a), Some(b)) => {
                broadcast_dims(a, b).map(|dims| vec![Fact::new(text, Some(dims))])
            }
            _ => Ok(vec![Fact::new(text, None)]),
        },
        Op::StringNormalizer(_) => {
            let mut dims = dims();
            if let Some(last) = dims.as_mut().and_then(|dims| dims.last_mut()) {
                *last = Dim::Unknown;
            }
            Ok(vec![Fact::new(text, dims)])
        }
        Op::StringSplit(_) => {
            let parts = dims().map(|dims| dims.into_iter().chain([Dim::Unknown]).collect());
            Ok(vec![Fact::new(text, parts), Fact::new(Some(DType::I64), dims())])
        }
        Op::TfIdfVectorizer(op) => {
            let last = op.ngram_indexes.iter().max().map_or(0, |last| last.saturating_add(1));
            let width = Dim::Known(usize::try_from(last).unwrap_or(0));
            let dims = match operands.dims(0) {
                Some([] | [_]) => Some(vec![width]),
                Some([rows, _]) => Some(vec![rows.clone(), width]),
                Some(dims) => {
                    let rank = dims.len();
                    return Some(InferError::because(format!("rank must be 1 or 2, is {rank}")));
                }
                None => None,
            };
            Ok(vec![Fact::new(Some(DType::F32), dims)])
        }
        _ => return None,
    })
}
