//! Old and new entries of a grown module: which is which, and overwriting the new ones.

use dfdx::shapes::HasShape;
use msg_core::{
    Backend, Result,
    axis::NamedShape,
    error::Context,
    growth::{AxisMap, Growth, GrowthContext, LayerSource},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
};

/// For every entry of a grown tensor, row-major, the place of the old entry that it is, or none.
pub fn places(maps: &[AxisMap]) -> Vec<Option<usize>> {
    let count: usize = maps.iter().map(AxisMap::new_size).product();
    let old_place = |mut entry: usize| {
        let mut coordinates: Vec<usize> = maps
            .iter()
            .rev()
            .map(|map| {
                let at = entry % map.new_size();
                entry /= map.new_size();
                at
            })
            .collect();
        coordinates.reverse();
        coordinates
            .iter()
            .zip(maps)
            .try_fold(0, |place, (&at, map)| map.is_old(at).then_some(place * map.old_size() + at))
    };
    (0..count).map(old_place).collect()
}

/// What a walk over old and new entries found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Tensors walked.
    pub tensors: usize,
    /// Entries that are old ones, found bit-identical.
    pub inherited: usize,
    /// Entries that are old ones, found changed.
    pub changed: usize,
    /// New entries.
    pub new: usize,
}

struct Entries<'a, D: Backend, F> {
    context: GrowthContext<'a, D>,
    census: Census,
    overwrite: F,
}

impl<D: Backend, F: FnMut(&ParamName, usize) -> Option<f32>> Visitor<D> for Entries<'_, D, F> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
        let (source, old_name) = self.context.source(name);
        let old = self.context.old.get::<S>("census", &old_name)?;
        let maps = self.context.growth.axis_maps(old.shape())?;
        assert_eq!(
            maps.iter().map(AxisMap::new_size).collect::<Vec<_>>(),
            tensor.shape().concrete().into_iter().collect::<Vec<_>>(),
            "{name}"
        );
        let places = match source {
            LayerSource::Same(_) => places(&maps),
            LayerSource::Copy(_) | LayerSource::Fresh => vec![None; tensor.shape().num_elements()],
        };
        let (old, mut values) = (old.as_vec(), tensor.as_vec());
        self.census.tensors += 1;
        for (entry, (place, value)) in places.iter().zip(&mut values).enumerate() {
            match place {
                Some(place) if old[*place].to_bits() == value.to_bits() => self.census.inherited += 1,
                Some(_) => self.census.changed += 1,
                None => {
                    self.census.new += 1;
                    if let Some(new) = (self.overwrite)(name, entry) {
                        *value = new;
                    }
                }
            }
        }
        let shape = *tensor.shape();
        *tensor = tensor.device().try_tensor_from_vec(values, shape).during("census")?;
        Ok(())
    }
}

/// Compares every old entry of `grown` with its place in `old`, and overwrites the new ones with what
/// `overwrite` gives for their parameter and row-major place.
pub fn visit_entries<D: Backend, M: Module<D>>(
    old: &TensorMap<D>,
    grown: &mut M,
    growth: &Growth,
    overwrite: impl FnMut(&ParamName, usize) -> Option<f32>,
) -> Result<Census> {
    let context = GrowthContext { growth, old };
    let mut visitor = Entries { context, census: Census::default(), overwrite };
    grown.walk(&ParamName::root(), &mut visitor)?;
    Ok(visitor.census)
}
