//! The random numbers: known answers, distribution, and the fast row fillers against the definition.

use super::*;

fn key(lo: u32, hi: u32) -> Key {
    Key { lo, hi }
}

#[test]
fn philox_matches_the_published_vectors() {
    assert_eq!(philox4x32([0; 4], key(0, 0)), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(
        philox4x32([u32::MAX; 4], key(u32::MAX, u32::MAX)),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    assert_eq!(
        philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], key(0xa409_3822, 0x299f_31d0)),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

#[test]
fn bits_follow_the_coordinates() {
    let k = Key::new(1, "w", 2);
    for j in 0..9 {
        let block = philox4x32([3, 4, 5, j / 4], k);
        assert_eq!(bits_at(k, [3, 4, 5, j]), block[j as usize % 4]);
    }
}

#[test]
fn keys_depend_on_all_parts_and_stay_stable() {
    let base = Key::new(1, "layer.weight", 2);
    assert_ne!(base, Key::new(0, "layer.weight", 2));
    assert_ne!(base, Key::new(1, "layer.weighs", 2));
    assert_ne!(base, Key::new(1, "layer.weight", 3));
    // FNV-1a's published value for "foobar", and fixed results of the whole chain.
    assert_eq!(fnv1a(FNV_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
    // First two outputs of splitmix64 seeded with 0.
    assert_eq!(splitmix64_finish(0x9E37_79B9_7F4A_7C15), 0xE220_A839_7B1D_CDAF);
    assert_eq!(base, key(0xb0ff_f841, 0x7fbb_fe57));
}

#[test]
fn uniform_is_open_and_symmetric() {
    assert_eq!(uniform(0), TWO_POW_M24);
    assert_eq!(uniform(u32::MAX), 1.0 - TWO_POW_M24);
    for i in 0..10_000_u32 {
        let bits = i.wrapping_mul(0x9E37_79B9);
        let u = uniform(bits);
        assert!(u > 0.0 && u < 1.0);
        assert_eq!(uniform(!bits), 1.0 - u);
    }
}

/// Upper tail probability of the standard normal by the continued fraction of Mills' ratio,
/// for `z >= 2`.
fn tail_far(z: f64) -> f64 {
    let mut fraction = z;
    for k in (1..400).rev() {
        fraction = z + f64::from(k) / fraction;
    }
    density(z) / fraction
}

/// Probability between 0 and `z` by the power series `phi(z) sum z^(2k+1) / (2k+1)!!`.
fn centre(z: f64) -> f64 {
    let (mut term, mut sum) = (z, z);
    for k in 1..80 {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    density(z) * sum
}

fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Relative error of `z` as quantile for the cell of `bits`: one Newton step in f64 from `z`,
/// whose own error is of second order and so negligible here.
fn relative_error(bits: u32) -> f64 {
    let z = f64::from(normal(bits).abs());
    let folded = if bits >> 31 == 0 { bits } else { !bits };
    let half = f64::from(folded) + 0.5;
    let two31 = f64::from(1_u32 << 31);
    let miss =
        if z < 2.5 { centre(z) - half / two31 / 2.0 } else { (two31 - half) / two31 / 2.0 - tail_far(z) };
    miss / density(z) / z
}

#[test]
fn normal_is_an_accurate_quantile() {
    let mut worst = (0.0_f64, 0);
    let mut check = |bits: u32| {
        assert_eq!(normal(!bits), -normal(bits));
        let error = relative_error(bits).abs();
        if error > worst.0 {
            worst = (error, bits);
        }
    };
    for i in 0..100_000_u32 {
        check(i.wrapping_mul(0x9E37_79B9)); // Weyl sequence: even cover of all words
    }
    for i in 0..3_000 {
        check(i); // centre
        check((i32::MAX as u32) - i); // tail
    }
    for shift in 0..31 {
        for i in 0..200 {
            check((i32::MAX as u32) - ((1 << shift) + (i << shift >> 8)) % (1 << 31));
            check(((1 << shift) + (i << shift >> 8)) % (1 << 31));
        }
    }
    println!("worst relative error {:.3e} at {:#010x}", worst.0, worst.1);
    assert!(worst.0 < 6e-7);
}

/// Bits that every other implementation has to reproduce.
#[test]
fn fixed_values_stay() {
    for (word, expected) in [
        (0x0000_0000, 0x2fa0_6c98),
        (0x0000_0001, 0x3070_a2e4),
        (0x1234_5678, 0x3e37_812c),
        (0x4000_0000, 0x3f2c_ab5a),
        (0x7f00_0000, 0x402a_3e8b),
        (0x7fff_ffff, 0x40ca_d08e),
        (0x8000_0000, 0xc0ca_d08e),
    ] {
        assert_eq!(normal(word).to_bits(), expected, "normal({word:#x})");
    }
    assert_eq!(uniform(0x1234_5678).to_bits(), 0x3d91_a2b8);
    assert_eq!(bits_at(Key::new(1, "layer.weight", 2), [1, 2, 3, 5]), 0xe0de_ed6b);
}

#[test]
fn largest_normal() {
    let largest = normal(i32::MAX as u32);
    println!("largest {largest}");
    assert!((largest - 6.337_96).abs() < 1e-4);
    assert!(normal(0) > 0.0 && normal(u32::MAX) < 0.0);
}

#[test]
fn moments_of_a_million_draws() {
    let mut draws = vec![0.0; 1 << 20];
    fill_normal(Key::new(7, "moments", 0), [0; 3], 0, 1.0, &mut draws);
    let n = draws.len() as f64;
    let mean = draws.iter().map(|&z| f64::from(z)).sum::<f64>() / n;
    let moment = |p| draws.iter().map(|&z| (f64::from(z) - mean).powi(p)).sum::<f64>() / n;
    let variance = moment(2);
    let skew = moment(3) / variance.powf(1.5);
    let kurtosis = moment(4) / (variance * variance);
    println!("mean {mean} variance {variance} skew {skew} kurtosis {kurtosis}");
    // Four standard errors each.
    assert!(mean.abs() < 4.0 / n.sqrt());
    assert!((variance - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
    assert!(skew.abs() < 4.0 * (6.0 / n).sqrt());
    assert!((kurtosis - 3.0).abs() < 4.0 * (24.0 / n).sqrt());
}

/// Rows of many lengths and offsets, also at the end of the range of coordinates.
fn rows() -> impl Iterator<Item = (u32, usize)> {
    let lengths = [0, 1, 3, 8, 9, 63, 64, 65, 130, 256, 300, 601];
    let firsts = [0, 1, 5, 60, 63, 64, 127, 1000, u32::MAX - 600];
    firsts.into_iter().flat_map(move |first| lengths.into_iter().map(move |len| (first, len)))
}

#[test]
fn fillers_equal_the_scalar_functions() {
    let k = Key::new(3, "rows", 1);
    for (first, len) in rows() {
        let mut bits = vec![0; len];
        let mut uniforms = vec![0.0; len];
        let mut normals = vec![0.0; len];
        fill_bits(k, [1, 2, 3], first, &mut bits);
        fill_uniform(k, [1, 2, 3], first, &mut uniforms);
        fill_normal(k, [1, 2, 3], first, 0.02, &mut normals);
        for i in 0..len {
            let word = bits_at(k, [1, 2, 3, first + i as u32]);
            assert_eq!(bits[i], word);
            assert_eq!(uniforms[i].to_bits(), uniform(word).to_bits());
            assert_eq!(normals[i].to_bits(), (normal(word) * 0.02).to_bits());
        }
    }
}

/// What `fill_normal` does at coordinates (7, 8, 9, 42..), left to an instruction set.
fn row_at_42(key: Key, out: &mut [f32]) -> FillFrom<'_, NormalDraw> {
    let row = RowFill { key, outer: [7, 8, 9], block: 10, out, draw: NormalDraw { std: 1.5 } };
    FillFrom { row, skip: 2 }
}

#[test]
fn instruction_sets_agree() {
    let k = Key::new(4, "instruction sets", 0);
    let mut expected = vec![0.0; 999];
    fill_normal(k, [7, 8, 9], 42, 1.5, &mut expected);
    let mut out = vec![0.0; 999];
    Simd::vectorize(pulp::Scalar, row_at_42(k, &mut out));
    assert!(out == expected);
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = pulp::x86::V3::try_new() {
        out.fill(0.0);
        Simd::vectorize(avx2, row_at_42(k, &mut out));
        assert!(out == expected);
    }
}

#[test]
#[should_panic(expected = "32 bits")]
fn coordinates_are_checked() {
    fill_bits(key(0, 0), [0; 3], u32::MAX, &mut [0; 2]);
}
