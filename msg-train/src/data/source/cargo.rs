//! The folders of the crates that Cargo.lock names.

use crate::error::{AtPath, Error, Result};
use serde::Deserialize;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Where the sources of crates may lie.
#[derive(Clone, Debug, Default)]
pub struct CargoFolders {
    /// The Cargo.lock that tells the versions.
    pub lock: PathBuf,
    /// The cargo home; its `registry/src/*/NAME-VERSION` are looked at.
    pub home: Option<PathBuf>,
    /// Vendored sources: `NAME-VERSION`, or `NAME` where its Cargo.toml has the version.
    pub vendor: PathBuf,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct CrateToml {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: toml::Value,
}

impl CargoFolders {
    /// The nearest Cargo.lock at or above `start`, the `vendor` folder beside it, and the cargo home of
    /// `CARGO_HOME` or else `.cargo` in the home folder.
    pub fn around(start: &Path) -> Self {
        let root = start.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).unwrap_or(start);
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
        CargoFolders { lock: root.join("Cargo.lock"), home, vendor: root.join("vendor") }
    }

    /// The folder of a crate, written `NAME` or, where Cargo.lock has several versions, `NAME@VERSION`.
    ///
    /// # Errors
    /// Where Cargo.lock cannot be read, does not have the crate once, or its sources are nowhere.
    pub fn find(&self, crate_name: &str) -> Result<PathBuf> {
        let (name, version) = self.version(crate_name)?;
        let folder = format!("{name}-{version}");
        let mut places = vec![self.vendor.join(&folder)];
        if has_version(&self.vendor.join(&name), &version) {
            places.push(self.vendor.join(&name));
        }
        places.extend(self.registries()?.iter().map(|registry| registry.join(&folder)));
        places.into_iter().find(|place| place.is_dir()).ok_or_else(|| Error::Data {
            path: self.lock.clone(),
            message: format!(
                "expected the sources of {name} {version} in the cargo home or in vendor, got neither; \
                 run cargo fetch"
            ),
        })
    }

    /// Name and version of a crate by Cargo.lock.
    fn version(&self, wanted: &str) -> Result<(String, String)> {
        let refused = |message: String| Error::Data { path: self.lock.clone(), message };
        let text = fs::read_to_string(&self.lock).at(&self.lock)?;
        let lock: Lock = toml::from_str(&text).map_err(|error| refused(error.message().to_owned()))?;
        let (name, exact) = match wanted.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (wanted, None),
        };
        let versions = lock.package.iter().filter(|package| package.name == name);
        let versions: Vec<&str> = versions.filter_map(|package| package.version.as_str()).collect();
        let found: Vec<&&str> =
            versions.iter().filter(|&&version| exact.is_none_or(|exact| exact == version)).collect();
        match found[..] {
            [version] => Ok((name.to_owned(), (*version).to_owned())),
            [] if versions.is_empty() => Err(refused(format!("expected a package {name}, got none"))),
            _ => Err(refused(format!(
                "expected one version of {wanted}, got {}; write one of them as {name}@VERSION",
                versions.join(", ")
            ))),
        }
    }

    /// The folders of unpacked crates, in sorted order.
    fn registries(&self) -> Result<Vec<PathBuf>> {
        let Some(sources) = self.home.as_ref().map(|home| home.join("registry/src")) else {
            return Ok(Vec::new());
        };
        if !sources.is_dir() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&sources).at(&sources)?;
        let mut folders = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<Vec<_>>>()
            .at(&sources)?;
        folders.sort();
        Ok(folders)
    }
}

/// Whether a vendored crate has the version asked for.
fn has_version(folder: &Path, version: &str) -> bool {
    // A folder without a readable Cargo.toml is not the crate; what is missing is said by the caller.
    let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let found = toml::from_str::<CrateToml>(&text);
    found.is_ok_and(|found| found.package.version.as_str() == Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::write;

    const LOCK: &str = "[[package]]\nname = \"one\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"two\"\n\
                        version = \"0.1.0\"\n\n[[package]]\nname = \"two\"\nversion = \"0.2.0\"\n";

    fn folders() -> (tempfile::TempDir, CargoFolders) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&root.join("Cargo.lock"), LOCK.as_bytes());
        let cargo = CargoFolders {
            lock: root.join("Cargo.lock"),
            home: Some(root.join("home")),
            vendor: root.join("vendor"),
        };
        (folder, cargo)
    }

    #[test]
    fn crates_are_found_in_the_registry_and_in_vendor() {
        let (folder, cargo) = folders();
        let registry = folder.path().join("home/registry/src/index/one-1.0.0");
        write(&registry.join("src/lib.rs"), b"//");
        assert_eq!(cargo.find("one").unwrap(), registry);
        let vendored = folder.path().join("vendor/two");
        write(&vendored.join("Cargo.toml"), b"[package]\nname = \"two\"\nversion = \"0.2.0\"\n");
        assert_eq!(cargo.find("two@0.2.0").unwrap(), vendored);
    }

    #[test]
    fn a_crate_that_cannot_be_found_says_what_to_do() {
        let (_folder, cargo) = folders();
        let lock = cargo.lock.display();
        for (name, message) in [
            (
                "one",
                "expected the sources of one 1.0.0 in the cargo home or in vendor, got neither; run cargo fetch",
            ),
            ("two", "expected one version of two, got 0.1.0, 0.2.0; write one of them as two@VERSION"),
            ("three", "expected a package three, got none"),
        ] {
            assert_eq!(cargo.find(name).unwrap_err().to_string(), format!("{lock}: {message}"));
        }
    }
}
