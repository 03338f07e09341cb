//! Errors as kinds with facts: the operation, the axis or name, what was expected and what came.

use std::fmt::{self, Display, Formatter, Write};

/// The result of everything in this workspace that can be refused.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every refusal of this crate. One variant per rule; the text holds both numbers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two tensors of one operation disagree in the size of an axis.
    #[error("{op}: axis {axis}: expected size {expected}, got {got}")]
    Size {
        /// The operation that refused.
        op: &'static str,
        /// The axis' name.
        axis: &'static str,
        /// The size that the operation needs.
        expected: usize,
        /// The size that it was given.
        got: usize,
    },
    /// An axis was asked to become smaller.
    #[error("growth: axis {axis} cannot shrink: it has {old} units, target {new}")]
    Shrink {
        /// The axis' name.
        axis: &'static str,
        /// The size before.
        old: usize,
        /// The size asked for.
        new: usize,
    },
    /// A size that must be at least one is zero.
    #[error("{what} must be at least 1, got 0")]
    Zero {
        /// What was zero.
        what: &'static str,
    },
    /// An AttnDim size that is not a whole number of heads.
    #[error("attention: inner size {inner} is not a whole number of heads of size {head_dim}")]
    Heads {
        /// Size of the AttnDim axis.
        inner: usize,
        /// Size of one head.
        head_dim: usize,
    },
    /// A new unit names a source that the old axis does not have.
    #[error("growth: axis {axis}: new unit {unit} copies unit {source_unit}, but the axis has {old} units")]
    Source {
        /// The axis' name.
        axis: &'static str,
        /// The new unit.
        unit: usize,
        /// The old unit that it names.
        source_unit: usize,
        /// How many old units there are.
        old: usize,
    },
    /// A depth map in which an old layer is missing, repeated, out of order or out of range.
    #[error("growth: layers: expected old layer {expected} next, got {got} (of {old} old layers)")]
    Depth {
        /// The old layer that should come next.
        expected: usize,
        /// What came.
        got: usize,
        /// How many old layers there are.
        old: usize,
    },
    /// A depth map for a module that has no layers.
    #[error("growth: this module has no layers to grow (target {got})")]
    NoLayers {
        /// The number of layers asked for.
        got: usize,
    },
    /// An index beyond its table: a token, a position, a label.
    #[error("{what} {index} at {place} is out of range: the table has {limit} entries")]
    Index {
        /// What kind of index.
        what: &'static str,
        /// Its value.
        index: i64,
        /// Where it stands in the input (row-major position).
        place: usize,
        /// The table's size.
        limit: usize,
    },
    /// A list of host values of the wrong length for its tensor.
    #[error("{what}: expected {expected} values, got {got}")]
    Count {
        /// What the values are.
        what: &'static str,
        /// The number that the shape needs.
        expected: usize,
        /// The number given.
        got: usize,
    },
    /// A number out of range.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// What the number is.
        what: &'static str,
        /// The admissible range, in words.
        expected: &'static str,
        /// The number given.
        got: f64,
    },
    /// A tensor that the walk names is missing, or has another shape type.
    #[error("{op}: no tensor {name:?} of this shape")]
    Missing {
        /// The operation that looked.
        op: &'static str,
        /// The parameter's name.
        name: String,
    },
    /// The device has no memory left.
    #[error("{op}: out of memory on the device{}", asked_for(*bytes))]
    OutOfMemory {
        /// The operation under way.
        op: &'static str,
        /// What it asked for, where that is known.
        bytes: Option<usize>,
    },
    /// The device failed (driver, kernel).
    #[error("{op}: device error: {message}")]
    Device {
        /// The operation under way.
        op: &'static str,
        /// The device's own words.
        message: String,
    },
}

/// Text that may quote a file or a path, made fit for one line: control characters become `?`, and a long text is
/// cut.
pub fn one_line(text: impl Display) -> impl Display {
    OneLine(text)
}

struct OneLine<T>(T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        /// Characters that a message may have.
        const LONGEST: usize = 300;
        let mut line = Line { to, left: LONGEST };
        // The sink's own refusal means that the line is full.
        let written = write!(line, "{}", self.0);
        if written.is_err() && line.left == 0 { to.write_str(" ...") } else { written }
    }
}

/// Passes on a line's characters until it is full.
struct Line<'a, 'b> {
    to: &'a mut Formatter<'b>,
    left: usize,
}

impl Write for Line<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.to.write_char(if letter.is_control() { '?' } else { letter })?;
        }
        Ok(())
    }
}

fn asked_for(bytes: Option<usize>) -> String {
    bytes.map_or(String::new(), |bytes| format!(" ({bytes} bytes asked for)"))
}

/// Whether a text of dfdx or cudarc, of an error or a panic, says that the device has no memory left.
pub fn says_out_of_memory(text: &str) -> bool {
    // The driver's name for it, and cuBLAS's; dfdx and cudarc pass both on unchanged.
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|name| text.contains(name))
}

/// Turns a device's error into ours, with the operation's name.
pub trait Context<T> {
    /// Names the operation that the device was working on.
    fn during(self, op: &'static str) -> Result<T>;

    /// As [`Context::during`], for an operation that asks for so much memory.
    fn asking_for(self, bytes: usize, op: &'static str) -> Result<T>
    where
        Self: Sized,
    {
        self.during(op).map_err(|error| match error {
            Error::OutOfMemory { op, .. } => Error::OutOfMemory { op, bytes: Some(bytes) },
            other => other,
        })
    }
}

impl<T, E: std::fmt::Debug> Context<T> for std::result::Result<T, E> {
    fn during(self, op: &'static str) -> Result<T> {
        self.map_err(|e| {
            let message = format!("{e:?}");
            match says_out_of_memory(&message) {
                true => Error::OutOfMemory { op, bytes: None },
                false => Error::Device { op, message },
            }
        })
    }
}

/// Refuses unless both sizes are equal.
pub fn same_size(op: &'static str, axis: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Size { op, axis, expected, got }) }
}

/// Refuses unless both shapes have the same sizes; the error names the axis by its place.
pub fn same_shape<S: dfdx::shapes::Shape>(op: &'static str, expected: &S, got: &S) -> Result<()> {
    const PLACES: [&str; 6] = ["0", "1", "2", "3", "4", "5"];
    let sizes = expected.concrete().into_iter().zip(got.concrete());
    sizes.zip(PLACES).try_for_each(|((expected, got), place)| same_size(op, place, expected, got))
}

/// Refuses a shape without entries, over which dfdx's loops panic.
pub fn some_entries<S: dfdx::shapes::Shape>(what: &'static str, shape: &S) -> Result<()> {
    if shape.num_elements() > 0 { Ok(()) } else { Err(Error::Zero { what }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_memory_is_told_from_one_that_fails() {
        let failed = |text: &'static str| Err::<(), _>(format_args!("{text}")).during("growth");
        let full = "Driver(DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\"))";
        assert_eq!(failed(full), Err(Error::OutOfMemory { op: "growth", bytes: None }));
        let text = Err::<(), _>(format_args!("{full}")).asking_for(12, "growth").unwrap_err().to_string();
        assert_eq!(text, "growth: out of memory on the device (12 bytes asked for)");
        assert!(matches!(failed("DriverError(CUDA_ERROR_UNKNOWN)"), Err(Error::Device { .. })));
    }

    #[test]
    fn a_quoted_text_stays_in_one_line_of_bounded_length() {
        assert_eq!(one_line("a\nb\u{1b}[1m\u{85}é").to_string(), "a?b?[1m?é");
        for (letters, end) in [(300, "x"), (301, " ...")] {
            let line = one_line("x".repeat(letters)).to_string();
            assert!(line.starts_with(&"x".repeat(300)) && line.ends_with(end), "{line}");
        }
    }
}
