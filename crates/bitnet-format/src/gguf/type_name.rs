//! Names of GGUF types that this crate does not read.

/// What a GGUF type number means upstream or in a well-known fork.
pub(crate) fn type_name(id: u32) -> Option<&'static str> {
    Some(match id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        36 => "I2_S or IQ4_NL_4_4, but not of their size",
        37 => "I8_S",
        38 => "TL1, but not of its size",
        39 => "MXFP4 or TL2, which its size does not tell",
        40 => "NVFP4",
        41 => "Q1_0, but not of its size",
        42 => "Q2_0 in groups of 64 or 128, or TQ2_0_G128, which neither its size nor its bytes tell",
        134 => "IQ1_BN, but not of its size",
        135 => "IQ2_BN, but not of its size",
        142 => "PQ2_0 or IQ2_TN, but not of the former's size",
        143 => "PTQ1_0 or IQ1_TN, but not of the former's size",
        335 => "IQ2_BN_R4, but not of its size",
        _ => return None,
    })
}
