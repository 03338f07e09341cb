//! Files that are cut, damaged or lying.

use super::*;

#[test]
fn a_file_cut_at_any_length_is_refused_with_both_lengths() {
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let needed = match length {
            0..8 => 8,
            _ if length < header => header,
            _ => whole.len(),
        };
        let expected = format!("FILE: cut off or overlong: expected {needed} bytes, got {length}");
        assert_eq!(refusal(&path, &NAMES), expected);
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    let (needed, length) = (whole.len(), whole.len() + 1);
    let expected = format!("FILE: cut off or overlong: expected {needed} bytes, got {length}");
    assert_eq!(refusal(&path, &NAMES), expected);
}

/// A file of this header and so many bytes of values.
fn write_header(path: &Path, header: &str, values: usize) {
    let length = header.len() as u64;
    fs::write(path, [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; values]].concat()).unwrap();
}

#[test]
fn a_malformed_header_is_refused_in_one_line() {
    let (_folder, path) = place();
    let refused = |header: &str, values| {
        write_header(&path, header, values);
        refusal(&path, &NAMES)
    };
    assert_eq!(refused("", 0), "FILE: malformed header: EOF while parsing a value at line 1 column 0");
    assert_eq!(
        refused(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12),
        "FILE: malformed header: invalid offset for tensor `a`"
    );
    assert_eq!(
        refused(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
        "FILE: malformed header: invalid shape, data type, or offset for tensor"
    );
    assert_eq!(
        refused(r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#, 8),
        "FILE: malformed header: overflow computing buffer size from shape and/or element type"
    );
    assert!(
        refused(r#"{"a":{"dtype":"F\n32","shape":[2],"data_offsets":[0,8]}}"#, 8)
            .starts_with("FILE: malformed header: unknown variant `F?32`, expected one of `BOOL`")
    );
    let long = format!(r#"{{"a":{{"dtype":"{}","shape":[2],"data_offsets":[0,8]}}}}"#, "x".repeat(100_000));
    assert!(refused(&long, 8).len() < 400);
    assert!(refused(&"[".repeat(100_000), 0).starts_with("FILE: malformed header: "));
    fs::write(&path, [&1u64.to_le_bytes()[..], &[0xff]].concat()).unwrap();
    assert_eq!(
        refusal(&path, &NAMES),
        "FILE: malformed header: invalid utf-8 sequence of 1 bytes from index 0"
    );
}

#[test]
fn a_header_that_promises_more_than_memory_holds_is_refused_by_its_numbers() {
    let (_folder, path) = place();
    for length in [(8 << 20) + 1, u64::MAX] {
        fs::write(&path, [length.to_le_bytes(), [b'{'; 8]].concat()).unwrap();
        let expected = format!("FILE: malformed header: expected at most 8388608 bytes, got {length}");
        assert_eq!(refusal(&path, &NAMES), expected);
    }
    fs::write(&path, [(8u64 << 20).to_le_bytes(), [b'{'; 8]].concat()).unwrap();
    let expected = "FILE: cut off or overlong: expected 8388616 bytes, got 16";
    assert_eq!(refusal(&path, &NAMES), expected);

    // Nine tensors whose ends add up to the largest number there is.
    let mut tensors = Vec::new();
    let mut at = 0u64;
    for (name, size) in ('a'..='h').zip([u64::MAX >> 3; 8]).chain([('i', 7)]) {
        let end = at + size;
        tensors.push(format!(r#""{name}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{at},{end}]}}"#));
        at = end;
    }
    assert_eq!(at, u64::MAX);
    write_header(&path, &format!("{{{}}}", tensors.join(",")), 0);
    let got = fs::metadata(&path).unwrap().len();
    let expected = format!("FILE: cut off or overlong: expected {} bytes, got {got}", u64::MAX);
    assert_eq!(refusal(&path, &NAMES), expected);
}

#[test]
fn a_damaged_header_never_panics_and_never_promises_more_values_than_the_file_has_bytes() {
    const FILES: u32 = 2000;
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[("a", "b")]), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let module = Tiny::new(2);
    let before = bits(&module);
    let key = Key::new(7, "damage", 0);
    let (mut refused, mut opened) = (0, 0);
    for file in 0..FILES {
        let draw = |at: u32, limit: usize| bits_at(key, [file, at, 0, 0]) as usize % limit;
        let mut bytes = whole.clone();
        for change in 0..1 + draw(0, 4) as u32 {
            let at = draw(1 + 3 * change, header);
            // Half of the changes are digits and marks, which keep the header a header more often.
            bytes[at] = match draw(2 + 3 * change, 2) {
                0 => b"0123456789[]{},:\""[draw(3 + 3 * change, 17)],
                _ => draw(3 + 3 * change, 256) as u8,
            };
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(file) = TensorFile::open(&path) {
            opened += 1;
            let tensors = file.tensors();
            for name in tensors.names() {
                let values: usize = tensors.shape(&name).unwrap().iter().product();
                assert!(values <= whole.len());
                if let Ok(read) = tensors.f32s(&name) {
                    assert_eq!(read.len(), values);
                }
            }
        }
        refused += u32::from(read(&module, &path, &NAMES).is_err());
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    assert_eq!(bits(&module), before);
    // The loop reaches both sides of the check.
    assert!(refused > FILES / 2 && opened > FILES / 20, "{refused} refused, {opened} opened");
}
