//! The seeds of `corpus/`, and whatever once failed, run again without libFuzzer: each file through its target.

use std::fs;
use std::path::Path;

/// The targets, with the files of their folders.
fn replay(named: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(named);
    let (_, target) = fuzz::TARGETS.iter().find(|(name, _)| *name == named).expect("a target of that name");
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in &files {
        let bytes = fs::read(file).expect("a readable file");
        // In case it fails.
        println!("{}", file.display());
        target(&bytes);
    }
    // Nothing, and bytes that say only one thing, are inputs too.
    target(&[]);
    for byte in 0..=255 {
        target(&[byte; 64]);
    }
    files.len()
}

macro_rules! corpora {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                assert!(replay(stringify!($name)) >= 5, "the corpus is gone");
            }
        )+

        #[test]
        fn every_target_has_a_corpus_that_is_replayed_and_a_program() {
            let replayed = [$(stringify!($name)),+];
            let targets: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(replayed, targets[..]);
            for name in targets {
                let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{name}.rs"));
                assert!(program.exists(), "{}", program.display());
            }
        }
    };
}

corpora! {
    in_queue out_queue item_ring byte_ring pools chains endpoint_e1000 endpoint_virtio application_page server_page frames
    stack dhcp sockets fragments filters device_e1000 device_virtio
    configuration program archive command_line messages either_queue
}
