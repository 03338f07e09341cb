//! The kernel against a twin that looks up every entry by its coordinates.

use super::*;
use crate::optim::{age_groups::EntryGroups, cpu::sum_of_squares};

/// What clipping makes of gradients here.
const GRAD_SCALE: f32 = 0.75;

/// Values in -1..1 from a counter, of many magnitudes: squares of small ones vanish beside large ones.
fn values(seed: u32, count: usize) -> Vec<f32> {
    let value = |at: usize| {
        let bits = (at as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        let bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
        let unit = f64::from(bits >> 8) / f64::from(1 << 23) - 1.0;
        (unit * 10f64.powi(-((bits & 7) as i32))) as f32
    };
    (0..count).map(value).collect()
}

/// `count` age groups with numbers that no two share.
fn age_groups(count: u32) -> Vec<AgeGroup> {
    let group = |at: u32| AgeGroup {
        lr: 1e-3 * (at + 1) as f32,
        step_size: 1e-2 * (at + 2) as f32,
        root_correction: 0.1 + 0.2 * at as f32,
    };
    (0..count).map(group).collect()
}

fn step<'a>(sizes: &'a [usize], units: &'a [Vec<u32>], groups: &'a [AgeGroup]) -> AdamStep<'a> {
    AdamStep {
        entries: EntryGroups { sizes, units },
        groups,
        first_share: 0.1,
        beta2: 0.99,
        second_share: 0.01,
        eps: 1e-8,
        weight_decay: 0.1,
    }
}

/// One entry after another, each with the latest age group of its coordinates.
fn naive(state: &mut [Vec<f32>; 3], grads: &[f32], step: &AdamStep<'_>) {
    let [p, m, v] = state;
    for at in 0..grads.len() {
        let (mut rest, mut latest) = (at, 0);
        for axis in (0..step.entries.sizes.len()).rev() {
            let unit = rest % step.entries.sizes[axis];
            rest /= step.entries.sizes[axis];
            latest = latest.max(*step.entries.units[axis].get(unit).unwrap_or(&0));
        }
        let group = step.groups[latest as usize];
        let g = grads[at] * GRAD_SCALE;
        p[at] = p[at] - p[at] * (group.lr * step.weight_decay);
        m[at] = m[at] + (g - m[at]) * step.first_share;
        v[at] = v[at] * step.beta2 + g * g * step.second_share;
        p[at] -= group.step_size * m[at] / (v[at].sqrt() / group.root_correction + step.eps);
    }
}

fn fast(state: &mut [Vec<f32>; 3], grads: &[f32], step: &AdamStep<'_>) {
    let [p, m, v] = state;
    adamw(p, grads, m, v, GRAD_SCALE, step);
}

/// Parameters, first and second moments, and a gradient.
fn case(count: usize) -> ([Vec<f32>; 3], Vec<f32>) {
    let second = values(3, count).into_iter().map(f32::abs).collect();
    ([values(1, count), values(2, count), second], values(4, count))
}

fn bits(state: &[Vec<f32>; 3]) -> Vec<u32> {
    state.iter().flatten().map(|x| x.to_bits()).collect()
}

/// `units[axis]`: old units are age group 0, then blocks of the given age groups of one or more units.
fn blocks(size: usize, late: &[u32]) -> Vec<u32> {
    let old = size - late.len() * (size / (late.len() + 1));
    (0..size).map(|at| if at < old { 0 } else { late[(at - old) * late.len() / (size - old)] }).collect()
}

#[test]
fn the_kernel_is_its_naive_twin_for_every_rank_and_any_age_groups() {
    let table = age_groups(4);
    let shapes: [&[usize]; 10] = [
        &[1],
        &[7],
        &[CHUNK + 1],
        &[3 * CHUNK - 5],
        &[5, 3],
        &[3, CHUNK + 3],
        &[1234, 37],
        &[11, 13, 257],
        &[2, 3, 5, 7],
        &[3, 17, 29, 31],
    ];
    for sizes in shapes {
        let count = sizes.iter().product();
        // Every combination of axes that grew, each axis at another boundary, the first of them twice.
        for grown in 0..1u32 << sizes.len() {
            let late: [&[u32]; 4] = [&[1, 3], &[2], &[3], &[1]];
            let list = |axis: usize| match grown >> axis & 1 {
                0 => Vec::new(),
                _ => blocks(sizes[axis], late[axis]),
            };
            let units: Vec<Vec<u32>> = (0..sizes.len()).map(list).collect();
            let step = step(sizes, &units, &table);
            let (mut want, grads) = case(count);
            let mut got = want.clone();
            for _ in 0..2 {
                naive(&mut want, &grads, &step);
                fast(&mut got, &grads, &step);
            }
            assert!(bits(&got) == bits(&want), "sizes {sizes:?}, grown axes {grown:04b}");
            assert!(got.iter().flatten().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn cohorts_that_alternate_from_unit_to_unit_are_kept_apart() {
    let table = age_groups(3);
    let sizes = [50, 400];
    let units = [(0..50).map(|at| at % 2).collect(), (0..400).map(|at| at * 7 % 3).collect::<Vec<u32>>()];
    let step = step(&sizes, &units, &table);
    let (mut want, grads) = case(50 * 400);
    let mut got = want.clone();
    naive(&mut want, &grads, &step);
    fast(&mut got, &grads, &step);
    assert!(bits(&got) == bits(&want));
}

#[test]
fn a_single_age_group_may_be_listed_or_left_out() {
    let table = age_groups(1);
    let sizes = [130, 1025];
    let (before, grads) = case(130 * 1025);
    let run = |units: [Vec<u32>; 2]| {
        let mut state = before.clone();
        fast(&mut state, &grads, &step(&sizes, &units, &table));
        bits(&state)
    };
    assert!(run([vec![], vec![]]) == run([vec![0; 130], vec![0; 1025]]));
}

#[test]
fn no_result_depends_on_the_number_of_threads() {
    let table = age_groups(4);
    let sizes = [9, 31, 333];
    let units = [blocks(9, &[1]), blocks(31, &[2, 3]), blocks(333, &[3])];
    let step = step(&sizes, &units, &table);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut state, grads) = case(9 * 31 * 333);
            fast(&mut state, &grads, &step);
            (bits(&state), sum_of_squares(&grads).to_bits())
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn a_zero_gradient_on_zero_moments_leaves_them_zero_and_only_decays() {
    let table = age_groups(1);
    let units = [vec![]];
    let mut state = [vec![2.0, -3.0, 0.0], vec![0.0; 3], vec![0.0; 3]];
    fast(&mut state, &[0.0; 3], &step(&[3], &units, &table));
    let decay = 1e-3_f32 * 0.1;
    assert_eq!(state, [vec![2.0 - 2.0 * decay, -3.0 + 3.0 * decay, 0.0], vec![0.0; 3], vec![0.0; 3]]);
}

#[test]
#[should_panic(expected = "age groups of an axis")]
fn a_list_of_age_groups_of_another_size_than_its_axis_is_refused() {
    let table = age_groups(2);
    let units = [vec![0, 1], vec![]];
    let (mut state, grads) = case(6);
    fast(&mut state, &grads, &step(&[3, 2], &units, &table));
}
