//! Growing one tensor of rank 1 to 4, run-time and const axes, against entry-by-entry loops.

use dfdx::{
    shapes::{Const, HasShape, Shape},
    tensor::Cpu,
};
use msg_core::{
    Result,
    axis::{AttnDim, Ffn, HeadDim, Heads, Hidden, HiddenOut, Qkv},
    growth::{AxisMap, Fill, GrowsTo, Growth, NewEntries, grow_tensor},
    params::Param,
    random::{Key, bits_at, normal},
};
use msg_tests::finite::tensor;

const FILLS: [Fill; 2] = [Fill::Constant(-2.5), Fill::Normal { std: 0.25 }];

fn key() -> Key {
    Key::new(3, "w", 2)
}

/// The definition: where every coordinate has a source, the old entry there; elsewhere the rule, drawn at
/// the right-aligned coordinates.
fn expected(old: &[f32], maps: &[AxisMap], fill: Fill) -> Vec<f32> {
    let count: usize = maps.iter().map(AxisMap::new_size).product();
    let entry = |mut at: usize| {
        let (mut coordinates, mut place, mut stride) = ([0; 4], Some(0), 1);
        for (axis, map) in maps.iter().enumerate().rev() {
            let unit = at % map.new_size();
            at /= map.new_size();
            coordinates[4 - maps.len() + axis] = unit as u32;
            place = place.zip(map.source_of(unit)).map(|(place, from)| place + from * stride);
            stride *= map.old_size();
        }
        match (place, fill) {
            (Some(place), _) => old[place],
            (None, Fill::Constant(value)) => value,
            (None, Fill::Normal { std }) => normal(bits_at(key(), coordinates)) * std,
        }
    };
    (0..count).map(entry).collect()
}

/// Grows a random tensor under every fill rule and compares all entries with the definition.
fn assert_grows<S: GrowsTo<To>, To: Shape>(shape: S, growth: &Growth, grown: To) -> Result<()> {
    let old: Param<S, Cpu> = tensor("old", shape);
    let maps = shape.axis_maps(growth)?;
    for fill in FILLS {
        let new: Param<To, Cpu> = grow_tensor(&old, growth, NewEntries { key: key(), fill })?;
        assert_eq!(new.shape(), &grown);
        assert_eq!(new.as_vec(), expected(&old.as_vec(), &maps, fill));
    }
    Ok(())
}

/// Every kind of map at once: fresh units, copies, a chosen source, none.
fn growth() -> Result<Growth> {
    Ok(Growth::new(3, 2)
        .with_axis(AxisMap::append("Hidden", 5, 7)?)
        .with_axis(AxisMap::copies("Ffn", 3, 8)?)
        .with_axis(AxisMap::with_sources("Heads", 2, 4, |unit| (unit == 2).then_some(1))?))
}

#[test]
fn tensors_of_every_rank_grow_along_the_axes_of_their_type() -> Result<()> {
    let growth = growth()?;
    assert_grows((Hidden(5),), &growth, (Hidden(7),))?;
    assert_grows((Ffn(3), Hidden(5)), &growth, (Ffn(8), Hidden(7)))?;
    assert_grows((Hidden(5), Ffn(3)), &growth, (Hidden(7), Ffn(8)))?;
    assert_grows((Qkv(3), Heads(2), Hidden(5)), &growth, (Qkv(3), Heads(4), Hidden(7)))?;
    let (old, new) = ((Qkv(3), Heads(2), HeadDim(2), Hidden(5)), (Qkv(3), Heads(4), HeadDim(2), Hidden(7)));
    assert_grows(old, &growth, new)
}

#[test]
fn a_second_role_grows_with_its_axis_and_other_axes_stay() -> Result<()> {
    assert_grows((HiddenOut(5), Hidden(5)), &growth()?, (HiddenOut(7), Hidden(7)))?;
    assert_grows((AttnDim(6),), &growth()?, (AttnDim(6),))
}

#[test]
fn const_axes_of_every_rank_grow_by_the_same_functions() -> Result<()> {
    let growth = growth()?;
    assert_grows((Const::<3>,), &growth, (Const::<5>,))?;
    assert_grows((Const::<3>, Const::<4>), &growth, (Const::<3>, Const::<6>))?;
    assert_grows((Const::<2>, Const::<3>, Const::<4>), &growth, (Const::<3>, Const::<5>, Const::<4>))?;
    let old = (Const::<2>, Const::<1>, Const::<3>, Const::<2>);
    assert_grows(old, &growth, (Const::<4>, Const::<3>, Const::<3>, Const::<5>))
}

#[test]
fn const_and_named_axes_grow_side_by_side() -> Result<()> {
    assert_grows((Const::<2>, Hidden(5)), &growth()?, (Const::<3>, Hidden(7)))?;
    assert_grows((Ffn(3), Const::<4>, Hidden(5)), &growth()?, (Ffn(8), Const::<4>, Hidden(7)))
}

#[test]
fn new_entries_depend_on_their_key_and_place_alone() -> Result<()> {
    let new = |name: &str, to: usize| -> Result<Vec<f32>> {
        let growth = Growth::new(0, 1).with_axis(AxisMap::append("Ffn", 2, to)?);
        let fill = NewEntries { key: Key::new(1, name, 1), fill: Fill::Normal { std: 1.0 } };
        let w: Param<(Ffn, Hidden), Cpu> = grow_tensor(&tensor("old", (Ffn(2), Hidden(3))), &growth, fill)?;
        Ok(w.as_vec())
    };
    // Growing further at once draws the same for the units that both have.
    assert_eq!(new("w", 5)?, new("w", 9)?[..15]);
    assert_ne!(new("w", 5)?, new("v", 5)?);
    Ok(())
}
