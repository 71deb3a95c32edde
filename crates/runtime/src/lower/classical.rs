//! Linear models and support vector machines, and the labels of classifiers.

use std::sync::Arc;

use landfall_graph::{Op, ops};
use landfall_kernels::classical::{
    Linear, Machines, Probabilities, RowModel, SecondClass, SvmClassifier, SvmKernel, SvmRegressor,
    Vectors, score_rows,
};
use landfall_tensor::{DType, TensorMut};

use super::trees::transform;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

/// Runs its body with the type of a model's input.
macro_rules! number {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::lower::types::dispatch!($dtype, $T => $body, F32 f32, F64 f64, I64 i64, I32 i32,
            F16 landfall_tensor::f16)
    };
}
pub(super) use number;

/// Rows and columns of `[N, F]`; `[F]` is one row.
pub(super) fn input_rows(shape: &[usize]) -> Result<(usize, usize), KernelError> {
    match *shape {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => KernelError::invalid(format!(
            "the input must be [N, F] or [F], has rank {}",
            shape.len()
        )),
    }
}

/// The labels of a classifier's classes.
pub(super) enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

/// Fills scores `[N, columns]` and the indices of classes `[N]`.
type Classify<'a> = &'a mut dyn FnMut(&mut [f32], &mut [i64]) -> Result<(), KernelError>;

impl Labels {
    pub(super) fn new(ints: &[i64], texts: &[String]) -> Labels {
        if texts.is_empty() { Labels::Ints(ints.to_vec()) } else { Labels::Texts(texts.to_vec()) }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Labels::Ints(labels) => labels.len(),
            Labels::Texts(labels) => labels.len(),
        }
    }

    /// Writes labels and, if they are wanted, scores.
    pub(super) fn classify(
        &self,
        outputs: &mut [TensorMut<'_>],
        columns: usize,
        classify: Classify<'_>,
    ) -> Result<(), KernelError> {
        let [labels, rest @ ..] = outputs else { return Ok(()) };
        let rows = labels.elements();
        let mut unwanted = Vec::new();
        let scores = match rest {
            [scores, ..] => scores.as_mut_slice::<f32>()?,
            [] => {
                unwanted.resize(rows.saturating_mul(columns), 0.0);
                &mut unwanted
            }
        };
        let bad = || KernelError::Invalid("there are fewer labels than classes".into());
        match self {
            Labels::Ints(names) => {
                let classes = labels.as_mut_slice::<i64>()?;
                classify(scores, classes)?;
                for class in classes {
                    let index = usize::try_from(*class).unwrap_or(usize::MAX);
                    *class = *names.get(index).ok_or_else(bad)?;
                }
            }
            Labels::Texts(names) => {
                let mut classes = vec![0; rows];
                classify(scores, &mut classes)?;
                for (label, &class) in labels.strings_mut()?.iter_mut().zip(&classes) {
                    let index = usize::try_from(class).unwrap_or(usize::MAX);
                    label.clone_from(names.get(index).ok_or_else(bad)?);
                }
            }
        }
        Ok(())
    }
}

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    let build: fn(&Op, usize) -> Result<Model, KernelError> = match site.op {
        Op::LinearClassifier(_)
        | Op::LinearRegressor(_)
        | Op::SvmClassifier(_)
        | Op::SvmRegressor(_) => model,
        _ => return None,
    };
    Some(lower_with(site, build))
}

fn lower_with(
    site: &Site<'_>,
    build: fn(&Op, usize) -> Result<Model, KernelError>,
) -> Result<Lowered, KernelError> {
    let (_, columns) = input_rows(&site.shape(0)?)?;
    let bytes = 0;
    let model = site.compiled(|| Ok((build(site.op, columns)?, bytes)))?;
    let expected = model.rows.features();
    if expected != columns || columns == 0 {
        return KernelError::invalid(format!(
            "the input has {columns} columns, the model has {expected} coefficients a row"
        ));
    }
    Ok(Lowered::Kernel(Box::new(Scored { model })))
}

/// A model with the labels of its classes.
struct Model {
    rows: Box<dyn RowModel + Send + Sync>,
    labels: Option<Labels>,
    kernel: &'static str,
}

struct Scored {
    model: Arc<Model>,
}

impl Kernel for Scored {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let rows = self.model.rows.as_ref();
        match &self.model.labels {
            None => {
                let out = io.outputs[0].as_mut_slice::<f32>()?;
                number!(input.dtype(), T => {
                    score_rows(exec, rows, input.as_slice::<T>()?, out, None);
                });
                Ok(())
            }
            Some(labels) => {
                labels.classify(&mut io.outputs, rows.columns(), &mut |scores, classes| {
                    number!(input.dtype(), T => {
                        score_rows(exec, rows, input.as_slice::<T>()?, scores, Some(classes));
                    });
                    Ok(())
                })
            }
        }
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable(self.model.kernel, DType::F64.name())
    }
}

fn model(op: &Op, columns: usize) -> Result<Model, KernelError> {
    match op {
        Op::LinearClassifier(op) => linear_classifier(op),
        Op::LinearRegressor(op) => linear_regressor(op),
        Op::SvmClassifier(op) => svm_classifier(op, columns),
        Op::SvmRegressor(op) => svm_regressor(op),
        _ => KernelError::invalid("not a linear model"),
    }
}

fn check_linear(linear: &Linear) -> Result<(), KernelError> {
    let (coefficients, targets) = (linear.coefficients.len(), linear.targets);
    let whole = targets > 0 && coefficients.is_multiple_of(targets);
    if !whole || !(linear.intercepts.is_empty() || linear.intercepts.len() == targets) {
        let intercepts = linear.intercepts.len();
        return KernelError::invalid(format!(
            "{coefficients} coefficients and {intercepts} intercepts do not make {targets} scores"
        ));
    }
    Ok(())
}

fn linear_regressor(op: &ops::LinearRegressor) -> Result<Model, KernelError> {
    let linear = Linear {
        coefficients: op.coefficients.clone(),
        intercepts: op.intercepts.clone(),
        targets: usize::try_from(op.targets).unwrap_or(0),
        transform: transform(op.post_transform),
        second_class: SecondClass::None,
    };
    check_linear(&linear)?;
    Ok(Model { rows: Box::new(linear), labels: None, kernel: "linear" })
}

fn linear_classifier(op: &ops::LinearClassifier) -> Result<Model, KernelError> {
    let labels = Labels::new(&op.classlabels_ints, &op.classlabels_strings);
    let targets = match op.intercepts.len() {
        0 => labels.len(),
        targets => targets,
    };
    let second_class = match (targets, labels.len()) {
        (1, 2) => SecondClass::Complement,
        _ => SecondClass::None,
    };
    let linear = Linear {
        coefficients: op.coefficients.clone(),
        intercepts: op.intercepts.clone(),
        targets,
        transform: transform(op.post_transform),
        second_class,
    };
    check_linear(&linear)?;
    Ok(Model { rows: Box::new(linear), labels: Some(labels), kernel: "linear" })
}

fn svm_kernel(name: &str, parameters: &[f32]) -> Result<SvmKernel, KernelError> {
    let parameter = |index: usize| parameters.get(index).copied().map_or(0.0, f64::from);
    let (gamma, coef0, degree) = (parameter(0), parameter(1), parameter(2));
    Ok(match name {
        "LINEAR" => SvmKernel::Linear,
        "POLY" => SvmKernel::Polynomial { gamma, coef0, degree },
        "RBF" => SvmKernel::Radial { gamma },
        "SIGMOID" => SvmKernel::Sigmoid { gamma, coef0 },
        other => {
            let expected = "LINEAR, POLY, RBF or SIGMOID";
            return KernelError::invalid(format!("kernel_type must be {expected}, is {other}"));
        }
    })
}

fn vectors(kernel: SvmKernel, rows: &[f32], count: usize) -> Result<Vectors, KernelError> {
    if count == 0 || !rows.len().is_multiple_of(count) {
        let numbers = rows.len();
        return KernelError::invalid(format!("{numbers} numbers do not make {count} vectors"));
    }
    Ok(Vectors { kernel, rows: rows.to_vec(), count, features: rows.len() / count })
}

fn svm_regressor(op: &ops::SvmRegressor) -> Result<Model, KernelError> {
    let count = usize::try_from(op.n_supports).unwrap_or(0);
    let (vectors, coefficients) = match count {
        0 => (vectors(SvmKernel::Linear, &op.coefficients, 1)?, vec![1.0]),
        _ => {
            let kernel = svm_kernel(&op.kernel_type, &op.kernel_params)?;
            (vectors(kernel, &op.support_vectors, count)?, op.coefficients.clone())
        }
    };
    if coefficients.len() != vectors.count {
        let (found, expected) = (coefficients.len(), vectors.count);
        return KernelError::invalid(format!("{found} coefficients for {expected} vectors"));
    }
    let rows = SvmRegressor {
        vectors,
        coefficients,
        rho: op.rho.first().copied().map_or(0.0, f64::from),
        one_class: op.one_class,
        transform: transform(op.post_transform),
    };
    Ok(Model { rows: Box::new(rows), labels: None, kernel: "svm" })
}

fn svm_classifier(op: &ops::SvmClassifier, columns: usize) -> Result<Model, KernelError> {
    let labels = Labels::new(&op.classlabels_ints, &op.classlabels_strings);
    let classes = labels.len();
    let counts: Vec<usize> =
        op.vectors_per_class.iter().map(|&count| usize::try_from(count).unwrap_or(0)).collect();
    let total = counts.iter().fold(0usize, |sum, &count| sum.saturating_add(count));
    let rows = if total == 0 {
        let found = op.coefficients.len();
        if classes == 0 || found != classes.saturating_mul(columns) {
            return KernelError::invalid(format!("{found} coefficients for {classes} classes"));
        }
        SvmClassifier {
            classes,
            vectors: vectors(SvmKernel::Linear, &op.coefficients, classes)?,
            coefficients: Vec::new(),
            rho: op.rho.clone(),
            machines: Machines::PerClass,
            transform: transform(op.post_transform),
        }
    } else {
        let probabilities = (!op.prob_a.is_empty())
            .then(|| Probabilities { a: op.prob_a.clone(), b: op.prob_b.clone() });
        let pairs = classes.saturating_mul(classes.saturating_sub(1)) / 2;
        let probable =
            probabilities.as_ref().is_none_or(|p| p.a.len() == pairs && p.b.len() == pairs);
        let complete = classes >= 2
            && counts.len() == classes
            && op.rho.len() >= pairs
            && op.coefficients.len() >= total.saturating_mul(classes - 1);
        if !complete || !probable {
            return KernelError::invalid(format!(
                "its constants do not make the {pairs} machines of {classes} classes"
            ));
        }
        SvmClassifier {
            classes,
            vectors: vectors(
                svm_kernel(&op.kernel_type, &op.kernel_params)?,
                &op.support_vectors,
                total,
            )?,
            coefficients: op.coefficients.clone(),
            rho: op.rho.clone(),
            machines: Machines::Pairs { counts, probabilities },
            transform: transform(op.post_transform),
        }
    };
    Ok(Model { rows: Box::new(rows), labels: Some(labels), kernel: "svm" })
}
