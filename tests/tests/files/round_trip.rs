//! What is written is read to the bit.

use super::*;

#[test]
fn a_saved_module_comes_back_to_the_bit_and_the_given_one_stays_as_it_was() {
    let (_folder, path) = place();
    let (saved, other) = (Tiny::new(1), Tiny::new(2));
    let before = bits(&other);
    assert_ne!(bits(&saved), before);
    save(&saved, &NAMES, &notes(&[]), &path).unwrap();
    let loaded = read(&other, &path, &NAMES).unwrap();
    assert_eq!(bits(&loaded), bits(&saved));
    assert_eq!(bits(&other), before);
}

#[test]
fn extreme_values_come_back_to_the_bit() {
    const VALUES: [f32; 6] = [-0.0, f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::EPSILON, f32::from_bits(1)];
    let (_folder, path) = place();
    let mut saved = Tiny::new(1);
    for at in 0..each(&mut saved).len() {
        overwrite(&mut saved, at, |i, _| VALUES[i % VALUES.len()]);
    }
    save(&saved, &NAMES, &notes(&[]), &path).unwrap();
    assert_eq!(bits(&read(&Tiny::new(2), &path, &NAMES).unwrap()), bits(&saved));
}

#[test]
fn a_file_has_the_names_and_shapes_of_its_layouts() {
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let tensors = raw(&path);
    let got: Vec<_> = tensors.iter().map(|(name, (_, shape, _))| (name.as_str(), shape.as_slice())).collect();
    assert_eq!(got, FILE);
    assert!(tensors.values().all(|(dtype, ..)| *dtype == Dtype::F32));
}

#[test]
fn every_layout_puts_each_value_where_its_definition_says() {
    let (_folder, path) = place();
    let tiny = Tiny::new(1);
    save(&tiny, &NAMES, &notes(&[]), &path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let read = |name: &str| file.tensors().f32s(name).unwrap();
    let (inner, hidden, ffn) = (INNER.0, HIDDEN.0, FFN.0);

    let (split, split_bias) = (tiny.split.as_vec(), tiny.split_bias.as_vec());
    for (unit, part) in ["query", "key", "value"].into_iter().enumerate() {
        let weight = read(&format!("tiny.h.0.self.{part}.weight"));
        assert_eq!(weight, split[unit * inner * hidden..][..inner * hidden]);
        assert_eq!(read(&format!("tiny.h.0.self.{part}.bias")), split_bias[unit * inner..][..inner]);
    }
    let (turned, in_file) = (tiny.turned.as_vec(), read("tiny.h.0.c_attn.weight"));
    for row in 0..QKV.0 * inner {
        for column in 0..hidden {
            assert_eq!(in_file[column * QKV.0 * inner + row], turned[row * hidden + column]);
        }
    }
    let (up, in_file) = (tiny.up.as_vec(), read("tiny.h.0.c_fc.weight"));
    for row in 0..ffn {
        for column in 0..hidden {
            assert_eq!(in_file[column * ffn + row], up[row * hidden + column]);
        }
    }
    assert_eq!(read("tiny.h.0.c_attn.bias"), tiny.merged.as_vec());
    assert_eq!(read("tiny.h.0.stacked.weight"), tiny.stacked.as_vec());
    assert_eq!(read("tiny.table.weight"), tiny.table.as_vec());
    assert_eq!(read("tiny.norm.weight"), tiny.gain.as_vec());
}

#[test]
fn a_tensor_that_is_not_contiguous_is_saved_in_its_own_order() {
    let (_folder, path) = place();
    let mut tiny = Tiny::new(1);
    let device = Cpu::default();
    let values: Vec<f32> = (0..35).map(|i| i as f32).collect();
    let columns: Param<(Hidden, Vocab), Cpu> = device.tensor_from_vec(values, (HIDDEN, VOCAB));
    tiny.table = columns.permute::<(Vocab, Hidden), Axes2<1, 0>>();
    save(&tiny, &NAMES, &notes(&[]), &path).unwrap();
    let read = TensorFile::open(&path).unwrap().tensors().f32s("tiny.table.weight").unwrap();
    assert_eq!(read[..7], [0.0, 7.0, 14.0, 21.0, 28.0, 1.0, 8.0]);
    assert_eq!(read, tiny.table.as_vec());
}

#[test]
fn the_same_module_and_notes_give_the_same_bytes_and_the_values_begin_aligned() {
    let (_folder, path) = place();
    let all = notes(&[("b", "2"), ("a", "\"quoted\"\n"), ("c", "3"), ("d", "4"), ("e", "5")]);
    let bytes = || {
        save(&Tiny::new(1), &NAMES, &all, &path).unwrap();
        fs::read(&path).unwrap()
    };
    let first = bytes();
    assert_eq!(u64::from_le_bytes(*first.first_chunk().unwrap()) % 8, 0);
    for _ in 0..8 {
        assert_eq!(bytes(), first);
    }
    let mut expected = all.clone();
    expected.insert("format".to_owned(), "pt".to_owned());
    assert_eq!(TensorFile::open(&path).unwrap().metadata(), expected);
    let own = notes(&[("format", "mine")]);
    save(&Tiny::new(1), &NAMES, &own, &path).unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().metadata(), own);
}

#[test]
fn a_new_save_replaces_the_file_leaves_nothing_beside_it_and_an_open_reader_keeps_the_old_one() {
    let (folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let old = TensorFile::open(&path).unwrap();
    save(&Tiny::new(2), &NAMES, &notes(&[]), &path).unwrap();
    let name = "tiny.table.weight";
    assert_eq!(old.tensors().f32s(name).unwrap(), Tiny::new(1).table.as_vec());
    assert_eq!(TensorFile::open(&path).unwrap().tensors().f32s(name).unwrap(), Tiny::new(2).table.as_vec());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
