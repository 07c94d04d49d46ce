//! Every way of reading every tensor; what succeeds must hold what it promises.

use bitnet_format::{Checkpoint, hf_packed_to_ternary, recognize_ternary};

pub fn all(checkpoint: &Checkpoint) {
    let _ = checkpoint.damaged();
    // Views into a small file can be many; each is as large as the file at most.
    for info in checkpoint.tensors().take(16) {
        let view = checkpoint.tensor(info.name()).expect("a listed tensor can be viewed");
        assert_eq!(view.bytes().len(), info.byte_len());
        let _ = view.to_dense();
        let floats = view.to_f32();
        let ternary = view.to_ternary();
        if let (Ok(floats), Ok(ternary)) = (&floats, &ternary) {
            let mut row = vec![0.0; ternary.cols()];
            for (r, floats) in floats.chunks_exact(ternary.cols()).enumerate() {
                ternary.row_to_f32(r, &mut row);
                // By value: a zero's sign is not kept.
                assert_eq!(row, floats, "row {r} of {info:?}");
            }
        }
        let _ = recognize_ternary(&view);
        let _ = hf_packed_to_ternary(&view, info.rows().saturating_mul(4), 0.5);
    }
}
