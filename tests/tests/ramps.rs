//! Ramps as pure functions of the step, and the orders of axis and depth maps.

use dfdx::tensor::Cpu;
use msg_core::{
    Result,
    axis::{AttnDim, Ffn, Heads, Hidden, HiddenOut},
    growth::{AxisMap, DepthMap, FRESH, Growth, LayerSource, Ramp, Ramps},
    mask::{Gate, Mask},
};

fn append(axis: &'static str, old: usize, new: usize) -> Result<Growth> {
    Ok(Growth::new(0, 1).with_axis(AxisMap::append(axis, old, new)?))
}

/// The values of an axis, which must be on a ramp.
fn values(ramps: &Ramps, units: usize, step: u64) -> Result<Vec<f32>> {
    Ok(ramps.values(&Hidden(units), step)?.unwrap_or_default())
}

#[test]
fn the_value_of_a_ramp_depends_on_the_step_alone() {
    let ramp = Ramp { start: 100, length: 7 };
    // Any order of asking, and steps before the growth, which a resumed run may ask for.
    let asked = [103, 100, 107, 99, 0, 104, 1_000_000, 103];
    let expected = [3.0 / 7.0, 0.0, 1.0, 0.0, 0.0, 4.0 / 7.0, 1.0, 3.0 / 7.0];
    assert_eq!(asked.map(|step| ramp.value(step)), expected);
    for step in 100..107 {
        assert!(ramp.value(step) < ramp.value(step + 1));
        assert_eq!(ramp.is_over(step), ramp.value(step) == 1.0, "{step}");
    }
}

#[test]
fn a_ramp_longer_than_single_precision_counts_reaches_one_only_at_its_end() {
    let ramp = Ramp { start: 5, length: 1 << 40 };
    assert!(ramp.value(6) > 0.0 && ramp.value(4 + (1 << 40)) <= 1.0);
    assert!(!ramp.is_over(4 + (1 << 40)) && ramp.is_over(5 + (1 << 40)));
}

#[test]
fn a_ramp_of_length_zero_is_closed_at_the_growth_and_open_from_the_first_step() {
    let ramp = Ramp { start: 9, length: 0 };
    assert_eq!([8, 9, 10, 11].map(|step| ramp.value(step)), [0.0, 0.0, 1.0, 1.0]);
    assert!(ramp.is_over(9));
}

#[test]
fn three_growths_of_one_axis_give_each_unit_its_own_ramp() -> Result<()> {
    let mut ramps = Ramps::default();
    for (start, length, old, new) in [(0, 8, 2, 3), (4, 8, 3, 5), (6, 2, 5, 6)] {
        ramps.grow(&append("Hidden", old, new)?, Ramp { start, length });
    }
    assert_eq!(values(&ramps, 6, 6)?, [1.0, 1.0, 0.75, 0.25, 0.25, 0.0]);
    assert_eq!(values(&ramps, 6, 7)?, [1.0, 1.0, 0.875, 0.375, 0.375, 0.5]);
    // The last one ends first.
    assert!(ramps.retire(8));
    assert_eq!(values(&ramps, 6, 9)?, [1.0, 1.0, 1.0, 0.625, 0.625, 1.0]);
    assert!(!ramps.retire(11) && ramps.retire(12) && ramps.is_empty());
    assert_eq!(ramps.values(&Hidden(6), 13)?, None);
    Ok(())
}

#[test]
fn axes_and_layers_ramp_side_by_side_and_share_no_book() -> Result<()> {
    let mut ramps = Ramps::default();
    let all = append("Hidden", 1, 2)?
        .with_axis(AxisMap::append("Ffn", 2, 4)?)
        .with_axis(AxisMap::identity("Heads", 3))
        .with_depth(DepthMap::interpolate(2, 3)?);
    ramps.grow(&all, Ramp { start: 0, length: 4 });
    ramps.grow(&append("Ffn", 4, 5)?, Ramp { start: 2, length: 4 });
    assert_eq!(ramps.values(&Hidden(2), 3)?, Some(vec![1.0, 0.75]));
    assert_eq!(ramps.values(&Ffn(5), 3)?, Some(vec![1.0, 1.0, 0.75, 0.75, 0.25]));
    // The second role of an axis follows it; what did not grow has no mask.
    assert_eq!(ramps.values(&HiddenOut(2), 3)?, Some(vec![1.0, 0.75]));
    assert_eq!((ramps.values(&Heads(3), 3)?, ramps.values(&AttnDim(9), 3)?), (None, None));
    // Each old layer is followed by its copy, which is new.
    assert_eq!([0, 1, 2, 7].map(|layer| ramps.gate(layer, 3).value()), [1.0, 0.75, 1.0, 1.0]);
    assert!(ramps.retire(4) && !ramps.is_empty());
    assert_eq!((ramps.values(&Hidden(2), 5)?, ramps.gate(1, 5)), (None, Gate::OPEN));
    assert!(ramps.retire(6) && ramps.is_empty());
    Ok(())
}

#[test]
fn layers_that_grow_twice_keep_their_first_ramp() -> Result<()> {
    let mut ramps = Ramps::default();
    let depth = |map| Growth::new(0, 1).with_depth(map);
    ramps.grow(&depth(DepthMap::stack(1, 2)?), Ramp { start: 0, length: 10 });
    ramps.grow(&depth(DepthMap::interpolate(2, 4)?), Ramp { start: 4, length: 10 });
    assert_eq!([0, 1, 2, 3].map(|layer| ramps.gate(layer, 5).value()), [1.0, 0.1, 0.5, 0.1]);
    Ok(())
}

#[test]
fn the_mask_is_dropped_when_all_units_are_at_one_and_kept_for_the_receipt() -> Result<()> {
    let mut ramps = Ramps::default();
    ramps.grow(&append("Hidden", 2, 3)?, Ramp { start: 0, length: 4 });
    let (device, axis) = (Cpu::default(), Hidden(3));
    let of = |mask: Mask<Hidden, f32, Cpu>| mask.values().map(|values| values.as_vec());
    assert_eq!(of(ramps.mask(&device, axis, 2)?), Some(vec![1.0, 1.0, 0.5]));
    assert_eq!(of(ramps.mask(&device, axis, 4)?), None);
    assert_eq!(of(ramps.mask_kept(&device, axis, 4)?), Some(vec![1.0; 3]));
    assert!(ramps.retire(4));
    assert_eq!(of(ramps.mask_kept(&device, axis, 5)?), None);
    Ok(())
}

#[test]
fn ramps_come_back_from_a_file_as_they_were() -> Result<()> {
    let mut ramps = Ramps::default();
    ramps.grow(&append("Hidden", 2, 4)?, Ramp { start: 3, length: 100 });
    let deeper = append("Ffn", 1, 2)?.with_depth(DepthMap::fresh(1, 3)?);
    ramps.grow(&deeper, Ramp { start: 50, length: u64::MAX });
    for ramps in [ramps, Ramps::default()] {
        let text = serde_json::to_string(&ramps).expect("plain data");
        assert_eq!(serde_json::from_str::<Ramps>(&text).expect("what was written"), ramps);
    }
    Ok(())
}

#[test]
fn axis_maps_keep_old_units_in_front_and_say_where_new_ones_come_from() -> Result<()> {
    let appended = AxisMap::append("Ffn", 2, 4)?;
    assert_eq!(appended.sources(), [0, 1, FRESH, FRESH]);
    let copied = AxisMap::copies("Ffn", 3, 8)?;
    assert_eq!(copied.sources(), [0, 1, 2, 0, 1, 2, 0, 1]);
    let picked = AxisMap::with_sources("Heads", 2, 4, |unit| (unit == 3).then_some(1))?;
    assert_eq!(picked.sources(), [0, 1, FRESH, 1]);
    // A new head brings all its units, in their order.
    let inner = picked.widened("Inner", 3)?;
    assert_eq!(inner.sources(), [0, 1, 2, 3, 4, 5, FRESH, FRESH, FRESH, 3, 4, 5]);
    assert_eq!((inner.axis(), inner.old_size(), inner.new_size()), ("Inner", 6, 12));
    assert!(inner.is_old(5) && !inner.is_old(9));
    assert_eq!((inner.source_of(4), inner.source_of(7), inner.source_of(10)), (Some(4), None, Some(4)));
    assert_eq!(picked.carry(&["a", "b"], "new"), ["a", "b", "new", "new"]);
    assert!(!AxisMap::identity("Ffn", 3).grows() && !AxisMap::append("Ffn", 3, 3)?.grows());
    Ok(())
}

#[test]
fn depth_maps_have_the_orders_that_they_are_named_for() -> Result<()> {
    use LayerSource::{Copy, Fresh, Same};
    let stacked = DepthMap::stack(2, 5)?;
    assert_eq!(stacked.layers(), [Same(0), Same(1), Copy(0), Copy(1), Copy(0)]);
    let between = DepthMap::interpolate(2, 5)?;
    assert_eq!(between.layers(), [Same(0), Copy(0), Copy(0), Same(1), Copy(1)]);
    let fresh = DepthMap::fresh(2, 4)?;
    assert_eq!(fresh.layers(), [Same(0), Same(1), Fresh, Fresh]);
    // What carries over: names of layers, and one value a layer.
    assert_eq!(between.arrange(&["a", "b"])?, ["a", "a", "a", "b", "b"]);
    assert_eq!(between.carry(&[1, 2], 0), [1, 0, 0, 2, 0]);
    assert_eq!(fresh.arrange(&["a", "b"])?, ["a", "b", "a", "a"]);
    for same in [DepthMap::identity(3), DepthMap::stack(3, 3)?, DepthMap::interpolate(3, 3)?] {
        assert_eq!((same.layers(), same.grows()), (&[Same(0), Same(1), Same(2)][..], false));
    }
    Ok(())
}
