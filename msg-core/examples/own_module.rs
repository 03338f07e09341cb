//! A module of one's own grows: a small MLP on axes declared here. `cargo run -p msg-core --example own_module`
use dfdx::prelude::*;
use msg_core::{
    Result,
    axis::Rows,
    growth::{AxisMap, Growth, Init, Masked, Ramp, Ramps, grow, init},
    ops::{Gelu, linear, masked_gelu, masked_layer_norm},
    optim::{AdamW, AdamWConfig, StatePolicy, Update},
    params::{Module, Param, ParamName, Role, Visitor},
};

msg_core::axis! { In; Width; Out; }

#[derive(Clone)]
struct Mlp {
    up: Param<(Width, In), Cpu>,
    gain: Param<(Width,), Cpu>,
    shift: Param<(Width,), Cpu>,
    down: Param<(Out, Width), Cpu>,
    ramps: Ramps,
}

/// The list of parameters: all that growth and the optimizer need to know.
impl Module<Cpu> for Mlp {
    fn walk<V: Visitor<Cpu>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Mlp { up, gain, shift, down, ramps: _ } = self;
        visitor.visit(&at.join("up"), Role::weight(), up)?;
        visitor.visit(&at.join("gain"), Role::norm_weight(), gain)?;
        visitor.visit(&at.join("shift"), Role::norm_bias(), shift)?;
        visitor.visit(&at.join("down"), Role::weight(), down)
    }
}

type Signal<A, T> = Tensor<(Rows, A), f32, Cpu, T>;

impl Mlp {
    fn forward<T: Tape<f32, Cpu>>(&self, x: Signal<In, T>, step: u64) -> Result<Signal<Out, T>> {
        let mask = self.ramps.mask(self.gain.device(), self.gain.shape().0, step)?;
        let x = linear(x, self.up.retaped(), None)?;
        let x = masked_layer_norm(x, &self.gain, &self.shift, &mask, 1e-5)?;
        linear(masked_gelu(x, Gelu::Tanh, &mask)?, self.down.retaped(), None)
    }
}

fn main() -> Result<()> {
    let (dev, width) = (Cpu::default(), Width(4));
    let (up, down) = (dev.zeros_like(&(width, In(2))), dev.zeros_like(&(Out(1), width)));
    let (gain, shift) = (dev.zeros_like(&(width,)), dev.zeros_like(&(width,)));
    let mut mlp = Mlp { up, gain, shift, down, ramps: Ramps::default() };
    init(&mut mlp, Init { seed: 1, std: 0.5 })?;
    let mut optimizer = AdamW::new(&mlp, AdamWConfig::default())?;
    // The toy task: the product of two numbers.
    let x: Vec<f32> = (0..128u8).map(|at| (f32::from(at) * 1.7).sin() * 2.0).collect();
    let y = dev.tensor_from_vec(x.chunks(2).map(|x| x[0] * x[1]).collect(), (Rows(64), Out(1)));
    let x = dev.tensor_from_vec(x, (Rows(64), In(2)));
    let mut losses = Vec::new();
    for step in 1..=120 {
        let loss = (mlp.forward(x.leaky_trace(), step)? - y.clone()).square().mean();
        losses.push(loss.array());
        println!("step {step:3}  width {:2}  loss {:.4}", mlp.gain.shape().0.0, loss.array());
        optimizer.step(&mut mlp, &mut loss.backward(), Update::at(0.02))?;
        mlp.ramps.retire(step);
        if step == 60 {
            let growth = Growth::new(1, 1).with_axis(AxisMap::append("Width", 4, 16)?);
            let mut grown = grow(&mlp, &growth, &Masked::default())?;
            grown.ramps.grow(&growth, Ramp { start: step as i64, length: 20 });
            let (old, new) = (mlp.forward(x.clone(), step)?, grown.forward(x.clone(), step)?);
            assert_eq!(old.as_vec(), new.as_vec(), "at mask 0 the same function, to the bit");
            optimizer = optimizer.grown(&grown, &growth, StatePolicy::Age)?;
            mlp = grown;
        }
    }
    assert!(losses[119] < 0.5 * losses[59] && losses[59] < losses[0], "the loss falls on, and further");
    assert!(mlp.ramps.is_empty(), "the ramp is over: no mask is left");
    Ok(())
}
