//! Compiles every `.cu` file under `src` to PTX when the feature `cuda` is on. Their headers are in `kernels`.
//!
//! Nothing here asks the machine what it is: the compiler is `$NVCC`, else `$CUDA_PATH/bin/nvcc`, else
//! `nvcc` from the path, and the architecture is `$CUDA_COMPUTE_CAP`, else 90. With `ci-check` the PTX
//! files are empty, so that everything can be checked without a CUDA toolkit.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const SOURCES: &str = "src";
const HEADERS: &str = "kernels";
const DEFAULT_CAP: &str = "90";

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={HEADERS}");
    for variable in ["NVCC", "CUDA_PATH", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return ExitCode::SUCCESS;
    }
    match build_all(env::var_os("CARGO_FEATURE_CI_CHECK").is_some()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Makes one PTX file in `OUT_DIR` for every `.cu` file.
fn build_all(empty: bool) -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    let mut kernels = Vec::new();
    find_kernels(Path::new(SOURCES), &mut kernels)?;
    kernels.sort();
    for kernel in kernels {
        println!("cargo:rerun-if-changed={}", kernel.display());
        let name = kernel.file_stem().ok_or_else(|| format!("{}: no file name", kernel.display()))?;
        let ptx = out.join(name).with_extension("ptx");
        if empty {
            fs::write(&ptx, "").map_err(|e| format!("cannot write {}: {e}", ptx.display()))?;
        } else {
            compile(&kernel, &ptx)?;
        }
    }
    Ok(())
}

/// Adds the `.cu` files below a folder. Each has a name of its own, for its PTX file.
fn find_kernels(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let read = |e| format!("cannot read {}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_dir() {
            find_kernels(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            if found.iter().any(|other| other.file_stem() == path.file_stem()) {
                return Err(format!("{}: there is another kernel file of this name", path.display()));
            }
            found.push(path);
        }
    }
    Ok(())
}

fn compile(kernel: &Path, ptx: &Path) -> Result<(), String> {
    let nvcc = nvcc();
    let cap = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| DEFAULT_CAP.into());
    // No contraction: the kernels promise the results of the Cpu's separate operations.
    let status = Command::new(&nvcc)
        .args(["--ptx", "-O3", "--fmad=false"])
        .arg(format!("--gpu-architecture=compute_{cap}"))
        .arg(format!("-I{HEADERS}"))
        .arg("-o")
        .args([ptx, kernel])
        .status()
        .map_err(|e| {
            let nvcc = nvcc.to_string_lossy();
            format!("cannot run the CUDA compiler {nvcc:?}: {e}. Set NVCC or CUDA_PATH, or build without the feature `cuda`")
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed on {}: {status}", nvcc.to_string_lossy(), kernel.display()))
    }
}

fn nvcc() -> OsString {
    let from_toolkit = || {
        env::var_os("CUDA_PATH").map(|path| Path::new(&path).join("bin/nvcc")).filter(|nvcc| nvcc.is_file())
    };
    env::var_os("NVCC")
        .or_else(|| from_toolkit().map(PathBuf::into_os_string))
        .unwrap_or_else(|| "nvcc".into())
}
