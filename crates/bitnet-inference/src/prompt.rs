//! How a prompt goes through the model: in which parts, and what of it a sequence holds already.

use bitnet_device::Output;

/// Tokens of a prompt that go through the model at once when nobody has measured. Enough to reuse weights from cache, little
/// enough that activations stay a small part of the weights' memory.
pub const PREFILL: usize = 128;

/// How many of a prompt's `left` tokens the next step takes, at most `most`, and which of them get logits: the last one of the
/// prompt, and no other.
pub fn cut(left: usize, most: usize) -> (usize, Output) {
    if left > most { (most, Output::None) } else { (left, Output::Last) }
}

/// How many tokens of a prompt need not be computed, since a sequence of `held` tokens begins alike. The last one of the prompt
/// is never among them, so that computing the others gives its logits.
pub fn kept(held: &[u32], prompt: &[u32]) -> usize {
    let most = prompt.len().saturating_sub(1);
    held.iter().zip(&prompt[..most]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_prompts_last_token_gets_logits() {
        let cuts = |mut left: usize| {
            let mut cuts = Vec::new();
            while left > 0 {
                let (tokens, output) = cut(left, 4);
                cuts.push((tokens, output == Output::Last));
                left -= tokens;
            }
            cuts
        };
        assert_eq!(cuts(1), [(1, true)]);
        assert_eq!(cuts(4), [(4, true)]);
        assert_eq!(cuts(9), [(4, false), (4, false), (1, true)]);
    }

    #[test]
    fn the_last_token_is_never_kept() {
        assert_eq!(kept(&[1, 2, 3], &[1, 2, 3]), 2);
        assert_eq!(kept(&[1, 2, 3], &[1, 2, 3, 4]), 3);
        assert_eq!(kept(&[1, 2, 3], &[1, 5, 3, 4]), 1);
        assert_eq!(kept(&[1], &[]), 0);
    }
}
