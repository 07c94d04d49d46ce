//! Final norm and head: the logits that matter, or all of them.

use std::ops::Range;

use crate::{
    Model,
    state::{SCREENED, State},
};
use bitnet_device::{Choose, Device, DeviceError, Job, Pass, Screening, Stage};

impl<D: Device> Model<D> {
    /// Leaves the rows that the head reads, those of `outputs`, in `s.x`.
    pub(crate) fn final_norm(
        &self,
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        outputs: &[u32],
        tokens: usize,
    ) {
        let rows = outputs.len();
        if rows == 0 {
            return;
        }
        if rows < tokens {
            pass.gather(&s.h, outputs, s.x.fresh());
            std::mem::swap(&mut s.h, &mut s.x.rows);
        }
        pass.rms_norm(&s.h, rows, &self.weights.final_norm, self.config.norm_eps, s.x.fresh());
        pass.look(Stage::FinalNorm, &s.x.rows, rows);
    }

    /// Looks for the logits that matter, where `choose` can say which ones do and the head has a screen; the other outputs are
    /// left for [`Model::logits`].
    pub(crate) fn screen(
        &self,
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        outputs: usize,
        choose: &dyn Choose,
    ) -> Result<(), DeviceError> {
        let head = &mut s.head;
        head.screened.clear();
        head.full.clear();
        let Some(screen) = &self.weights.screen else {
            head.full.extend(0..outputs as u32);
            return Ok(());
        };
        for output in 0..outputs as u32 {
            let screened = head.screened.len() < SCREENED && choose.need(output as usize).is_some();
            if screened { &mut head.screened } else { &mut head.full }.push(output);
        }
        let count = head.screened.len();
        if count == 0 {
            return Ok(());
        }
        head.hold_screened(&self.device, screen, count)?;
        let rows = if count == outputs {
            &s.x.rows
        } else {
            pass.gather(&s.x.rows, &head.screened, &mut s.h);
            &s.h
        };
        let needs = |i: usize| choose.need(head.screened[i] as usize).unwrap_or_default();
        if let Some(room) = &mut head.room {
            screen.find(pass, self.head(), rows, (count, &needs), room);
        }
        Ok(())
    }

    /// All logits of `part` of the outputs that want all of them.
    pub(crate) fn logits(
        &self,
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        part: Range<usize>,
        outputs: usize,
    ) -> Result<(), DeviceError> {
        let (rows, form) = (part.len(), self.weights.head_form);
        if rows == 0 {
            return Ok(());
        }
        s.head.hold_logits(&self.device, rows, self.config.vocab)?;
        let input = if rows == outputs {
            &mut s.x
        } else {
            pass.gather(&s.x.rows, &s.head.full[part], s.head.picked.fresh());
            &mut s.head.picked
        };
        let job = Job { weight: self.head(), bias: None, out: &mut s.head.logits };
        let (x, codes) = input.input(pass, rows, (form, self.weights.folded.head));
        pass.project(x, codes, form, rows, &mut [job]);
        pass.fetch(&mut s.head.logits, rows);
        Ok(())
    }

    /// Tells `choose` what the finished pass has found: once, what the screen found, and the logits of `part`. Outputs for which
    /// that was not enough join those that want all logits.
    pub(crate) fn tell(&self, s: &mut State<D>, part: Range<usize>, choose: &mut dyn Choose) {
        let head = &mut s.head;
        if let (Some(screen), Some(room)) = (&self.weights.screen, &head.room) {
            for (i, &output) in head.screened.iter().enumerate() {
                let found = screen.found(room, i);
                let enough = found.as_ref().is_some_and(|found| choose.some(output as usize, found));
                if !enough {
                    head.full.push(output);
                    head.counts.full += u64::from(found.is_some());
                }
            }
        }
        head.screened.clear();
        let vocab = self.config.vocab;
        let logits = self.device.read(&head.logits, part.len());
        for (&output, logits) in head.full[part].iter().zip(logits.chunks_exact(vocab)) {
            choose.all(output as usize, logits);
        }
    }
}
