//! A disk that is full. Needs a small file system of its own, which only root may mount: elsewhere these
//! tests say that they were passed over.

#![cfg(target_os = "linux")]

use super::*;

/// A file system in memory, unmounted in the end.
struct Small {
    path: PathBuf,
}

impl Small {
    /// Mounts one of so many KiB, where that is allowed.
    fn mount(path: PathBuf, kib: usize) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"], &path);
        if !mounted {
            println!("passed over: no file system may be mounted here");
        }
        mounted.then_some(Small { path })
    }

    /// Gives it another size.
    fn resize(&self, kib: usize) {
        assert!(mount(&["-o", &format!("remount,size={kib}k")], &self.path));
    }
}

fn mount(words: &[&str], path: &Path) -> bool {
    let output = Command::new("mount").args(words).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whoever still works there keeps it until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

const FULL: &str = "No space left on device";

#[test]
fn a_run_that_fills_the_disk_loses_nothing_and_goes_on_once_there_is_room() {
    let words = ["train", "tiny.toml", "--resume", "auto", "--set", "train.keep_every=1"];
    let whole = Place::new("gpt", 20);
    whole.done(&words);
    let expected = whole.results("runs/tiny");
    // Room for the data and for some of the 60 checkpoints; another page at each attempt, so that the disk
    // is full at another place.
    for kib in [500, 504, 508, 512, 516, 520, 524, 528] {
        let place = Place::new("gpt", 20);
        let run = place.path("runs/tiny");
        let Some(small) = Small::mount(run.clone(), kib) else { return };
        let output = place.msg(&words);
        assert_refused(&output, &[FULL], false);
        let left = checkpoints(&run);
        assert!(left.len() > 3 && left.iter().all(|name| name.starts_with("step-")), "{left:?}");
        println!(
            "{kib} KiB: full after {}: {}",
            left[left.len() - 1],
            stderr(&output).lines().last().unwrap()
        );
        // Still full: refused again, and still nothing lost.
        let last = bytes(&run.join("checkpoints").join(&left[left.len() - 1]));
        assert_refused(&place.msg(&words), &[FULL], false);
        assert_eq!(checkpoints(&run), left);
        assert_eq!(bytes(&run.join("checkpoints").join(&left[left.len() - 1])), last);
        small.resize(16 << 10);
        place.done(&words);
        assert_same(&place.results("runs/tiny"), &expected, &format!("{kib} KiB"));
        // Its folder goes before the place does.
        drop(small);
    }
}

#[test]
fn data_that_does_not_fit_is_refused_and_prepared_once_there_is_room() {
    let place = Place::new("gpt", 1);
    let text = fs::read(place.path("text/00.txt")).unwrap();
    fs::write(place.path("text/long.txt"), text.repeat(2000)).unwrap();
    let Some(small) = Small::mount(place.path("runs/tiny/data"), 300) else { return };
    assert_refused(&place.msg(&["data", "prepare", "tiny.toml"]), &[FULL, "tokens-00000.bin"], true);
    assert_refused(&place.msg(&["train", "tiny.toml"]), &[FULL], true);
    assert!(!place.path("runs/tiny/data/manifest.json").exists());
    small.resize(16 << 10);
    place.done(&["train", "tiny.toml"]);
    drop(small);
}
