//! What the compiler refuses, each beside the same lines with the right axis, which it accepts.
//!
//! Only the axis differs within a pair, so that a refusal has no other reason. (That a const axis cannot
//! shrink is shown at [`AxisGrowsTo`](crate::growth::AxisGrowsTo).)
//!
//! A linear map contracts the axis that its weight reads, not another of equal size:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn map(x: Tensor<(Rows, Hidden), f32, Cpu>, weight: Tensor<(Ffn, Hidden), f32, Cpu>)
//! -> Result<Tensor<(Rows, Ffn), f32, Cpu>> {
//!     linear(x, weight, None)
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn map(x: Tensor<(Rows, Hidden), f32, Cpu>, weight: Tensor<(Ffn, AttnDim), f32, Cpu>)
//! -> Result<Tensor<(Rows, Ffn), f32, Cpu>> {
//!     linear(x, weight, None)
//! }
//! ```
//!
//! Its bias belongs to the axis that it makes:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn map(x: Tensor<(Rows, Hidden), f32, Cpu>, weight: Tensor<(Ffn, Hidden), f32, Cpu>, bias: Tensor<(Ffn,), f32, Cpu>)
//! -> Result<Tensor<(Rows, Ffn), f32, Cpu>> {
//!     linear(x, weight, Some(bias))
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn map(x: Tensor<(Rows, Hidden), f32, Cpu>, weight: Tensor<(Ffn, Hidden), f32, Cpu>, bias: Tensor<(Hidden,), f32, Cpu>)
//! -> Result<Tensor<(Rows, Ffn), f32, Cpu>> {
//!     linear(x, weight, Some(bias))
//! }
//! ```
//!
//! A norm's weight belongs to the axis that is normalised:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn norm(x: Tensor<(Rows, Hidden), f32, Cpu>, weight: &Tensor<(Hidden,), f32, Cpu>, bias: &Tensor<(Hidden,), f32, Cpu>)
//! -> Result<Tensor<(Rows, Hidden), f32, Cpu>> {
//!     masked_layer_norm(x, weight, bias, &Mask::none(), 1e-5)
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn norm(x: Tensor<(Rows, Hidden), f32, Cpu>, weight: &Tensor<(Ffn,), f32, Cpu>, bias: &Tensor<(Hidden,), f32, Cpu>)
//! -> Result<Tensor<(Rows, Hidden), f32, Cpu>> {
//!     masked_layer_norm(x, weight, bias, &Mask::none(), 1e-5)
//! }
//! ```
//!
//! A mask acts on its own axis:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn hide(x: Tensor<(Rows, Hidden), f32, Cpu>, mask: &Mask<Hidden, f32, Cpu>)
//! -> Result<Tensor<(Rows, Hidden), f32, Cpu>> {
//!     mask.apply(x)
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn hide(x: Tensor<(Rows, Hidden), f32, Cpu>, mask: &Mask<Ffn, f32, Cpu>)
//! -> Result<Tensor<(Rows, Hidden), f32, Cpu>> {
//!     mask.apply(x)
//! }
//! ```
//!
//! Keys are not queries, though both are positions of one sequence:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! type Positions<A> = Tensor<(Batch, A, AttnDim), f32, Cpu>;
//! fn attend(query: Positions<Query>, key: Positions<Key>, value: Positions<Key>) -> Result<Positions<Query>> {
//!     let off = (Dropout::OFF, DropoutSite { layer: None, place: "doc" });
//!     attention(query, key, value, HeadDim(4), &AttentionMask::full(), off)
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! type Positions<A> = Tensor<(Batch, A, AttnDim), f32, Cpu>;
//! fn attend(query: Positions<Query>, key: Positions<Query>, value: Positions<Key>) -> Result<Positions<Query>> {
//!     let off = (Dropout::OFF, DropoutSite { layer: None, place: "doc" });
//!     attention(query, key, value, HeadDim(4), &AttentionMask::full(), off)
//! }
//! ```
//!
//! Labels are entries of the axis that is predicted:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn loss(logits: Tensor<(Rows, Vocab), f32, Cpu>, labels: &Labels<Vocab, (Rows,), f32, Cpu>)
//! -> Result<Tensor<(), f32, Cpu>> {
//!     cross_entropy(logits, labels, labels.counted())
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn loss(logits: Tensor<(Rows, Vocab), f32, Cpu>, labels: &Labels<Class, (Rows,), f32, Cpu>)
//! -> Result<Tensor<(), f32, Cpu>> {
//!     cross_entropy(logits, labels, labels.counted())
//! }
//! ```
//!
//! dfdx's own operations refuse as well, here a sum:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn sum(x: Tensor<(Rows, Hidden), f32, Cpu>, y: Tensor<(Rows, Hidden), f32, Cpu>) -> Tensor<(Rows, Hidden), f32, Cpu> {
//!     x + y
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn sum(x: Tensor<(Rows, Hidden), f32, Cpu>, y: Tensor<(Rows, HiddenOut), f32, Cpu>) -> Tensor<(Rows, Hidden), f32, Cpu> {
//!     x + y
//! }
//! ```
//!
//! An axis grows to itself, not to another:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn grown(w: &Param<(Ffn, Hidden), Cpu>, growth: &Growth, new: NewEntries) -> Result<Param<(Ffn, Hidden), Cpu>> {
//!     grow_tensor(w, growth, new)
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn grown(w: &Param<(Ffn, Hidden), Cpu>, growth: &Growth, new: NewEntries) -> Result<Param<(Ffn, AttnDim), Cpu>> {
//!     grow_tensor(w, growth, new)
//! }
//! ```
//!
//! A bare number is no axis: a mask needs a name,
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn hide(x: Tensor<(Rows, Hidden), f32, Cpu>, mask: &Mask<Hidden, f32, Cpu>) -> Result<Tensor<(Rows, Hidden), f32, Cpu>> {
//!     mask.apply(x)
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn hide(x: Tensor<(Rows, usize), f32, Cpu>, mask: &Mask<usize, f32, Cpu>) -> Result<Tensor<(Rows, usize), f32, Cpu>> {
//!     mask.apply(x)
//! }
//! ```
//!
//! and so does a parameter:
//! ```
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn list<V: Visitor<Cpu>>(w: &mut Param<(Ffn, Hidden), Cpu>, visitor: &mut V) -> Result<()> {
//!     visitor.visit(&ParamName::root().join("w"), Role::weight(), w)
//! }
//! ```
//! ```compile_fail
//! # use dfdx::{tensor::{Cpu, Tensor}, tensor_ops::TryAdd}; use msg_core::{Result, axis::*, growth::*, mask::Mask, ops::*, params::*};
//! fn list<V: Visitor<Cpu>>(w: &mut Param<(Ffn, usize), Cpu>, visitor: &mut V) -> Result<()> {
//!     visitor.visit(&ParamName::root().join("w"), Role::weight(), w)
//! }
//! ```
