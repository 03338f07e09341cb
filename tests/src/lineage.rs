//! A run that grows, beside runs that do not: which entry of the first must move as which of the others.

use crate::{
    entries::places,
    toy::{Toy, Values, draw, gradients, moments, parameters},
};
use dfdx::{
    shapes::HasShape,
    tensor::{Cpu, Gradients},
};
use msg_core::{
    Result,
    axis::NamedShape,
    growth::{AxisMap, DepthMap, Growth, GrowthContext, LayerSource, Masked, grow},
    optim::{AdamW, AdamWConfig, StatePolicy, Update},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
};
use std::collections::BTreeMap;

/// A toy and its optimizer.
#[derive(Debug)]
pub struct Run {
    /// The parameters.
    pub toy: Toy<Cpu>,
    /// Their optimizer.
    pub optimizer: AdamW<Cpu>,
}

impl Run {
    /// Parameters and both moments.
    ///
    /// # Errors
    /// Where the optimizer is not the toy's.
    pub fn values(&self) -> Result<[Values; 3]> {
        let [first, second] = moments(&self.toy, &self.optimizer)?;
        Ok([parameters(&self.toy)?, first, second])
    }
}

/// A run that never grows and does what some entries of the growing one must do.
#[derive(Debug)]
pub struct Twin {
    run: Run,
    /// When the entries that it stands for were born, in updates of the growing run.
    pub born: u64,
    /// From when on their age counts.
    pub start: u64,
}

/// Where an entry of the growing run has its like.
#[derive(Clone, Debug)]
struct Origin {
    twin: usize,
    name: String,
    place: usize,
}

/// The growing run and its twins.
#[derive(Debug)]
pub struct Lineage {
    config: AdamWConfig,
    /// The run that grows.
    pub grown: Run,
    twins: Vec<Twin>,
    origins: BTreeMap<String, Vec<Origin>>,
    /// From when on the oldest entries of each tensor count.
    starts: BTreeMap<String, u64>,
    steps: u64,
}

/// What a growth makes of one tensor: its old name, whether its layer is an old one, old entries' places.
struct Parentage {
    old_name: String,
    same: bool,
    places: Vec<Option<usize>>,
}

/// Reads the parentage of every tensor off a growth.
fn parentage(old: &TensorMap<Cpu>, grown: &Toy<Cpu>, growth: &Growth) -> Result<BTreeMap<String, Parentage>> {
    struct Read<'a>(GrowthContext<'a, Cpu>, BTreeMap<String, Parentage>);
    impl Visitor<Cpu> for Read<'_> {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, Cpu>) -> Result<()> {
            let (source, old_name) = self.0.source(name);
            let same = matches!(source, LayerSource::Same(_));
            let places = if same {
                let old = self.0.old.get::<S>("lineage", &old_name)?;
                places(&self.0.growth.axis_maps(old.shape())?)
            } else {
                vec![None; t.shape().num_elements()]
            };
            let old_name = old_name.to_string();
            self.1.insert(name.to_string(), Parentage { old_name, same, places });
            Ok(())
        }
    }
    let mut read = Read(GrowthContext { growth, old }, BTreeMap::new());
    grown.inspect(&mut read).map(|()| read.1)
}

impl Lineage {
    /// A run from a toy, and one twin that stays as it is.
    ///
    /// # Errors
    /// Where the configuration is refused.
    pub fn new(toy: &Toy<Cpu>, config: AdamWConfig) -> Result<Self> {
        let run = || -> Result<Run> { Ok(Run { toy: toy.clone(), optimizer: AdamW::new(toy, config)? }) };
        let parameters = parameters(toy)?;
        let itself = |(name, values): (&String, &Vec<f32>)| {
            let origin = |place| Origin { twin: 0, name: name.clone(), place };
            (name.clone(), (0..values.len()).map(origin).collect())
        };
        Ok(Lineage {
            config,
            grown: run()?,
            twins: vec![Twin { run: run()?, born: 0, start: 0 }],
            origins: parameters.iter().map(itself).collect(),
            starts: parameters.keys().map(|name| (name.clone(), 0)).collect(),
            steps: 0,
        })
    }

    /// Grows the run. Entries that are new, or all of them at a reset, get twins that start as an
    /// optimizer does, aged by zero gradients where they are to be older than that.
    ///
    /// # Errors
    /// Where the growth does not fit.
    pub fn grow(&mut self, growth: &Growth, policy: StatePolicy) -> Result<()> {
        let now = self.grown.optimizer.applied();
        let old = self.grown.toy.tensors();
        let toy = grow(&self.grown.toy, growth, &Masked::default())?;
        let optimizer = self.grown.optimizer.grown(&toy, growth, policy)?;
        self.grown = Run { toy, optimizer };
        // The new twins of this boundary, by when their entries were born and count from.
        let mut twins: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        let (mut origins, mut starts) = (BTreeMap::new(), BTreeMap::new());
        for (name, parentage) in parentage(&old, &self.grown.toy, growth)? {
            let start = match policy {
                StatePolicy::Reset => now,
                _ if !parentage.same => now,
                _ => self.starts[&parentage.old_name],
            };
            starts.insert(name.clone(), start);
            let mut of_tensor = Vec::new();
            for (place, &from) in parentage.places.iter().enumerate() {
                let before = from.map(|from| &self.origins[&parentage.old_name][from]);
                let (born, start) = match (policy, before) {
                    (StatePolicy::Age | StatePolicy::Inherit, Some(before)) => {
                        of_tensor.push(before.clone());
                        continue;
                    }
                    (StatePolicy::Reset, Some(before)) => (self.twins[before.twin].born, now),
                    (StatePolicy::Inherit, None) => (now, start),
                    (StatePolicy::Age | StatePolicy::Reset, None) => (now, now),
                };
                let twin = match twins.get(&(born, start)) {
                    Some(&twin) => twin,
                    None => self.add_twin(born, start, now)?,
                };
                twins.insert((born, start), twin);
                of_tensor.push(Origin { twin, name: name.clone(), place });
            }
            origins.insert(name, of_tensor);
        }
        (self.origins, self.starts) = (origins, starts);
        Ok(())
    }

    /// A twin of the run in its present state, without moments, that has made the updates since `start`.
    fn add_twin(&mut self, born: u64, start: u64, now: u64) -> Result<usize> {
        let toy = self.grown.toy.clone();
        let mut optimizer = AdamW::new(&toy, self.config)?;
        // Decays, so what it works on is thrown away; without gradients, so moments stay zero.
        let mut scratch = toy.clone();
        for _ in start..now {
            optimizer.step(&mut scratch, &mut Gradients::leaky(), Update::at(1e-3))?;
        }
        self.twins.push(Twin { run: Run { toy, optimizer }, born, start });
        Ok(self.twins.len() - 1)
    }

    /// One update of all runs with the same gradient for entries that are alike. A twin whose entries
    /// were born at `update.new_since` has the factor in its rate.
    ///
    /// # Errors
    /// Where an optimizer refuses.
    pub fn step(&mut self, update: Update) -> Result<()> {
        self.steps += 1;
        let value = |name: &str, place: usize| draw(self.steps, name, place);
        // What no entry of the growing run corresponds to may have any gradient.
        let mut of_twins: Vec<Values> = Vec::new();
        for twin in &self.twins {
            let shapes = parameters(&twin.run.toy)?;
            of_twins.push(shapes.into_iter().map(|(name, values)| (name, vec![0.5; values.len()])).collect());
        }
        for (name, origins) in &self.origins {
            for (place, origin) in origins.iter().enumerate() {
                if let Some(grads) = of_twins[origin.twin].get_mut(&origin.name) {
                    grads[origin.place] = value(name, place);
                }
            }
        }
        let Run { toy, optimizer } = &mut self.grown;
        let mut grads = gradients(toy, value)?;
        optimizer.step(toy, &mut grads, update)?;
        for (twin, values) in self.twins.iter_mut().zip(of_twins) {
            let factor = if twin.born == update.new_since { update.new_factor } else { 1.0 };
            let Run { toy, optimizer } = &mut twin.run;
            let mut grads = gradients(toy, |name, place| values[name][place])?;
            optimizer.step(toy, &mut grads, Update::at(update.lr * factor))?;
        }
        Ok(())
    }

    /// For every twin, when its entries were born and count from, and how many entries of the growing run
    /// have the same bits as theirs in parameter and moments.
    ///
    /// # Errors
    /// The first entry that differs, in words.
    pub fn compare(&self) -> std::result::Result<Vec<(u64, u64, usize)>, String> {
        let read = |run: &Run| run.values().map_err(|error| error.to_string());
        let grown = read(&self.grown)?;
        let twins =
            self.twins.iter().map(|twin| read(&twin.run)).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut alike: Vec<_> = self.twins.iter().map(|twin| (twin.born, twin.start, 0)).collect();
        for (name, origins) in &self.origins {
            for (place, origin) in origins.iter().enumerate() {
                for (what, (grown, twin)) in ["parameter", "first moment", "second moment"]
                    .iter()
                    .zip(grown.iter().zip(&twins[origin.twin]))
                {
                    let (got, want) = (grown[name][place], twin[&origin.name][origin.place]);
                    if got.to_bits() != want.to_bits() {
                        let Twin { born, start, .. } = self.twins[origin.twin];
                        return Err(format!(
                            "{name}[{place}] (born {born}, counts from {start}), {what}: {got:e}, its twin {want:e}"
                        ));
                    }
                }
                alike[origin.twin].2 += 1;
            }
        }
        Ok(alike)
    }
}

/// A growth of the toy: sizes after, and whether new units and layers copy.
///
/// # Errors
/// Where an axis would shrink.
pub fn growth_to(
    toy: &Toy<Cpu>,
    number: u64,
    [entries, width, inside, layers]: [usize; 4],
    copy: bool,
) -> Result<Growth> {
    let map = if copy { AxisMap::copies } else { AxisMap::append };
    let (old_entries, old_width) = *toy.table.shape();
    let old_inside = toy.blocks[0].bias.shape().0;
    let old_layers = toy.blocks.len();
    let depth = if copy { DepthMap::interpolate } else { DepthMap::fresh };
    Ok(Growth::new(3, number)
        .with_axis(map("Entries", old_entries.0, entries)?)
        .with_axis(map("Width", old_width.0, width)?)
        .with_axis(map("Inside", old_inside.0, inside)?)
        .with_depth(depth(old_layers, layers)?))
}
