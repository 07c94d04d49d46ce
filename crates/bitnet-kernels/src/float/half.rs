//! binary16 to binary32 and back in integer arithmetic, equal to what the conversion instructions do.

/// The f32 that equals a binary16 given by its bits. A signalling NaN becomes quiet.
#[inline(always)]
pub(crate) fn widen(h: u16) -> f32 {
    let h = u32::from(h);
    let sign = (h & 0x8000) << 16;
    let magnitude = h & 0x7fff;
    // A normal number: move the exponent and add the difference of the biases (127 - 15).
    let normal = (magnitude << 13) + (112 << 23);
    // Subnormal: the integer times 2^-24 is exact.
    let subnormal = (magnitude as i32 as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
    let special = (magnitude << 13) | 0x7f80_0000 | if magnitude > 0x7c00 { 0x40_0000 } else { 0 };
    let bits = if magnitude >= 0x7c00 {
        special
    } else if magnitude >= 0x400 {
        normal
    } else {
        subnormal
    };
    f32::from_bits(sign | bits)
}

/// The binary16 nearest to `value`, ties to even. NaN keeps the top of its payload and becomes quiet.
#[inline(always)]
pub(crate) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let rounded = if magnitude > 0x7f80_0000 {
        0x7e00 | (magnitude >> 13 & 0x3ff) as u16
    } else if magnitude >= 0x4780_0000 {
        // 2^16 and more, infinity among them; [65520, 65536) overflows by the carry below.
        0x7c00
    } else if magnitude >= 0x3880_0000 {
        // Normal: drop 13 bits, half rounds to even; a carry into the exponent is right as it is.
        let odd = magnitude >> 13 & 1;
        ((magnitude + 0xfff + odd - (112 << 23)) >> 13) as u16
    } else {
        // Subnormal: adding 0.5 aligns the last kept bit with the f32's last bit and rounds to even.
        let aligned = f32::from_bits(magnitude) + 0.5;
        (aligned.to_bits() - 0.5f32.to_bits()) as u16
    };
    sign | rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_and_rounds_back() {
        for bits in 0..=u16::MAX {
            let want = half::f16::from_bits(bits).to_f32();
            let got = widen(bits);
            assert!(got.to_bits() == want.to_bits(), "{bits:04x}: {got} for {want}");
            if !want.is_nan() {
                assert_eq!(round(want), bits);
            }
        }
    }

    #[test]
    fn rounding_equals_the_half_crate_around_every_tie() {
        for bits in 0..0x7c00u16 {
            let (low, high) = (widen(bits), widen(bits + 1));
            if high.is_infinite() {
                continue;
            }
            let middle = (low + high) / 2.0;
            for value in [middle, middle.next_up(), middle.next_down(), -middle] {
                assert_eq!(round(value), half::f16::from_f32_const(value).to_bits(), "{value}");
            }
        }
        for value in [65519.0, 65520.0, 65535.9, 65536.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE] {
            assert_eq!(round(value), half::f16::from_f32_const(value).to_bits(), "{value}");
        }
    }
}
