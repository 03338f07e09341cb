//! A growth that changes the function ends the command with code 2, and the checkpoint before it resumes.

use super::*;

#[test]
fn a_growth_that_changes_the_function_is_refused_and_the_run_goes_on_without_the_fault() {
    let words = ["train", "tiny.toml", "--resume", "auto"];
    for family in ["gpt", "bert"] {
        let whole = Place::new(family, 3);
        whole.done(&words);
        let expected = whole.results("runs/tiny");
        for (fault, boundary) in
            [("altered-entry", 3), ("omitted-mask:value:0", 3), ("omitted-mask:layer:1", 6)]
        {
            let place = Place::new(family, 3);
            let output = place.command(&words).env("MSG_TEST_FAULT", fault).output().unwrap();
            let said = format!("after step {boundary}: the model computes another function");
            assert_refused(&output, &[&said], false);
            let last = format!("step-{boundary:08}");
            assert_eq!(checkpoints(&place.path("runs/tiny")).pop(), Some(last), "{family}, {fault}");
            place.done(&words);
            assert_same(&place.results("runs/tiny"), &expected, &format!("{family}, {fault}"));
        }
    }
}
