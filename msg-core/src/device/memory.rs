//! Out of memory as an error, where dfdx would panic.

use crate::error::{Error, says_out_of_memory};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

/// Runs `work` and turns a panic about memory into [`Error::OutOfMemory`]; other panics continue.
///
/// dfdx 0.13 copies a shared buffer by `Clone`, which cannot fail, so it unwraps there. What `work` was about to
/// change must not be used after such an error. A panic hook still sees the panic.
///
/// # Errors
/// Those of `work`, and [`Error::OutOfMemory`].
pub fn out_of_memory_as_error<R, E: From<Error>>(
    op: &'static str,
    work: impl FnOnce() -> Result<R, E>,
) -> Result<R, E> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(payload) if says_out_of_memory(text(&*payload)) => {
            Err(Error::OutOfMemory { op, bytes: None }.into())
        }
        Err(payload) => resume_unwind(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_panics_about_memory_become_errors() {
        let work = |message: &'static str| move || -> Result<(), Error> { panic!("{message}") };
        let full = "called `Result::unwrap()` on an `Err` value: DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"\")";
        let refused = out_of_memory_as_error("growth", work(full));
        assert_eq!(refused, Err(Error::OutOfMemory { op: "growth", bytes: None }));
        let other = catch_unwind(|| out_of_memory_as_error("growth", work("index out of range")));
        assert_eq!(text(&*other.unwrap_err()), "index out of range");
        assert_eq!(out_of_memory_as_error::<_, Error>("growth", || Ok(3)), Ok(3));
    }
}
