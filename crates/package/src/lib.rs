//! The .landfall file: manifest, sections, weights.
