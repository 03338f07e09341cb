//! What a whole file may hold that a module refuses.

use super::*;

#[test]
fn a_missing_tensor_is_named() {
    let text = refusal_of(|tensors| drop(tensors.remove("tiny.h.0.self.key.weight")));
    assert_eq!(text, r#"FILE: tensor "tiny.h.0.self.key.weight" is missing"#);
}

#[test]
fn an_extra_tensor_is_named() {
    let text = refusal_of(|tensors| {
        tensors.insert("tiny.h.1.norm.weight".to_owned(), (Dtype::F32, vec![1], f32s(&[1.0])));
    });
    assert_eq!(text, r#"FILE: tensor "tiny.h.1.norm.weight" is not one of the module's"#);
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    // As many values, other axes: what a file without the transpose would hold.
    let text = refusal_of(|tensors| tensors.get_mut("tiny.h.0.c_fc.weight").unwrap().1 = vec![6, 5]);
    assert_eq!(text, r#"FILE: tensor "tiny.h.0.c_fc.weight": expected shape [5, 6], got [6, 5]"#);
    let text = refusal_of(|tensors| tensors.get_mut("tiny.norm.weight").unwrap().1 = vec![1, 5]);
    assert_eq!(text, r#"FILE: tensor "tiny.norm.weight": expected shape [5], got [1, 5]"#);
}

#[test]
fn a_tensor_of_another_type_is_named_with_both_types() {
    let text = refusal_of(|tensors| {
        tensors.insert("tiny.norm.weight".to_owned(), (Dtype::I64, vec![5], vec![0; 40]));
    });
    assert_eq!(text, r#"FILE: tensor "tiny.norm.weight": expected type F32, F16 or BF16, got I64"#);
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let text = file.tensors().i64s("tiny.norm.weight").unwrap_err().to_string();
    let expected = r#"tensor "tiny.norm.weight": expected type I64, got F32"#;
    assert_eq!(text, format!("{}: {expected}", path.display()));
}

#[test]
fn a_value_that_is_not_finite_is_named_with_its_place() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let text = refusal_of(|tensors| {
            let data = &mut tensors.get_mut("tiny.h.0.self.value.weight").unwrap().2;
            data[4 * 13..4 * 14].copy_from_slice(&value.to_le_bytes());
        });
        assert_eq!(
            text,
            format!(
                r#"FILE: tensor "tiny.h.0.self.value.weight": expected finite values, got {shown} at index 13"#
            )
        );
    }
}

#[test]
fn half_precision_loads_exactly_and_its_infinity_is_refused() {
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let mut tensors = raw(&path);
    let mut put = |dtype, bits: [u16; 5]| {
        let bytes = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        tensors.insert("tiny.norm.weight".to_owned(), (dtype, vec![5], bytes));
        write_raw(&tensors, &path);
    };
    put(Dtype::F16, [0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000]);
    let loaded = read(&Tiny::new(2), &path, &NAMES).unwrap();
    assert_eq!(loaded.gain.as_vec(), [1.0, -2.0, 2f32.powi(-24), 65504.0, -0.0]);
    put(Dtype::BF16, [0x3f80, 0xc000, 0x3e80, 0x4380, 0x8000]);
    let loaded = read(&Tiny::new(2), &path, &NAMES).unwrap();
    assert_eq!(loaded.gain.as_vec(), [1.0, -2.0, 0.25, 256.0, -0.0]);
    put(Dtype::F16, [0, 0, 0x7c00, 0, 0]);
    let expected = r#"FILE: tensor "tiny.norm.weight": expected finite values, got inf at index 2"#;
    assert_eq!(refusal(&path, &NAMES), expected);
    put(Dtype::BF16, [0, 0, 0, 0, 0xff80]);
    let expected = r#"FILE: tensor "tiny.norm.weight": expected finite values, got -inf at index 4"#;
    assert_eq!(refusal(&path, &NAMES), expected);
}

#[test]
fn an_alias_may_repeat_its_tensor_and_must_do_so_to_the_bit() {
    let (_folder, path) = place();
    let saved = Tiny::new(1);
    save(&saved, &NAMES, &notes(&[]), &path).unwrap();
    let mut tensors = raw(&path);
    assert!(!tensors.contains_key("head.weight"));
    let repeated = tensors["tiny.table.weight"].clone();
    tensors.insert("head.weight".to_owned(), repeated);
    write_raw(&tensors, &path);
    assert_eq!(bits(&read(&Tiny::new(2), &path, &NAMES).unwrap()), bits(&saved));

    let mut table = saved.table.as_vec();
    table[33] = 1.5;
    tensors.insert("head.weight".to_owned(), (Dtype::F32, vec![7, 5], f32s(&table)));
    table[33] = -0.25;
    tensors.insert("tiny.table.weight".to_owned(), (Dtype::F32, vec![7, 5], f32s(&table)));
    write_raw(&tensors, &path);
    assert_eq!(
        refusal(&path, &NAMES),
        r#"FILE: tensor "head.weight" repeats "tiny.table.weight": expected -0.25 at index 33, got 1.5"#
    );
    tensors.insert("head.weight".to_owned(), (Dtype::F32, vec![5, 7], f32s(&table)));
    write_raw(&tensors, &path);
    let expected = r#"FILE: tensor "head.weight": expected shape [7, 5], got [5, 7]"#;
    assert_eq!(refusal(&path, &NAMES), expected);
    tensors.remove("tiny.table.weight");
    write_raw(&tensors, &path);
    assert_eq!(refusal(&path, &NAMES), r#"FILE: tensor "tiny.table.weight" is missing"#);
}

#[test]
fn other_spellings_load_buffers_are_passed_over_and_two_spellings_of_one_name_are_refused() {
    fn spelling(name: &str) -> Option<Cow<'_, str>> {
        match name.strip_suffix(".gamma") {
            _ if name.ends_with(".mask") => None,
            Some(stem) => Some(Cow::Owned(format!("{stem}.weight"))),
            None => Some(Cow::Borrowed(name)),
        }
    }
    let naming = NAMES.with_spelling(spelling);
    let (_folder, path) = place();
    let saved = Tiny::new(1);
    save(&saved, &naming, &notes(&[]), &path).unwrap();
    let mut tensors = raw(&path);
    let gain = tensors.remove("tiny.norm.weight").unwrap();
    tensors.insert("tiny.norm.gamma".to_owned(), gain.clone());
    tensors.insert("tiny.h.0.mask".to_owned(), (Dtype::BOOL, vec![2], vec![1, 0]));
    write_raw(&tensors, &path);
    assert_eq!(bits(&read(&Tiny::new(2), &path, &naming).unwrap()), bits(&saved));

    let wrong = (Dtype::F32, vec![1], f32s(&[1.0]));
    tensors.insert("tiny.norm.gamma".to_owned(), wrong);
    write_raw(&tensors, &path);
    let expected = r#"FILE: tensor "tiny.norm.gamma": expected shape [5], got [1]"#;
    assert_eq!(refusal(&path, &naming), expected);
    tensors.insert("tiny.norm.weight".to_owned(), gain);
    write_raw(&tensors, &path);
    assert_eq!(refusal(&path, &naming), r#"FILE: the name "tiny.norm.weight" is used twice"#);
}

#[test]
fn a_subset_strips_its_prefix_leaves_names_out_and_names_tensors_in_full() {
    let (_folder, path) = place();
    let (first, second) = (Tiny::new(1), Tiny::new(2));
    let mut both = Raw::new();
    for (prefix, module) in [("one/", &first), ("two/", &second)] {
        save(module, &NAMES, &notes(&[]), &path).unwrap();
        both.extend(raw(&path).into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }
    both.insert("two/loss".to_owned(), (Dtype::F32, vec![1], f32s(&[0.5])));
    write_raw(&both, &path);
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(bits(&load(&second, &file.subset("one/"), &NAMES).unwrap()), bits(&first));
    let two = file.subset("two/");
    let text = load(&first, &two, &NAMES).unwrap_err().to_string();
    let expected = r#"tensor "two/loss" is not one of the module's"#;
    assert_eq!(text, format!("{}: {expected}", path.display()));
    assert_eq!(bits(&load(&first, &two.without(&["loss"]), &NAMES).unwrap()), bits(&second));
    assert!(two.contains("loss") && !two.without(&["loss"]).contains("loss"));
    assert_eq!(two.without(&["loss"]).names(), FILE.map(|(name, _)| name));
    assert_eq!(two.subset("tiny.h.0.c_").names(), ["attn.bias", "attn.weight", "fc.weight"]);
    assert_eq!(two.subset("tiny.").shape("norm.weight").unwrap(), [5]);
    let text = load(&first, &file.subset("three/"), &NAMES).unwrap_err().to_string();
    let expected = r#"tensor "three/tiny.table.weight" is missing"#;
    assert_eq!(text, format!("{}: {expected}", path.display()));
}

#[test]
fn a_path_that_cannot_be_opened_is_named_with_the_reason() {
    let (folder, path) = place();
    let text = TensorFile::open(&path).unwrap_err().to_string();
    let reason = fs::read(&path).unwrap_err();
    assert_eq!(text, format!("{}: cannot open it: {reason}", path.display()));
    let text = TensorFile::open(folder.path()).unwrap_err().to_string();
    assert_eq!(text, format!("{}: cannot open it: it is not a regular file", folder.path().display()));
}
