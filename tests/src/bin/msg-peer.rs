//! What `tests/transformers/compare.py` asks of this project: the outputs of a checkpoint on given batches, and
//! the losses of some training steps on them. A request and its answer are JSON, on stdin and stdout.

use dfdx::{
    tensor::{AsArray, Cpu},
    tensor_ops::Backward,
};
use msg_core::optim::{AdamW, AdamWConfig, Update, tape, zero_grads};
use msg_models::{bert::Bert, gpt::Gpt};
use msg_train::{
    checkpoint::{family_of, load_model},
    data::{CausalBatch, MlmBatch},
    families::family::{HostOf, Trainable},
};
use serde::{Deserialize, Serialize};
use std::{error::Error, io, path::PathBuf};

#[derive(Deserialize)]
struct Request {
    checkpoint: PathBuf,
    batches: Vec<Batch>,
    /// Steps of AdamW; step k uses batch k modulo their number.
    steps: usize,
    #[serde(default)]
    lr: f64,
    #[serde(default)]
    weight_decay: f64,
}

/// Labels belong to their positions and are shifted already; -100 is ignored. A GPT has only ids and labels.
#[derive(Deserialize)]
struct Batch {
    ids: Vec<u32>,
    labels: Vec<i64>,
    shape: (usize, usize),
    #[serde(default)]
    segments: Vec<u32>,
    #[serde(default)]
    seen: Vec<bool>,
    #[serde(default)]
    next: Vec<i64>,
}

#[derive(Serialize)]
struct Answer {
    /// Of each batch, before training: token logits, then those of the sentence head.
    outputs: Vec<Vec<f32>>,
    losses: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let request: Request = serde_json::from_reader(io::stdin())?;
    let device = Cpu::default();
    let answer = match family_of(&request.checkpoint)?.as_str() {
        "gpt" => answer(load_model::<Cpu, Gpt<Cpu>>(&request.checkpoint, &device)?.0, &request, |batch| {
            CausalBatch { ids: batch.ids.clone(), labels: batch.labels.clone(), shape: batch.shape }
        })?,
        _ => answer(load_model::<Cpu, Bert<Cpu>>(&request.checkpoint, &device)?.0, &request, |batch| {
            MlmBatch {
                ids: batch.ids.clone(),
                segments: batch.segments.clone(),
                seen: batch.seen.clone(),
                labels: batch.labels.clone(),
                next: batch.next.clone(),
                shape: batch.shape,
            }
        })?,
    };
    serde_json::to_writer(io::stdout(), &answer)?;
    Ok(())
}

fn answer<M: Trainable<Cpu>>(
    mut model: M,
    request: &Request,
    host: impl Fn(&Batch) -> HostOf<Cpu, M>,
) -> Result<Answer, Box<dyn Error>> {
    let device = Cpu::default();
    let hosts: Vec<HostOf<Cpu, M>> = request.batches.iter().map(host).collect();
    let mut outputs = Vec::new();
    for host in &hosts {
        outputs.push(msg_tests::families::outputs(&model, host, &model.masks(0)?)?);
    }
    let config = AdamWConfig { weight_decay: request.weight_decay, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(&model, config)?;
    let mut losses = Vec::new();
    for step in 0..request.steps {
        let host = &hosts[step % hosts.len()];
        let masks = model.masks(step as u64 + 1)?;
        let grads = tape(&device, zero_grads(&model)?)?;
        let loss = msg_tests::families::loss(&model, host, &masks, grads)?;
        losses.push(loss.array());
        let mut grads = loss.backward();
        let update = Update { lr: request.lr, clip: None, new_factor: 1.0, new_since: u64::MAX };
        optimizer.apply(&mut model, &mut grads, None, update)?;
    }
    Ok(Answer { outputs, losses })
}
