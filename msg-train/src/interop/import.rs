//! A published folder to a checkpoint.

use super::{
    provenance::{self, Step},
    source::{Place, Source},
};
use crate::{
    checkpoint::{ModelSnapshot, save_model},
    error::{Error, Result},
    families::{
        family::Family,
        registry::{ForFamily, Listed, with_family},
    },
    files::new_folder::check_free,
    interop::hf_folder,
};
use msg_core::Backend;
use msg_models::{Sizes, hf::Format};
use std::path::{Path, PathBuf};

/// Seed of heads that a published model lacks.
const SEED: u64 = 0;

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The checkpoint.
    pub path: PathBuf,
    /// The name of its family.
    pub family: &'static str,
    /// Its sizes.
    pub sizes: Sizes,
    /// Its parameters.
    pub parameters: usize,
    /// What the user should know.
    pub remarks: Vec<String>,
}

/// Makes the checkpoint `out` of the published folder `path`. Tensors are stored as they were.
///
/// # Errors
/// What the folder holds that is not supported or damaged; where `out` is there, or the system refuses.
pub fn import<D: Backend>(device: &D, path: &Path, out: &Path) -> Result<Imported> {
    check_free(out)?;
    if !hf_folder::is_published(path) {
        let message = format!("expected a published folder with {}, got none", hf_folder::CONFIG);
        return Err(Error::Data { path: path.to_owned(), message });
    }
    let place = Place::Published(path.to_owned());
    struct Work<'a, D>(&'a D, Place, &'a Path);
    impl<D: Backend> ForFamily<D> for Work<'_, D> {
        type Out = Result<Imported>;
        fn with<M: Listed<D>>(self) -> Result<Imported> {
            import_as::<D, M>(self.0, self.1, self.2)
        }
    }
    let family = place.family()?;
    with_family(&family, path, Work(device, place, out))?
}

fn import_as<D: Backend, M: Family<D>>(device: &D, place: Place, out: &Path) -> Result<Imported> {
    let source = Source::<M>::open_in_file(device, place, SEED)?;
    let sizes = source.model.growing().sizes;
    let mut steps = source.steps.clone();
    steps.push(Step {
        operation: "import".into(),
        source: source.name(),
        source_blake3: source.hash.clone(),
        from: sizes,
        to: sizes,
        growths: Vec::new(),
        receipt: None,
    });
    let notes = provenance::notes(&steps)?;
    let stored = |name: &str| source.stored_as(name);
    let values = source.values::<D>()?;
    let snapshot = ModelSnapshot {
        model: &source.model,
        state: &source.state,
        config: None,
        tokenizer: source.tokenizer.as_ref().map(|tokenizer| tokenizer.json()),
        origin: source.origin.as_ref(),
        format: Format { stored: &stored, values: values.as_ref(), ..Format::plain(&notes) },
    };
    save_model(out, &snapshot)?;
    Ok(Imported {
        path: out.to_owned(),
        family: M::RULES.name,
        sizes,
        parameters: source.model.num_params(),
        remarks: source.remarks,
    })
}
