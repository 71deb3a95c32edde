//! Files that steps name, read from the folder of the file that declares the steps.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Bytes that one asset may have.
const MAX_ASSET_BYTES: u64 = 256 << 20;

/// A folder of assets.
#[derive(Debug, Clone)]
pub struct AssetFolder {
    folder: PathBuf,
}

impl AssetFolder {
    /// The assets of a folder; an empty path is the current one.
    pub fn new(folder: &Path) -> AssetFolder {
        let here = folder.as_os_str().is_empty();
        AssetFolder { folder: if here { PathBuf::from(".") } else { folder.to_owned() } }
    }

    /// An asset's bytes. Its name is a path below the folder.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let below = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(
            below && !name.is_empty(),
            "asset '{name}': expected a path below {} without '..'",
            self.folder.display()
        );
        let path = self.folder.join(name);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(MAX_ASSET_BYTES + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().with_context(|| format!("asset {}", path.display()))?;
        ensure!(
            bytes.len() as u64 <= MAX_ASSET_BYTES,
            "asset {}: more than {MAX_ASSET_BYTES} bytes",
            path.display()
        );
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_stay_below_their_folder() {
        let folder = AssetFolder::new(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(folder.read("Cargo.toml").is_ok());
        assert!(folder.read("src/lib.rs").is_ok());
        for name in ["../Cargo.toml", "/etc/hostname", "", "src/../Cargo.toml"] {
            let error = folder.read(name).unwrap_err().to_string();
            assert!(error.contains("expected a path below"), "{name}: {error}");
        }
        assert!(format!("{:#}", folder.read("absent").unwrap_err()).contains("absent"));
    }
}
