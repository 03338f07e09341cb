//! Cross-entropy with ignored labels.

use crate::{
    axis::{Axis, EndsWith},
    error::{Context, Error, Result, same_shape, same_size},
    float::Float,
};
use dfdx::{
    shapes::{HasShape, ReduceShapeTo, RemoveDimTo, Shape},
    tensor::{Tape, Tensor},
    tensor_ops::{Device, SelectTo, SumTo, TryMul, TrySub},
};

/// The label of a place that is not predicted.
pub const IGNORED: i64 = -100;

const OP: &str = "cross_entropy";

/// Labels of class axis `A`, one per place of shape `S`; some may be ignored.
#[derive(Clone, Debug)]
pub struct Labels<A: Axis, S: Shape, E: Float, D: Device<E>> {
    classes: A,
    /// The label, 0 where ignored.
    ids: Tensor<S, usize, D>,
    /// 1 where the place counts, 0 where ignored.
    counts: Tensor<S, E, D>,
    counted: usize,
}

impl<A: Axis, S: Shape, E: Float, D: Device<E>> Labels<A, S, E, D> {
    /// Checks host labels against the number of classes and copies them to the device.
    ///
    /// # Errors
    /// [`Error::Count`], [`Error::Zero`], or [`Error::Index`] for the first label that is neither a
    /// class nor [`IGNORED`].
    pub fn new(device: &D, labels: &[i64], shape: S, classes: A) -> Result<Self> {
        const WHAT: &str = "label";
        let expected = shape.num_elements();
        if expected == 0 {
            return Err(Error::Zero { what: WHAT });
        }
        if labels.len() != expected {
            return Err(Error::Count { what: WHAT, expected, got: labels.len() });
        }
        let limit = classes.size();
        let bad = |label: i64| label != IGNORED && usize::try_from(label).map_or(true, |id| id >= limit);
        if let Some((place, &index)) = labels.iter().enumerate().find(|(_, label)| bad(**label)) {
            return Err(Error::Index { what: WHAT, index, place, limit });
        }
        let counted = labels.iter().filter(|label| **label != IGNORED).count();
        let ids = labels.iter().map(|&label| label.max(0) as usize).collect();
        let counts = labels.iter().map(|&label| E::of(f64::from(u8::from(label != IGNORED)))).collect();
        Ok(Labels {
            classes,
            ids: device.try_tensor_from_vec(ids, shape).during(WHAT)?,
            counts: device.try_tensor_from_vec(counts, shape).during(WHAT)?,
            counted,
        })
    }

    /// The class axis.
    pub fn classes(&self) -> A {
        self.classes
    }

    /// The shape of the places.
    pub fn shape(&self) -> &S {
        self.ids.shape()
    }

    /// How many places are not ignored.
    pub fn counted(&self) -> usize {
        self.counted
    }
}

impl<A: Axis, S: Shape> Labels<A, S, f32, dfdx::tensor::Cpu> {
    /// On the host: the label of each place, 0 where ignored, and 1 where it counts, else 0.
    pub(crate) fn host(&self) -> (Vec<usize>, Vec<f32>) {
        (crate::device::host::host(&self.ids), crate::device::host::host(&self.counts))
    }
}

#[cfg(feature = "cuda")]
impl<A: Axis, S: Shape> Labels<A, S, f32, dfdx::tensor::Cuda> {
    /// Where both lie on the device, while this lives.
    pub(crate) fn on_device(
        &self,
    ) -> Result<(crate::device::raw_pointer::Address, crate::device::raw_pointer::Address)> {
        Ok((
            crate::device::raw_pointer::indices(&self.ids)?,
            crate::device::raw_pointer::address(&self.counts)?,
        ))
    }
}

/// The sum over counted places of `-log softmax(logits)[label]`, divided by `divisor`.
///
/// The divisor is the caller's: the number of counted places of this batch, or of all the
/// micro-batches of a step. A divisor of 0 (no labelled place anywhere) counts as 1: the loss is 0.
///
/// # Errors
/// Where the labels were made for another number of classes or places.
pub fn cross_entropy<A, S, E, D, T>(
    logits: Tensor<S, E, D, T>,
    labels: &Labels<A, S::Rest, E, D>,
    divisor: usize,
) -> Result<Tensor<(), E, D, T>>
where
    A: Axis,
    S: EndsWith<A> + RemoveDimTo<<S as EndsWith<A>>::Rest, <S as EndsWith<A>>::Rest>,
    S::Rest: ReduceShapeTo<(), <S::Rest as Shape>::AllAxes>,
    E: Float,
    D: Device<E>,
    T: Tape<E, D>,
{
    let counted = losses(logits, labels)?.try_mul(labels.counts.clone()).during(OP)?;
    let sum = counted.try_sum::<(), <S::Rest as Shape>::AllAxes>().during(OP)?;
    sum.try_mul(E::of(1.0 / divisor.max(1) as f64)).during(OP)
}

/// Loss and correctness at every counted place, in order, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// `-log softmax(logits)[label]`, in nats.
    pub losses: Vec<f32>,
    /// Whether no class has a larger logit than the label's.
    pub right: Vec<bool>,
}

/// Loss and correctness of every counted place. Nothing is summed here, so that a mean over many batches does not
/// depend on how places are batched.
///
/// # Errors
/// As [`cross_entropy`].
pub fn scores<A, S, D>(logits: Tensor<S, f32, D>, labels: &Labels<A, S::Rest, f32, D>) -> Result<Scores>
where
    A: Axis,
    S: EndsWith<A> + RemoveDimTo<<S as EndsWith<A>>::Rest, <S as EndsWith<A>>::Rest>,
    D: Device<f32>,
{
    let losses = losses(logits.clone(), labels)?.as_vec();
    let chosen = logits.clone().try_select::<S::Rest, S::Rest>(labels.ids.clone()).during(OP)?.as_vec();
    let largest = S::max_last(logits).during(OP)?.as_vec();
    let counts = labels.counts.as_vec();
    let answers = losses.into_iter().zip(chosen.into_iter().zip(largest));
    let counted = answers.zip(counts).filter(|(_, count)| *count > 0.0);
    let (losses, right) = counted.map(|((loss, (chosen, largest)), _)| (loss, chosen >= largest)).unzip();
    Ok(Scores { losses, right })
}

/// `-log softmax(logits)[label]` of every place; where it is ignored, that of class 0.
fn losses<A, S, E, D, T>(
    logits: Tensor<S, E, D, T>,
    labels: &Labels<A, S::Rest, E, D>,
) -> Result<Tensor<S::Rest, E, D, T>>
where
    A: Axis,
    S: EndsWith<A> + RemoveDimTo<<S as EndsWith<A>>::Rest, <S as EndsWith<A>>::Rest>,
    E: Float,
    D: Device<E>,
    T: Tape<E, D>,
{
    let shape = *logits.shape();
    same_size(OP, A::NAME, labels.classes.size(), shape.last().size())?;
    same_shape(OP, &shape.rest(), labels.ids.shape())?;
    // The tape stays with the log-sum; the chosen logits branch off and merge again.
    let chosen = logits.retaped::<T>().try_select::<S::Rest, S::Rest>(labels.ids.clone()).during(OP)?;
    let logsumexp = S::log_sum_exp(logits).during(OP)?;
    logsumexp.try_sub(chosen).during(OP)
}
