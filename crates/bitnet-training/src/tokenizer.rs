//! A byte-level BPE tokenizer of one's own text.

use tokenizers::{
    AddedToken, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainerBuilder},
    normalizers::unicode::NFC,
    pre_tokenizers::byte_level::ByteLevel,
    processors::template::TemplateProcessing,
};

use crate::{
    TrainError,
    corpus::{BOS, EOS},
};

/// Bytes, and the two tokens around a text.
pub const MIN_VOCAB: usize = 258;

/// Trains a tokenizer on `texts` and returns its `tokenizer.json`: byte-level BPE with the bytes as its alphabet, so that no text
/// is out of vocabulary, [`BOS`] (id 0) put before a text and [`EOS`] (id 1) for its end.
///
/// The vocabulary has `vocab` entries, or fewer when the texts have not as many pairs that occur twice.
///
/// # Errors
/// [`TrainError::Unsupported`] below [`MIN_VOCAB`]; [`TrainError::Tokenizer`] when the library fails.
pub fn train_tokenizer(texts: &[String], vocab: usize) -> Result<String, TrainError> {
    if vocab < MIN_VOCAB {
        return Err(TrainError::Unsupported {
            what: "the vocabulary",
            expected: "at least 258 entries: 256 bytes and the two ends of a text",
            got: vocab.to_string(),
        });
    }
    let special = |text: &str| AddedToken::from(text, true);
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(vocab)
        .min_frequency(2)
        .special_tokens(vec![special(BOS), special(EOS)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NFC>)
        .with_pre_tokenizer(Some(bytes))
        .with_decoder(Some(bytes))
        .with_post_processor(None::<TemplateProcessing>)
        .build()?;
    // Line by line: no word crosses a line's end, and the trainer counts words.
    tokenizer
        .train(&mut trainer, texts.iter().flat_map(|text| text.split_inclusive('\n').map(str::to_owned)))?;
    let around = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .map_err(TrainError::tokenizer)?
        .special_tokens(vec![(BOS, 0)])
        .build()
        .map_err(TrainError::tokenizer)?;
    tokenizer.with_post_processor(Some(around));
    Ok(tokenizer.to_string(false)?)
}

#[cfg(test)]
mod tests {
    use bitnet_text::{EncodeOptions, Tokenizer};

    use super::*;

    #[test]
    fn any_text_comes_back_and_ids_stay_below_the_vocabulary() {
        let text = "the cat sat on the mat, and the cat sat still.\nnaïve café\n".repeat(4);
        let json = train_tokenizer(std::slice::from_ref(&text), 280).unwrap();
        assert_eq!(json, train_tokenizer(std::slice::from_ref(&text), 280).unwrap());
        let tokenizer = Tokenizer::from_json(&json).unwrap().with_bos_eos(Some(BOS), Some(EOS)).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1)));
        assert!(tokenizer.vocab_size() <= 280 && tokenizer.vocab_size() > MIN_VOCAB);
        let other = "ein Käse, 奶酪 \u{1f9c0}\n\n\tend";
        let options = EncodeOptions { add_special: true, parse_special: false };
        for text in [&text, other] {
            let ids = tokenizer.encode(text, options).unwrap();
            assert_eq!((ids[0], tokenizer.decode(&ids[1..], false).as_str()), (0, text));
        }
        assert!(tokenizer.encode(&text, options).unwrap().len() < text.len() * 2 / 3);
        assert!(train_tokenizer(&[text], 257).is_err());
    }
}
