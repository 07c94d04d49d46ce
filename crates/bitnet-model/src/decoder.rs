//! The decoder: BitNet b1.58 and its relatives, as their papers draw them.
//!
//! A block (arXiv:2504.12285, section 2, with the switches of [`Config`]):
//!
//! ```text
//! x = norm(h);  q, k, v = BitLinear(x);  q, k = rope(q, k)
//! h = h + BitLinear(sub_norm(attention(q, k, v)))
//! x = norm(h)
//! h = h + BitLinear(sub_norm(activation(BitLinear_gate(x)) * BitLinear_up(x)))
//! ```

use crate::{
    Activated, Backend, BitLinear, Config, KvShape, ModelError, Sequence, Span, Stage,
    linear::{SideRooms, project},
};

mod head;

/// One block of the decoder.
pub struct Block<B: Backend> {
    pub(crate) attention_norm: B::Vector,
    pub(crate) query: BitLinear<B>,
    pub(crate) key: BitLinear<B>,
    pub(crate) value: BitLinear<B>,
    /// Norms of query and key heads.
    pub(crate) qk_norms: Option<(B::Vector, B::Vector)>,
    pub(crate) attention_sub_norm: Option<B::Vector>,
    pub(crate) output: BitLinear<B>,
    pub(crate) ffn_norm: B::Vector,
    pub(crate) gate: BitLinear<B>,
    pub(crate) up: BitLinear<B>,
    pub(crate) ffn_sub_norm: Option<B::Vector>,
    pub(crate) down: BitLinear<B>,
}

/// All parameters.
pub struct Weights<B: Backend> {
    pub(crate) embedding: B::Matrix,
    pub(crate) blocks: Vec<Block<B>>,
    pub(crate) final_norm: B::Vector,
    /// `None` when tied to the embedding.
    pub(crate) head: Option<B::Matrix>,
    /// Tells which of the head's rows can matter.
    pub(crate) screen: Option<B::Screen>,
    /// The head's form: float for a dense head.
    pub(crate) head_form: bitnet_quant::Activations,
    /// The rank of side paths; 0 where there are none.
    pub(crate) side_rank: usize,
    /// Rotary frequencies, `[head_dim / 2]`.
    pub(crate) frequencies: B::Vector,
}

/// A decoder on a device.
pub struct Model<B: Backend> {
    pub(crate) config: Config,
    pub(crate) backend: B,
    pub(crate) weights: Weights<B>,
}

/// The buffers of a forward pass, made once for up to `capacity` tokens.
pub struct State<B: Backend> {
    capacity: usize,
    /// The residual stream, `[tokens, hidden]`.
    h: B::Rows,
    /// Normed input of the projections, `[tokens, hidden]`.
    x: Activated<B>,
    /// Cosines and sines of the positions, `[tokens, head_dim]`.
    angles: B::Rows,
    q: B::Rows,
    k: B::Rows,
    v: B::Rows,
    scratch: B::Scratch,
    /// Attention's result, `[tokens, heads * head_dim]`.
    attention: Activated<B>,
    /// Gated values, `[tokens, ffn]`.
    gate: Activated<B>,
    up: B::Rows,
    /// Input of a projection with a norm of its own.
    own: OwnNorms<B>,
    sides: Option<SideRooms<B>>,
    logits: B::Rows,
    logits_capacity: usize,
    screened: Option<head::Screened<B>>,
    /// Rows that the head has read last, how many of them were screened, and whether `logits` holds theirs.
    rows: usize,
    screened_rows: usize,
    full: bool,
}

/// Inputs of projections with norms of their own, by width.
struct OwnNorms<B: Backend> {
    hidden: Activated<B>,
    attention: Activated<B>,
    ffn: Activated<B>,
}

impl<B: Backend> Model<B> {
    /// Sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device it runs on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// How many blocks leave out rows whose gate is closed.
    pub fn skipping_blocks(&self) -> usize {
        let skips = |block: &&Block<B>| block.up.skips_rows(&self.backend, self.config.activation);
        self.weights.blocks.iter().filter(skips).count()
    }

    /// Whether any matrix takes rounded activations: those of trits do, dense ones and blocks of integers take floats.
    pub fn rounds_activations(&self) -> bool {
        let Weights { embedding, blocks, head, .. } = &self.weights;
        let projections = blocks.iter().flat_map(|b| {
            [&b.query, &b.key, &b.value, &b.output, &b.gate, &b.up, &b.down].map(|linear| &linear.weight)
        });
        projections.chain([head.as_ref().unwrap_or(embedding)]).any(|matrix| self.backend.is_ternary(matrix))
    }

    /// Runs the model through another handle of the same device from now on: with other threads, for instance.
    pub fn set_backend(&mut self, backend: B) {
        self.backend = backend;
    }

    /// Makes `to` hold what `from` holds, so that both can be continued in their own way.
    ///
    /// # Errors
    /// [`ModelError::ContextFull`] when `to` has no room for it, [`ModelError::ForeignCache`] when one of them is another
    /// model's or keeps another type; nothing has changed then.
    pub fn copy(&self, from: &Sequence<B::Kv>, to: &mut Sequence<B::Kv>) -> Result<(), ModelError> {
        let (needed, capacity) = (from.len(), to.capacity());
        if needed > capacity {
            return Err(ModelError::ContextFull { needed, capacity });
        }
        self.backend.copy_kv(&from.kv, needed, &mut to.kv)?;
        to.hold(needed);
        Ok(())
    }

    fn kv_shape(&self, capacity: usize) -> KvShape {
        let c = &self.config;
        KvShape { layers: c.layers, heads: c.kv_heads, head_dim: c.head_dim, capacity }
    }

    /// An empty sequence with room for `capacity` positions.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn sequence(&self, capacity: usize) -> Result<Sequence<B::Kv>, ModelError> {
        Ok(Sequence::new(self.backend.kv(self.kv_shape(capacity))?, capacity))
    }

    /// Buffers for batches of up to `capacity` tokens, of which up to `logits` get logits, over sequences of up to
    /// `context` positions.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn state(&self, capacity: usize, logits: usize, context: usize) -> Result<State<B>, ModelError> {
        let (b, c) = (&self.backend, &self.config);
        let own = if c.input_norm_eps.is_some() { capacity } else { 0 };
        Ok(State {
            capacity,
            h: b.rows(capacity, c.hidden)?,
            x: Activated::new(b, capacity, c.hidden)?,
            angles: b.rows(capacity, c.head_dim)?,
            q: b.rows(capacity, c.q_width())?,
            k: b.rows(capacity, c.kv_width())?,
            v: b.rows(capacity, c.kv_width())?,
            scratch: b.scratch(self.kv_shape(context), c.heads, capacity)?,
            attention: Activated::new(b, capacity, c.q_width())?,
            gate: Activated::new(b, capacity, c.ffn)?,
            up: b.rows(capacity, c.ffn)?,
            own: OwnNorms {
                hidden: Activated::new(b, own, c.hidden)?,
                attention: Activated::new(b, own, c.q_width())?,
                ffn: Activated::new(b, own, c.ffn)?,
            },
            sides: match self.weights.side_rank {
                0 => None,
                rank => {
                    let widths = vec![c.q_width(), c.kv_width(), c.hidden, c.ffn];
                    Some(SideRooms::new(b, capacity, rank, widths)?)
                }
            },
            logits: b.rows(logits, c.vocab)?,
            logits_capacity: logits,
            screened: None,
            rows: 0,
            screened_rows: 0,
            full: false,
        })
    }

    /// Runs a batch: `ids` are the next tokens of the spans' sequences, one span after another. Returns the logits that the spans
    /// ask for, `[positions, vocab]`, in their order. `observe` sees the rows of every [`Stage`].
    ///
    /// A row's numbers depend on its own sequence only, never on what shares the batch or how it was cut.
    ///
    /// # Errors
    /// [`ModelError::Token`] for an id outside the vocabulary, [`ModelError::ContextFull`] when a sequence has no
    /// room; nothing has changed then.
    ///
    /// # Panics
    /// When the spans do not add up to `ids`, or exceed the state's capacity for tokens or for logits.
    pub fn forward<'s>(
        &self,
        state: &'s mut State<B>,
        ids: &[u32],
        spans: &mut [Span<'_, B::Kv>],
        mut observe: impl FnMut(Stage, &[f32]),
    ) -> Result<&'s [f32], ModelError> {
        self.blocks(state, ids, spans, &mut observe)?;
        Ok(self.head(state, spans, &mut observe))
    }

    /// All of the model but final norm and head.
    fn blocks(
        &self,
        state: &mut State<B>,
        ids: &[u32],
        spans: &mut [Span<'_, B::Kv>],
        observe: &mut impl FnMut(Stage, &[f32]),
    ) -> Result<(), ModelError> {
        self.check(ids, spans)?;
        let tokens = ids.len();
        assert!(tokens <= state.capacity, "{tokens} tokens exceed the state's {}", state.capacity);
        let (b, w) = (&self.backend, &self.weights);
        b.embed(&w.embedding, ids, &mut state.h);
        observe(Stage::Embedding, b.read(&state.h, tokens));
        b.angles(&w.frequencies, self.config.rope.attention_factor(), spans, &mut state.angles);
        for (layer, block) in w.blocks.iter().enumerate() {
            self.attention(layer, block, state, tokens, spans, observe);
            self.feed_forward(layer, block, state, tokens, observe);
        }
        spans.iter_mut().for_each(Span::commit);
        Ok(())
    }

    fn check(&self, ids: &[u32], spans: &[Span<'_, B::Kv>]) -> Result<(), ModelError> {
        let vocab = self.config.vocab;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(ModelError::Token { id, vocab });
        }
        assert_eq!(ids.len(), spans.iter().map(|s| s.tokens).sum::<usize>(), "spans and ids disagree");
        let full = spans.iter().find(|s| s.tokens > s.sequence.capacity() - s.sequence.len());
        full.map_or(Ok(()), |span| {
            let capacity = span.sequence.capacity();
            Err(ModelError::ContextFull { needed: span.sequence.len() + span.tokens, capacity })
        })
    }

    fn attention(
        &self,
        layer: usize,
        block: &Block<B>,
        s: &mut State<B>,
        tokens: usize,
        spans: &mut [Span<'_, B::Kv>],
        observe: &mut impl FnMut(Stage, &[f32]),
    ) {
        let (b, c) = (&self.backend, &self.config);
        b.rms_norm(&s.h, tokens, &block.attention_norm, c.norm_eps, s.x.fresh());
        observe(Stage::AttentionNorm(layer), b.read(&s.x.rows, tokens));

        let pairs = [(&block.query, &mut s.q), (&block.key, &mut s.k), (&block.value, &mut s.v)];
        project(b, &mut s.x, &mut s.own.hidden, &mut s.sides, tokens, pairs);
        observe(Stage::Query(layer), b.read(&s.q, tokens));
        observe(Stage::Key(layer), b.read(&s.k, tokens));
        observe(Stage::Value(layer), b.read(&s.v, tokens));

        if let Some((query_norm, key_norm)) = &block.qk_norms {
            b.rms_norm_heads(&mut s.q, tokens, query_norm, c.norm_eps);
            b.rms_norm_heads(&mut s.k, tokens, key_norm, c.norm_eps);
            observe(Stage::QueryNorm(layer), b.read(&s.q, tokens));
            observe(Stage::KeyNorm(layer), b.read(&s.k, tokens));
        }
        b.rope(&mut s.q, tokens, &s.angles);
        b.rope(&mut s.k, tokens, &s.angles);
        b.append(layer, &s.k, &s.v, spans);
        b.attend(layer, &s.q, spans, &mut s.scratch, s.attention.fresh());
        if let Some(norm) = &block.attention_sub_norm {
            // The queries are spent: their buffer takes attention's result while it is normed.
            std::mem::swap(&mut s.q, &mut s.attention.rows);
            b.rms_norm(&s.q, tokens, norm, c.norm_eps, s.attention.fresh());
        }
        observe(Stage::OutputInput(layer), b.read(&s.attention.rows, tokens));

        let pairs = [(&block.output, &mut s.x.rows)];
        project(b, &mut s.attention, &mut s.own.attention, &mut s.sides, tokens, pairs);
        observe(Stage::Output(layer), b.read(&s.x.rows, tokens));
        b.add(&mut s.h, &s.x.rows, tokens);
    }

    fn feed_forward(
        &self,
        layer: usize,
        block: &Block<B>,
        s: &mut State<B>,
        tokens: usize,
        observe: &mut impl FnMut(Stage, &[f32]),
    ) {
        let (b, c) = (&self.backend, &self.config);
        b.rms_norm(&s.h, tokens, &block.ffn_norm, c.norm_eps, s.x.fresh());
        observe(Stage::FfnNorm(layer), b.read(&s.x.rows, tokens));

        if block.up.skips_rows(b, c.activation) {
            let pairs = [(&block.gate, s.gate.fresh())];
            project(b, &mut s.x, &mut s.own.hidden, &mut s.sides, tokens, pairs);
            observe(Stage::Gate(layer), b.read(&s.gate.rows, tokens));
            s.x.quantize(b, tokens, block.up.form);
            b.gate_live(&block.up.weight, &s.x.codes, s.gate.fresh(), &mut s.up, tokens);
        } else {
            let pairs = [(&block.gate, s.gate.fresh()), (&block.up, &mut s.up)];
            project(b, &mut s.x, &mut s.own.hidden, &mut s.sides, tokens, pairs);
            observe(Stage::Gate(layer), b.read(&s.gate.rows, tokens));
            observe(Stage::Up(layer), b.read(&s.up, tokens));
            b.gate(c.activation, s.gate.fresh(), &s.up, tokens);
        }
        if let Some(norm) = &block.ffn_sub_norm {
            // As above: the spent buffer takes the values while they are normed.
            std::mem::swap(&mut s.up, &mut s.gate.rows);
            b.rms_norm(&s.up, tokens, norm, c.norm_eps, s.gate.fresh());
        }
        observe(Stage::DownInput(layer), b.read(&s.gate.rows, tokens));

        let pairs = [(&block.down, &mut s.x.rows)];
        project(b, &mut s.gate, &mut s.own.ffn, &mut s.sides, tokens, pairs);
        observe(Stage::Down(layer), b.read(&s.x.rows, tokens));
        b.add(&mut s.h, &s.x.rows, tokens);
        observe(Stage::BlockOutput(layer), b.read(&s.h, tokens));
    }
}
