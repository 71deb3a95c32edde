//! Support vector machines.

use super::rows::{RowModel, dot};
use super::{Transform, logistic};
use crate::trees::largest;

/// A kernel function of two rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SvmKernel {
    /// `x·y`.
    Linear,
    /// `(gamma x·y + coef0)^degree`.
    Polynomial {
        /// Factor of the product.
        gamma: f64,
        /// Added to the product.
        coef0: f64,
        /// The power.
        degree: f64,
    },
    /// `exp(-gamma |x - y|²)`.
    Radial {
        /// Factor of the distance.
        gamma: f64,
    },
    /// `tanh(gamma x·y + coef0)`.
    Sigmoid {
        /// Factor of the product.
        gamma: f64,
        /// Added to the product.
        coef0: f64,
    },
}

impl SvmKernel {
    fn of(self, x: &[f64], vector: &[f32]) -> f64 {
        match self {
            SvmKernel::Linear => dot(x, vector),
            SvmKernel::Polynomial { gamma, coef0, degree } => {
                (gamma * dot(x, vector) + coef0).powf(degree)
            }
            SvmKernel::Radial { gamma } => {
                let square = |(a, &b): (&f64, &f32)| (a - f64::from(b)).powi(2);
                (-gamma * x.iter().zip(vector).map(square).sum::<f64>()).exp()
            }
            SvmKernel::Sigmoid { gamma, coef0 } => (gamma * dot(x, vector) + coef0).tanh(),
        }
    }
}

/// Support vectors and the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// The kernel.
    pub kernel: SvmKernel,
    /// `[count, features]`.
    pub rows: Vec<f32>,
    /// Number of vectors.
    pub count: usize,
    /// Columns of a row.
    pub features: usize,
}

impl Vectors {
    fn kernels(&self, x: &[f64], values: &mut [f64]) {
        for (value, vector) in values.iter_mut().zip(self.rows.chunks_exact(self.features.max(1))) {
            *value = self.kernel.of(x, vector);
        }
    }

    fn cost(&self) -> usize {
        self.count.saturating_mul(self.features + 32)
    }
}

/// `Σ coefficient k(x, vector) + rho`.
#[derive(Debug, Clone, PartialEq)]
pub struct SvmRegressor {
    /// The vectors.
    pub vectors: Vectors,
    /// `[count]`.
    pub coefficients: Vec<f32>,
    /// The constant.
    pub rho: f64,
    /// Whether the answer is only 1 (inside) or -1.
    pub one_class: bool,
    /// Applied to the value.
    pub transform: Transform,
}

impl RowModel for SvmRegressor {
    fn features(&self) -> usize {
        self.vectors.features
    }

    fn columns(&self) -> usize {
        1
    }

    fn width(&self) -> usize {
        self.vectors.count.max(1)
    }

    fn cost(&self) -> usize {
        self.vectors.cost()
    }

    fn row(&self, x: &[f64], values: &mut [f64]) -> usize {
        let kernels = &mut values[..self.vectors.count];
        self.vectors.kernels(x, kernels);
        let mut value = [dot(kernels, &self.coefficients) + self.rho];
        self.transform.apply(&mut value);
        values[0] = match self.one_class {
            true if value[0] > 0.0 => 1.0,
            true => -1.0,
            false => value[0],
        };
        0
    }
}

/// Two numbers for each pair of classes: `1 / (1 + exp(a score + b))` is the first's probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Probabilities {
    /// Factors, by pair.
    pub a: Vec<f32>,
    /// Constants, by pair.
    pub b: Vec<f32>,
}

/// The decisions that a classifier is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Machines {
    /// A hyperplane for each class: the row's score is one product.
    PerClass,
    /// A machine for each pair of classes, which votes for one of them. The vectors of each class
    /// follow each other; coefficients are `[classes - 1, vectors]`.
    Pairs {
        /// Vectors of each class.
        counts: Vec<usize>,
        /// If scores are to be probabilities.
        probabilities: Option<Probabilities>,
    },
}

/// A classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct SvmClassifier {
    /// Number of classes, two at least if there are pairs.
    pub classes: usize,
    /// The vectors; of [`Machines::PerClass`], one for each class.
    pub vectors: Vectors,
    /// Coefficients of pairs.
    pub coefficients: Vec<f32>,
    /// The constants: one for each pair, or one for all classes.
    pub rho: Vec<f32>,
    /// How the decision is made.
    pub machines: Machines,
    /// Applied to the scores of a row.
    pub transform: Transform,
}

impl SvmClassifier {
    fn pairs(&self) -> usize {
        self.classes * (self.classes - 1) / 2
    }
}

impl RowModel for SvmClassifier {
    fn features(&self) -> usize {
        self.vectors.features
    }

    fn columns(&self) -> usize {
        match &self.machines {
            Machines::PerClass | Machines::Pairs { probabilities: Some(_), .. } => self.classes,
            Machines::Pairs { probabilities: None, .. } => self.pairs().max(2),
        }
    }

    fn width(&self) -> usize {
        let pairs = 3 * self.classes * self.classes + 2 * self.classes;
        self.vectors.count + pairs.max(self.columns())
    }

    fn cost(&self) -> usize {
        let sums = self.vectors.count.saturating_mul(self.classes);
        self.vectors.cost().saturating_add(sums).saturating_add(64 * self.pairs())
    }

    fn row(&self, x: &[f64], values: &mut [f64]) -> usize {
        let Machines::Pairs { counts, probabilities } = &self.machines else {
            self.vectors.kernels(x, &mut values[..self.classes]);
            let rho = self.rho.first().copied().unwrap_or(0.0);
            values[..self.classes].iter_mut().for_each(|score| *score += f64::from(rho));
            let class = largest(&values[..self.classes]);
            self.transform.apply(&mut values[..self.classes]);
            return class;
        };
        let (kernels, work) = values.split_at_mut(self.vectors.count);
        self.vectors.kernels(x, kernels);
        let (scores, work) = work.split_at_mut(self.pairs());
        let (votes, work) = work.split_at_mut(self.classes);
        self.vote(counts, kernels, scores, votes);
        let class = largest(votes);
        match probabilities {
            Some(probabilities) => {
                couple(probabilities, scores, self.classes, work);
                values.copy_within(
                    self.vectors.count + self.pairs() + self.classes
                        ..self.vectors.count + self.pairs() + 2 * self.classes,
                    0,
                );
                self.transform.apply(&mut values[..self.classes]);
            }
            None if self.classes == 2 => {
                let score = scores[0];
                let mirrored = matches!(self.transform, Transform::None | Transform::Logistic);
                values[0] = if mirrored { -score } else { 1.0 - score };
                values[1] = score;
                if matches!(self.transform, Transform::Logistic | Transform::Probit) {
                    self.transform.apply(&mut values[..2]);
                }
            }
            None => {
                let start = self.vectors.count;
                values.copy_within(start..start + self.pairs(), 0);
                self.transform.apply(&mut values[..self.pairs()]);
            }
        }
        class
    }
}

impl SvmClassifier {
    /// The score of every pair `(i, j)`, `i < j`: positive votes for `i`.
    fn vote(&self, counts: &[usize], kernels: &[f64], scores: &mut [f64], votes: &mut [f64]) {
        votes.fill(0.0);
        let total = self.vectors.count;
        let mut pair = 0;
        let mut start_i = 0;
        for i in 0..self.classes {
            let of_i = start_i..start_i + counts[i];
            let mut start_j = of_i.end;
            for j in i + 1..self.classes {
                let of_j = start_j..start_j + counts[j];
                let against_j = &self.coefficients[(j - 1) * total..][of_i.clone()];
                let against_i = &self.coefficients[i * total..][of_j.clone()];
                scores[pair] = dot(&kernels[of_i.clone()], against_j)
                    + dot(&kernels[of_j.clone()], against_i)
                    + f64::from(self.rho[pair]);
                votes[if scores[pair] > 0.0 { i } else { j }] += 1.0;
                pair += 1;
                start_j = of_j.end;
            }
            start_i = of_i.end;
        }
    }
}

/// Class probabilities from those of pairs, into `work[..classes]`: the second method of Wu, Lin
/// and Weng, "Probability estimates for multi-class classification by pairwise coupling" (2004),
/// with LIBSVM's bounds and stopping rule. `work` holds `2 classes + 2 classes²` numbers.
fn couple(pairwise: &Probabilities, scores: &[f64], classes: usize, work: &mut [f64]) {
    let (p, work) = work.split_at_mut(classes);
    let (qp, work) = work.split_at_mut(classes);
    let (r, work) = work.split_at_mut(classes * classes);
    let q = &mut work[..classes * classes];
    let mut pair = 0;
    for i in 0..classes {
        for j in i + 1..classes {
            let (a, b) = (f64::from(pairwise.a[pair]), f64::from(pairwise.b[pair]));
            let probability = logistic(-(scores[pair] * a + b)).clamp(1e-7, 1.0 - 1e-7);
            r[i * classes + j] = probability;
            r[j * classes + i] = 1.0 - probability;
            pair += 1;
        }
    }
    for i in 0..classes {
        p[i] = 1.0 / classes as f64;
        q[i * classes + i] =
            (0..classes).filter(|&j| j != i).map(|j| r[j * classes + i].powi(2)).sum();
        for j in (0..classes).filter(|&j| j != i) {
            q[i * classes + j] = -r[j * classes + i] * r[i * classes + j];
        }
    }
    let tolerance = 0.005 / classes as f64;
    for _ in 0..classes.max(100) {
        for i in 0..classes {
            qp[i] = q[i * classes..][..classes].iter().zip(&*p).map(|(q, p)| q * p).sum();
        }
        let mut pqp: f64 = p.iter().zip(&*qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|value| (value - pqp).abs() < tolerance) {
            break;
        }
        for i in 0..classes {
            let diagonal = q[i * classes + i];
            let step = (pqp - qp[i]) / diagonal;
            p[i] += step;
            pqp = (pqp + step * (step * diagonal + 2.0 * qp[i])) / (1.0 + step).powi(2);
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[i * classes + j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
}
