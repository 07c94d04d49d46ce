//! A head that is packed like a projection stays one: int8 activations meet it before and after.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

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
