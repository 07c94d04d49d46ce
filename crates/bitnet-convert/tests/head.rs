//! A head that is packed like a projection stays one: int8 activations meet it before and after.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::PathBuf;

use bitnet_convert::Target;
use common::{logits_of, made::IDS, place, to};

#[test]
fn a_ternary_head_is_written_as_one() {
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made");
    let input = PathBuf::from(made).join("bitnet-h2-ternaryhead-bitlinear-packed");
    let before = logits_of(&input, &IDS);
    let directory = tempfile::tempdir().unwrap();
    for target in [Target::HfPacked, Target::HfMaster, Target::Bitnet] {
        let output = place(directory.path(), "first", target);
        let report = to(&input, &output, target).unwrap();
        // Six projections, since one stays dense, and the head.
        assert_eq!(report.matrices, 7, "{target}: {report}");
        assert!(logits_of(&output, &IDS) == before, "{target}: logits");
        for onward in [Target::HfPacked, Target::HfMaster, Target::Bitnet] {
            let second = place(directory.path(), &format!("second-{target}"), onward);
            to(&output, &second, onward).unwrap();
            assert!(logits_of(&second, &IDS) == before, "{target}, then {onward}: logits");
        }
    }
}

/// A large head's int8 copy stands in the file, as it would be made when the model is loaded.
#[test]
fn the_copy_that_screens_a_head_is_stored() {
    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle");
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("a.bitnet");
    to(&PathBuf::from(oracle).join("bitnet-a-online-bf16"), &output, Target::Bitnet).unwrap();
    let open = |path: &std::path::Path| {
        bitnet_source::Source::new(bitnet_format::Checkpoint::open(path, &Default::default()).unwrap())
            .unwrap()
    };
    let source = open(&output);
    let stored = source.screen().unwrap().expect("a head of 1 MiB has a copy");
    let bitnet_model::Weight::Table(head) = source.weight(bitnet_model::Part::Embedding).unwrap() else {
        panic!("the head is dense");
    };
    let (pool, threads) = (bitnet_core::HybridMemoryPool::new(), bitnet_core::ThreadPool::new(2));
    let made = head.screen(&pool, &threads).unwrap().unwrap();
    assert!(stored.bytes()[..] == made.bytes()[..]);
    // And it survives the way through another file of ours.
    let second = directory.path().join("b.bitnet");
    let report = to(&output, &second, Target::Bitnet).unwrap();
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    assert!(open(&second).screen().unwrap().unwrap().bytes()[..] == made.bytes()[..]);
}
