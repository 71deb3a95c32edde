//! NPZ archives of inputs and answers.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, NpzWriter};

/// The floats among a model's outputs, in their order.
pub(crate) type Answers = Vec<ArrayD<f32>>;

/// An input of a model.
#[derive(Debug, Clone)]
pub(crate) enum Array {
    F32(ArrayD<f32>),
    I64(ArrayD<i64>),
}

impl Array {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Array::F32(array) => array.shape(),
            Array::I64(array) => array.shape(),
        }
    }
}

/// Arrays by the names of a model's inputs.
#[derive(Debug)]
pub(crate) struct Inputs(Vec<(String, Array)>);

impl Inputs {
    /// The extent of the first axis of the first array; 1 for none.
    pub(crate) fn batch(&self) -> usize {
        self.0.first().and_then(|(_, array)| array.shape().first()).copied().unwrap_or(1)
    }

    /// Takes the array of that name.
    pub(crate) fn take(&mut self, name: &str) -> Result<Array> {
        let place = self.0.iter().position(|(known, _)| known == name);
        let place = place.with_context(|| format!("no array for the input `{name}`"))?;
        Ok(self.0.swap_remove(place).1)
    }
}

/// Reads an archive of f32 and i64 arrays.
pub(crate) fn read(path: &Path) -> Result<Inputs> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut archive = NpzReader::new(file)?;
    let mut arrays = Vec::new();
    for name in archive.names()? {
        let floats = archive.by_name::<OwnedRepr<f32>, IxDyn>(&name);
        let array = floats
            .map(Array::F32)
            .or_else(|_| archive.by_name::<OwnedRepr<i64>, IxDyn>(&name).map(Array::I64))
            .map_err(|_| anyhow!("the input `{name}` is neither f32 nor i64"))?;
        arrays.push((name.trim_end_matches(".npy").to_owned(), array));
    }
    Ok(Inputs(arrays))
}

/// Writes answers under their positions.
pub(crate) fn write(path: &Path, answers: &Answers) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut archive = NpzWriter::new(file);
    for (place, answer) in answers.iter().enumerate() {
        archive.add_array(place.to_string(), answer)?;
    }
    archive.finish()?;
    Ok(())
}
