//! A module of a few small tensors with axes of its own, whose gradients the caller sets.

use dfdx::tensor::{Cpu, Gradients};
use msg_core::{
    Backend, Result,
    axis::NamedShape,
    error::Context,
    growth::DepthMap,
    optim::AdamW,
    params::{Module, Param, ParamName, Role, Visitor},
};
use std::collections::BTreeMap;

msg_core::axis! {
    /// Entries of the table; no layer has it.
    pub Entries;
    /// Features; every tensor but the biases has it.
    pub Width;
    /// The same features as the outputs of a square map.
    pub WidthOut grows as Width;
    /// Units inside a block.
    pub Inside;
}

/// A layer of the toy.
#[derive(Clone, Debug)]
pub struct Block<D: Backend> {
    /// Decays.
    pub weight: Param<(Inside, Width), D>,
    /// Does not.
    pub bias: Param<(Inside,), D>,
}

/// A table, a stack of blocks, a square map, a gain.
#[derive(Clone, Debug)]
pub struct Toy<D: Backend> {
    /// Two axes that grow on their own.
    pub table: Param<(Entries, Width), D>,
    /// The layers.
    pub blocks: Vec<Block<D>>,
    /// Two axes that grow as one.
    pub square: Param<(WidthOut, Width), D>,
    /// Outside the layers and without decay.
    pub gain: Param<(Width,), D>,
}

impl<D: Backend> Toy<D> {
    /// All zeros.
    pub fn zeros(device: &D, entries: usize, width: usize, inside: usize, layers: usize) -> Result<Self> {
        let (width_out, width) = (WidthOut(width), Width(width));
        let block = |_| -> Result<Block<D>> {
            Ok(Block {
                weight: device.try_zeros_like(&(Inside(inside), width)).during("toy")?,
                bias: device.try_zeros_like(&(Inside(inside),)).during("toy")?,
            })
        };
        Ok(Toy {
            table: device.try_zeros_like(&(Entries(entries), width)).during("toy")?,
            blocks: (0..layers).map(block).collect::<Result<_>>()?,
            square: device.try_zeros_like(&(width_out, width)).during("toy")?,
            gain: device.try_zeros_like(&(width,)).during("toy")?,
        })
    }
}

impl<D: Backend> Module<D> for Toy<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Toy { table, blocks, square, gain } = self;
        visitor.visit(&at.join("table"), Role::embedding(), table)?;
        for (index, Block { weight, bias }) in blocks.iter_mut().enumerate() {
            let at = at.layer_of("blocks", index);
            visitor.visit(&at.join("weight"), Role::weight(), weight)?;
            visitor.visit(&at.join("bias"), Role::bias(), bias)?;
        }
        visitor.visit(&at.join("square"), Role::weight(), square)?;
        visitor.visit(&at.join("gain"), Role::norm_weight(), gain)
    }

    fn arrange_layers(&mut self, depth: &DepthMap) -> Result<()> {
        self.blocks = depth.arrange(&self.blocks)?;
        Ok(())
    }
}

/// Values by parameter name, row-major.
pub type Values = BTreeMap<String, Vec<f32>>;

/// The parameters of a module.
///
/// # Errors
/// None on the Cpu.
pub fn parameters<M: Module<Cpu>>(module: &M) -> Result<Values> {
    struct Read(Values);
    impl Visitor<Cpu> for Read {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, Cpu>) -> Result<()> {
            self.0.insert(name.to_string(), t.as_vec());
            Ok(())
        }
    }
    let mut read = Read(Values::new());
    module.inspect(&mut read).map(|()| read.0)
}

/// The first and the second moments of a module's parameters.
///
/// # Errors
/// Where the optimizer is not the module's.
pub fn moments<M: Module<Cpu>>(module: &M, optimizer: &AdamW<Cpu>) -> Result<[Values; 2]> {
    struct Read<'a>(&'a AdamW<Cpu>, [Values; 2]);
    impl Visitor<Cpu> for Read<'_> {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, _: &mut Param<S, Cpu>) -> Result<()> {
            let (first, second) = self.0.moments::<S>(name)?;
            self.1[0].insert(name.to_string(), first.as_vec());
            self.1[1].insert(name.to_string(), second.as_vec());
            Ok(())
        }
    }
    let mut read = Read(optimizer, Default::default());
    module.inspect(&mut read).map(|()| read.1)
}

/// Sets every parameter to what `value` says of its name and the entry's row-major place.
///
/// # Errors
/// None on the Cpu.
pub fn set_parameters<M: Module<Cpu>>(module: &mut M, value: impl FnMut(&str, usize) -> f32) -> Result<()> {
    struct Write<F>(F);
    impl<F: FnMut(&str, usize) -> f32> Visitor<Cpu> for Write<F> {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, Cpu>) -> Result<()> {
            let name = name.to_string();
            let mut values = t.as_vec();
            values.iter_mut().enumerate().for_each(|(at, entry)| *entry = (self.0)(&name, at));
            t.copy_from(&values);
            Ok(())
        }
    }
    module.walk(&ParamName::root(), &mut Write(value))
}

/// Gradients of every parameter, from the name and the entry's row-major place.
pub fn gradients<M: Module<Cpu>>(
    module: &M,
    value: impl FnMut(&str, usize) -> f32,
) -> Result<Gradients<f32, Cpu>> {
    struct Write<F>(Gradients<f32, Cpu>, F);
    impl<F: FnMut(&str, usize) -> f32> Visitor<Cpu> for Write<F> {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, Cpu>) -> Result<()> {
            let name = name.to_string();
            let grad = self.0.get_or_alloc_mut(t).during("toy")?;
            grad.iter_mut().enumerate().for_each(|(at, entry)| *entry = (self.1)(&name, at));
            Ok(())
        }
    }
    let mut write = Write(Gradients::leaky(), value);
    module.inspect(&mut write)?;
    Ok(write.0)
}

/// A number in -1..1 that is a function of a seed, a name and a place.
pub fn draw(seed: u64, name: &str, at: usize) -> f32 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes().chain(at.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
}
