//! Greedy non-maximum suppression.

/// What the four numbers of a box mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxFormat {
    /// `[y1, x1, y2, x2]`: two opposite corners.
    Corners,
    /// `[x_center, y_center, width, height]`.
    Center,
}

/// When a box is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suppression {
    /// Meaning of a box's numbers.
    pub format: BoxFormat,
    /// Boxes kept at most.
    pub limit: usize,
    /// Two boxes that overlap by more than this are not both kept.
    pub overlap: f32,
    /// Boxes that do not score more than this are left out.
    pub score: Option<f32>,
}

/// Lower and upper bounds along x and y.
#[derive(Clone, Copy)]
struct Bounds {
    x: (f32, f32),
    y: (f32, f32),
}

impl Bounds {
    fn new(numbers: &[f32; 4], format: BoxFormat) -> Bounds {
        let [a, b, c, d] = *numbers;
        let ordered = |p: f32, q: f32| (p.min(q), p.max(q));
        match format {
            BoxFormat::Corners => Bounds { x: ordered(b, d), y: ordered(a, c) },
            BoxFormat::Center => {
                Bounds { x: (a - c / 2.0, a + c / 2.0), y: (b - d / 2.0, b + d / 2.0) }
            }
        }
    }

    fn area(&self) -> f32 {
        (self.x.1 - self.x.0) * (self.y.1 - self.y.0)
    }

    /// Intersection over union; 0 if either is empty.
    fn overlap(&self, other: &Bounds) -> f32 {
        let width = self.x.1.min(other.x.1) - self.x.0.max(other.x.0);
        let height = self.y.1.min(other.y.1) - self.y.0.max(other.y.0);
        if width <= 0.0 || height <= 0.0 || self.area() <= 0.0 || other.area() <= 0.0 {
            return 0.0;
        }
        let both = width * height;
        both / (self.area() + other.area() - both)
    }
}

/// Positions of the boxes that are kept, best score first; of equal scores the first box first.
/// `boxes` and `scores` have one entry a box. A box whose score is NaN is left out.
pub fn select_boxes(kind: &Suppression, boxes: &[[f32; 4]], scores: &[f32]) -> Vec<usize> {
    let passes = |score: f32| kind.score.map_or(!score.is_nan(), |least| score > least);
    let mut order: Vec<usize> = (0..boxes.len().min(scores.len())).collect();
    order.retain(|&i| passes(scores[i]));
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<(usize, Bounds)> = Vec::new();
    for i in order {
        if kept.len() >= kind.limit {
            break;
        }
        let bounds = Bounds::new(&boxes[i], kind.format);
        if kept.iter().all(|(_, other)| bounds.overlap(other) <= kind.overlap) {
            kept.push((i, bounds));
        }
    }
    kept.into_iter().map(|(i, _)| i).collect()
}
