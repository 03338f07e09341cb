//! Compiles `kernels/*.cu` to PTX when the feature `cuda` is on.
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

const KERNELS: &str = "kernels";
const DEFAULT_CAP: &str = "90";

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={KERNELS}");
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
    for kernel in kernels()? {
        println!("cargo:rerun-if-changed={}", kernel.display());
        if kernel.extension().is_none_or(|extension| extension != "cu") {
            continue;
        }
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

/// The sources, headers included.
fn kernels() -> Result<Vec<PathBuf>, String> {
    let read = |e| format!("cannot read {KERNELS}/: {e}");
    let entries = fs::read_dir(KERNELS).map_err(read)?;
    let mut paths =
        entries.map(|entry| entry.map(|e| e.path()).map_err(read)).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn compile(kernel: &Path, ptx: &Path) -> Result<(), String> {
    let nvcc = nvcc();
    let cap = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| DEFAULT_CAP.into());
    // No contraction: the kernels promise the results of the Cpu's separate operations.
    let status = Command::new(&nvcc)
        .args(["--ptx", "-O3", "--fmad=false"])
        .arg(format!("--gpu-architecture=compute_{cap}"))
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
