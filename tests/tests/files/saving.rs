//! What a save leaves behind, and where it cannot be made.

use super::*;

#[test]
fn a_save_that_fails_leaves_the_old_file_whole_and_nothing_beside_it() {
    let (folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let old = fs::read(&path).unwrap();
    let refused = |module: &Tiny, naming: &Naming| {
        let text = save(module, naming, &notes(&[]), &path).unwrap_err().to_string();
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        text.replace(&path.display().to_string(), "FILE")
    };

    let mut broken = Tiny::new(2);
    overwrite(&mut broken, 1, |i, value| if i == 27 { f32::NAN } else { value });
    assert_eq!(
        refused(&broken, &NAMES),
        r#"FILE: tensor "tiny.h.0.self.key.weight": expected finite values, got NaN at index 7"#
    );
    let module = Tiny::new(2);
    assert_eq!(
        refused(&module, &Naming::new(|_| FileLayout::AsIs)),
        r#"tensor "tiny.h.0.self.{query,key,value}.weight": the layout as is makes 1 file tensors, the name stands for 3"#
    );
    assert_eq!(
        refused(&module, &Naming::new(|_| FileLayout::Split)),
        r#"tensor "tiny.table.weight": the layout split makes 7 file tensors, the name stands for 1"#
    );
    fn turn_the_norm(name: &ParamName) -> FileLayout {
        if name.to_string().contains("norm") { FileLayout::Transposed } else { layout(name) }
    }
    assert_eq!(
        refused(&module, &Naming::new(turn_the_norm)),
        r#"tensor "tiny.norm.weight": the layout transposed needs at least 2 axes, got shape [5]"#
    );
}

#[test]
fn a_save_to_a_place_that_cannot_be_written_says_why_and_leaves_it_as_it_was() {
    let (folder, path) = place();
    let module = Tiny::new(1);
    let nowhere = folder.path().join("no/such/folder/model.safetensors");
    let text = save(&module, &NAMES, &notes(&[]), &nowhere).unwrap_err().to_string();
    let start = format!("{}: cannot create a temporary file beside it: ", nowhere.display());
    assert!(text.starts_with(&start), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "kept").unwrap();
    let text = save(&module, &NAMES, &notes(&[]), &path).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}: cannot put it in place: ", path.display())), "{text}");
    assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_tensors_of_one_name_and_the_name_of_the_notes_are_refused() {
    #[derive(Clone)]
    struct Named(&'static str, Param<(Hidden,), Cpu>);
    impl Module<Cpu> for Named {
        fn walk<V: Visitor<Cpu>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
            visitor.visit(&at.join("a"), Role::norm_weight(), &mut self.1)?;
            visitor.visit(&at.join(self.0), Role::norm_weight(), &mut self.1)
        }
    }
    let (_folder, path) = place();
    let naming = Naming::new(|_| FileLayout::AsIs);
    let save = |name| save(&Named(name, Tiny::new(1).gain), &naming, &notes(&[]), &path);
    assert_eq!(save("b"), Ok(()));
    for name in ["a", "__metadata__"] {
        let expected = format!("{}: the name {name:?} is used twice", path.display());
        assert_eq!(save(name).unwrap_err().to_string(), expected);
    }
}

#[cfg(unix)]
#[test]
fn a_saved_file_has_the_rights_of_an_ordinary_one() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let ordinary = folder.path().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&ordinary));
}

#[test]
fn the_golden_files_open_and_describe_themselves() {
    let mut cases = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        cases += 1;
        let file = TensorFile::open(&path).unwrap();
        let dims: serde_json::Value = serde_json::from_str(&file.metadata()["dims"]).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(stem, format!("{}_{}", dims["family"].as_str().unwrap(), dims["case"].as_str().unwrap()));

        let table = match dims["family"].as_str().unwrap() {
            "bert" => "bert.embeddings.word_embeddings.weight",
            _ => "transformer.wte.weight",
        };
        let size = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
        for (model, sizes) in [("small/", "old"), ("grown/", "new")] {
            let tensors = file.subset(model);
            assert_eq!(tensors.shape(table).unwrap(), [size(&dims["vocab"]), size(&dims[sizes]["hidden"])]);
            assert!(tensors.f32s(table).unwrap().iter().all(|value| value.is_finite()));
        }
        let ids = file.subset("input/").i64s("ids").unwrap();
        assert!(ids.iter().all(|&id| (id as usize) < size(&dims["vocab"])));
        assert_eq!(file.subset("small/").f32s("loss").unwrap().len(), 1);
    }
    assert_eq!(cases, 10);
}

/// The bound on devices is the core's; nothing here asks for the Cpu.
#[test]
fn saving_and_loading_compile_for_every_device() {
    fn _generic<D: Backend, M: Module<D>>(module: &M, path: &Path) -> hf::Result<M> {
        save(module, &NAMES, &BTreeMap::new(), path)?;
        load(module, &TensorFile::open(path)?.tensors(), &NAMES)
    }
}
