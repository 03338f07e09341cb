//! Masks and spare heads into weights: the same function, or the reason why not.

use super::*;
use msg_core::growth::Ramp;
use msg_models::{
    GrowthSpec,
    function_preserving::{Folded, Unfoldable, fold},
};

const TOLERANCE: f32 = 1e-5;

/// A model whose growth to `target` stands at 3/8 of its ramp in step 3.
fn ramping<M: Publishable>(model: &M, target: &str) -> M {
    let sizes = target.parse::<msg_train::Target>().unwrap().of(SIZES).unwrap();
    let growth = model.growth_to(sizes, &GrowthSpec::default()).unwrap();
    let operator = msg_core::growth::Masked { rule: msg_core::growth::FillRule::Scatter { std: 0.3 } };
    model.grown(&growth, &operator, Ramp { start: 0, length: 8 }).unwrap()
}

fn outputs<M: Listed<Cpu>>(model: &M, step: u64) -> Vec<f32> {
    msg_tests::families::outputs(model, &drawn(model, (3, 7), 1), &model.masks(step).unwrap()).unwrap()
}

fn folds<M: Publishable>(target: &str, expected: Folded) {
    let model = ramping(&M::tiny(), target);
    for step in [0, 3, 8] {
        let before = outputs(&model, step);
        let (folded, what) = fold(model.clone(), step).unwrap();
        if step == 3 {
            assert_eq!(what, expected, "{} {target}", M::NAME);
        }
        let (growing, after) = (folded.growing(), outputs(&folded, 0));
        assert!(growing.ramps.is_empty() && growing.sizes.heads * growing.head_dim == growing.sizes.hidden);
        let largest = before.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() <= TOLERANCE * largest, "{} {target} in step {step}: {a} {b}", M::NAME);
        }
    }
    // What a fold leaves out of account would be seen: the masks matter.
    assert_ne!(outputs(&model, 3), outputs(&model, 8));
}

fn refused<M: Publishable>(model: M, step: u64) -> Unfoldable {
    fold(model, step).map(drop).unwrap_err()
}

#[test]
fn masks_of_ffn_and_gates_of_a_gpt_become_weights() {
    folds::<Gpt<Cpu>>("ffn=11", Folded { masks: vec!["Ffn"], heads: None });
    folds::<Gpt<Cpu>>("ffn=11,layers=4", Folded { masks: vec!["Ffn", "layers"], heads: None });
    folds::<Bert<Cpu>>("ffn=11", Folded { masks: vec!["Ffn"], heads: None });
}

/// A tiny model whose heads have fewer units than the residual stream.
fn narrow_heads<M: Publishable>(heads: usize, head_dim: usize, hidden: usize) -> M {
    let sizes = Sizes { heads, hidden, ..SIZES };
    let mut config = serde_json::to_value(M::tiny().config_now()).unwrap();
    config["sizes"] = serde_json::to_value(sizes).unwrap();
    config["head_dim"] = head_dim.into();
    let config = serde_json::from_value(config).unwrap();
    scattered(M::build(&Cpu::default(), config, Init::default()).unwrap())
}

fn spare_heads<M: Publishable>() {
    for ((heads, size, hidden), to) in
        [((2, 2, 6), (3, 2)), ((2, 2, 10), (5, 2)), ((2, 2, 9), (3, 3)), ((3, 2, 15), (3, 5))]
    {
        let model: M = narrow_heads(heads, size, hidden);
        // Heads grow behind masks, too.
        let growth =
            model.growth_to(Sizes { heads: heads + 1, ..model.growing().sizes }, &GrowthSpec::default());
        let masked =
            model.grown(&growth.unwrap(), &msg_core::growth::Masked::default(), Ramp { start: 0, length: 8 });
        for (model, step) in [(model, 0), (masked.unwrap(), 3)] {
            let before = outputs(&model, step);
            let (folded, what) = fold(model.clone(), step).unwrap();
            if step == 0 {
                assert_eq!(what, Folded { masks: vec![], heads: Some([(heads, size), to]) });
            } else {
                assert_eq!(what.masks, ["Inner"]);
            }
            let after = outputs(&folded, 0);
            let largest = before.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            for (a, b) in before.iter().zip(&after) {
                assert!(
                    (a - b).abs() <= TOLERANCE * largest,
                    "{} {heads} of {size} in {hidden}: {a} {b}",
                    M::NAME
                );
            }
        }
    }
}

#[test]
fn spare_units_become_heads_that_add_nothing() {
    spare_heads::<Gpt<Cpu>>();
    spare_heads::<Bert<Cpu>>();
}

#[test]
fn what_cannot_be_folded_says_why() {
    assert_eq!(
        refused(ramping(&<Gpt<Cpu> as Publishable>::tiny(), "hidden=9,heads=4"), 3),
        Unfoldable::HiddenMask
    );
    assert_eq!(
        refused(ramping(&<Bert<Cpu> as Publishable>::tiny(), "layers=3"), 3),
        Unfoldable::LayerGate { layer: 2 }
    );
    let more = refused(ramping(&<Gpt<Cpu> as Publishable>::tiny(), "heads=4"), 3);
    assert_eq!(more, Unfoldable::TooManyHeads { heads: 4, head_dim: 2, hidden: 6 });
    let none: Gpt<Cpu> = narrow_heads(2, 3, 7);
    assert_eq!(refused(none, 0), Unfoldable::NoHeads { heads: 2, head_dim: 3, hidden: 7 });
}

#[test]
fn the_command_folds_on_demand_and_shows_parity() {
    let place = Place::new();
    published::<Gpt<Cpu>>(&place, "there");
    place.done(&["grow", "--from", "there", "--to", "ffn=12,layers=3", "--out", "grown", "--ids", "1,2,3"]);
    place.refused(
        &["export", "grown", "never"],
        &["a ramp has not ended", "--fold makes weights of it, exactly"],
    );
    let told = place.done(&["export", "grown", "out", "--fold", "--ids", "5,4,3,2"]);
    for part in ["folded  masks of Ffn, layers", "the ids given: 1 x 4", "parity  max |dlogit| ", "tolerance"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let card = fs::read_to_string(place.path("out/README.md")).unwrap();
    assert!(card.contains("- `export --fold` of grown (BLAKE3 ") && card.contains("max |dlogit|"), "{card}");
    place.done(&["import", "out", "--out", "in"]);
}
