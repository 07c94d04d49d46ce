//! The buffers of a step.

use bitnet_device::{Device, DeviceError, RecurrentShape, ScreenCounts, Screening, SequenceShape};
use bitnet_model::Config;

use crate::{Activated, linear::SideRooms};

/// Bytes of logits that are made at once: more are made in turns, so that many outputs take no more memory than this.
const LOGITS_BYTES: usize = 32 << 20;
/// Outputs whose logits are looked for with the screen in one step. With more than that, computing all logits of the others
/// reads the head no more often.
pub(crate) const SCREENED: usize = 64;

/// How many rows of logits are made at once.
pub(crate) fn logits_at_once(vocab: usize) -> usize {
    (LOGITS_BYTES / size_of::<f32>() / vocab).max(16)
}

/// The buffers of a step, made once for up to `capacity` tokens. One set serves all sequences.
pub(crate) struct State<D: Device> {
    pub(crate) capacity: usize,
    /// The residual stream, `[tokens, hidden]`.
    pub(crate) h: D::Rows,
    /// Normed input of the projections, `[tokens, hidden]`.
    pub(crate) x: Activated<D>,
    /// Cosines and sines of the positions, `[tokens, rotary_dim]`.
    pub(crate) angles: D::Rows,
    pub(crate) attention: AttentionRooms<D>,
    pub(crate) recurrent: Option<RecurrentRooms<D>>,
    /// Gated values, `[tokens, ffn]`.
    pub(crate) gate: Activated<D>,
    pub(crate) up: D::Rows,
    /// Input of a projection with a norm of its own.
    pub(crate) own: OwnNorms<D>,
    pub(crate) sides: Option<SideRooms<D>>,
    pub(crate) head: HeadState<D>,
}

/// The buffers of attention.
pub(crate) struct AttentionRooms<D: Device> {
    pub(crate) q: D::Rows,
    pub(crate) k: D::Rows,
    pub(crate) v: D::Rows,
    /// The gate of the result, `[tokens, heads * head_dim]`, where there is one.
    pub(crate) gate: Option<D::Rows>,
    pub(crate) scratch: D::Scratch,
    /// Attention's result, the input of the output projection, `[tokens, heads * head_dim]`.
    pub(crate) result: Activated<D>,
}

/// The buffers of recurrent blocks.
pub(crate) struct RecurrentRooms<D: Device> {
    /// Queries, keys and values side by side, `[tokens, channels]`.
    pub(crate) mixed: D::Rows,
    /// The gate of the result, `[tokens, value_width]`.
    pub(crate) gate: D::Rows,
    /// How much each head takes in, before its sigmoid, `[tokens, value_heads]`.
    pub(crate) beta: D::Rows,
    /// How much each head forgets, before its nonlinearity, `[tokens, value_heads]`.
    pub(crate) decay: D::Rows,
    /// The recurrence's result, the input of the output projection, `[tokens, value_width]`.
    pub(crate) result: Activated<D>,
}

/// Inputs of projections with norms of their own, by width.
pub(crate) struct OwnNorms<D: Device> {
    pub(crate) hidden: Activated<D>,
    pub(crate) attention: Activated<D>,
    pub(crate) recurrent: Activated<D>,
    pub(crate) ffn: Activated<D>,
}

/// The buffers of the head, which grow with what is asked of it.
pub(crate) struct HeadState<D: Device> {
    /// Some of the head's input rows, `[logits_at_once, hidden]`.
    pub(crate) picked: Activated<D>,
    /// `[logits_capacity, vocab]`.
    pub(crate) logits: D::Rows,
    pub(crate) logits_capacity: usize,
    pub(crate) room: Option<<D::Screen as Screening<D>>::Room>,
    pub(crate) room_capacity: usize,
    /// What earlier rooms have counted.
    pub(crate) counts: ScreenCounts,
    /// Outputs whose logits are looked for with the screen, and those whose logits are all computed.
    pub(crate) screened: Vec<u32>,
    pub(crate) full: Vec<u32>,
}

impl<D: Device> State<D> {
    /// Buffers for steps of up to `capacity` tokens over sequences of up to `context` positions of a model with side paths of
    /// `side_rank`, 0 for none.
    pub(crate) fn new(
        d: &D,
        (c, shape): (&Config, SequenceShape),
        side_rank: usize,
        capacity: usize,
        context: usize,
    ) -> Result<Self, DeviceError> {
        let own = if c.input_norm_eps.is_some() { capacity } else { 0 };
        let value_width = c.recurrent.as_ref().map_or(0, |r| r.sizes.value_width());
        let activated = |capacity, width| Activated::new(d, capacity, width, c.fold.as_ref());
        Ok(Self {
            capacity,
            h: d.rows(capacity, c.hidden)?,
            x: activated(capacity, c.hidden)?,
            angles: d.rows(capacity, c.rotary_dim)?,
            attention: AttentionRooms {
                q: d.rows(capacity, c.q_width())?,
                k: d.rows(capacity, c.kv_width())?,
                v: d.rows(capacity, c.kv_width())?,
                gate: c.gated_attention.then(|| d.rows(capacity, c.q_width())).transpose()?,
                scratch: d.scratch(shape.kv, c.heads, context, capacity)?,
                result: activated(capacity, c.q_width())?,
            },
            recurrent: match shape.recurrent {
                None => None,
                Some(RecurrentShape { sizes, .. }) => Some(RecurrentRooms {
                    mixed: d.rows(capacity, sizes.channels())?,
                    gate: d.rows(capacity, value_width)?,
                    beta: d.rows(capacity, sizes.value_heads)?,
                    decay: d.rows(capacity, sizes.value_heads)?,
                    result: activated(capacity, value_width)?,
                }),
            },
            gate: activated(capacity, c.ffn)?,
            up: d.rows(capacity, c.ffn)?,
            own: OwnNorms {
                hidden: activated(own, c.hidden)?,
                attention: activated(own, c.q_width())?,
                recurrent: activated(own.min(value_width), value_width.max(1))?,
                ffn: activated(own, c.ffn)?,
            },
            sides: match side_rank {
                0 => None,
                rank => {
                    let mut widths = vec![c.q_width(), c.kv_width(), c.hidden, c.ffn];
                    if let Some(RecurrentShape { sizes, .. }) = shape.recurrent {
                        widths.extend([sizes.channels(), sizes.value_width(), sizes.value_heads]);
                    }
                    Some(SideRooms::new(d, capacity, rank, widths)?)
                }
            },
            head: HeadState {
                picked: activated(logits_at_once(c.vocab).min(capacity), c.hidden)?,
                logits: d.rows(0, c.vocab)?,
                logits_capacity: 0,
                room: None,
                room_capacity: 0,
                counts: ScreenCounts::default(),
                screened: Vec::with_capacity(capacity),
                full: Vec::with_capacity(capacity),
            },
        })
    }
}

impl<D: Device> HeadState<D> {
    /// Room for the logits of `rows` outputs.
    pub(crate) fn hold_logits(&mut self, device: &D, rows: usize, vocab: usize) -> Result<(), DeviceError> {
        if rows > self.logits_capacity {
            (self.logits, self.logits_capacity) = (device.rows(rows, vocab)?, rows);
        }
        Ok(())
    }

    /// Room to screen the logits of `rows` outputs.
    pub(crate) fn hold_screened(
        &mut self,
        device: &D,
        screen: &D::Screen,
        rows: usize,
    ) -> Result<(), DeviceError> {
        if rows > self.room_capacity {
            let capacity = rows.next_power_of_two().min(SCREENED);
            let room = screen.room(device, capacity)?;
            self.counts = self.screen_counts(Some(screen));
            (self.room, self.room_capacity) = (Some(room), capacity);
        }
        Ok(())
    }

    /// How often the screen was enough.
    pub(crate) fn screen_counts(&self, screen: Option<&D::Screen>) -> ScreenCounts {
        let now = match (screen, &self.room) {
            (Some(screen), Some(room)) => screen.counts(room),
            _ => ScreenCounts::default(),
        };
        ScreenCounts {
            screened: self.counts.screened + now.screened,
            full: self.counts.full + now.full,
            rescored: self.counts.rescored + now.rescored,
        }
    }
}
