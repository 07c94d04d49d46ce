//! What a recording device can do beside the operations that every device has.

use std::sync::{Arc, OnceLock};

use bitnet_device::{Device, DeviceError, Gated, Need, Needs, ScreenCounts, Screening, Skipping, Support};
use bitnet_quant::ScreenTable;

use super::parts::{Handle, RecordedPass, RecordedRows, Recording};

/// How a recording device leaves out rows.
pub struct RecordedSkip;

impl<D: Device + 'static> Skipping<Recording<D>> for RecordedSkip {
    fn applies(matrix: &Arc<D::Matrix>) -> bool {
        D::Skip::applies(matrix)
    }

    fn gate(pass: &mut RecordedPass<'_, D>, gated: Gated<'_, Recording<D>>, tokens: usize) {
        let Gated { up, x, codes, gate, spare } = gated;
        let (up, x, codes) = (up.clone(), x.rows.share(), codes.share());
        let (gate, spare) = (gate.rows.share(), spare.rows.share());
        pass.record("gated values", move |pass| {
            let (x, codes, mut gate, mut spare) = (x.lock(), codes.lock(), gate.lock(), spare.lock());
            let gated = Gated { up: &*up, x: &*x, codes: &*codes, gate: &mut *gate, spare: &mut *spare };
            D::Skip::gate(pass, gated, tokens);
        });
    }
}

/// A need whose lists are its own.
struct OwnNeed {
    best: usize,
    within: f32,
    lowered: Vec<u32>,
    raised: Vec<u32>,
}

/// What a screen found for one position: ids, logits and floor.
type Found = Option<(Vec<u32>, Vec<f32>, f32)>;

/// A recording device's screen.
pub struct RecordedScreen<S>(Arc<S>);

/// Its results, when they are there.
pub struct RecordedRoom<R> {
    room: Handle<R>,
    found: Arc<OnceLock<Vec<Found>>>,
}

impl<D: Device + 'static> Screening<Recording<D>> for RecordedScreen<D::Screen>
where
    D::Screen: 'static,
{
    type Room = RecordedRoom<<D::Screen as Screening<D>>::Room>;

    fn of(
        device: &Recording<D>,
        head: &Arc<D::Matrix>,
        stored: Option<ScreenTable>,
    ) -> Result<Option<Self>, DeviceError> {
        Ok(D::Screen::of(&device.inner, head, stored)?.map(|screen| Self(Arc::new(screen))))
    }

    fn bytes_read(&self) -> usize {
        self.0.bytes_read()
    }

    fn room(&self, device: &Recording<D>, capacity: usize) -> Result<Self::Room, DeviceError> {
        let room = Handle::new(self.0.room(&device.inner, capacity)?);
        Ok(RecordedRoom { room, found: Arc::default() })
    }

    fn find(
        &self,
        pass: &mut RecordedPass<'_, D>,
        head: &Arc<D::Matrix>,
        x: &RecordedRows<D::Rows>,
        (count, needs): (usize, Needs<'_>),
        room: &mut Self::Room,
    ) {
        let needs: Vec<OwnNeed> = (0..count)
            .map(needs)
            .map(|need| OwnNeed {
                best: need.best,
                within: need.within,
                lowered: need.lowered.to_vec(),
                raised: need.raised.to_vec(),
            })
            .collect();
        room.found = Arc::default();
        let (screen, head, x) = (self.0.clone(), head.clone(), x.rows.share());
        let (room, found) = (room.room.share(), room.found.clone());
        pass.record("the search for logits that matter", move |pass| {
            let need = |i: usize| {
                let OwnNeed { best, within, lowered, raised } = &needs[i];
                Need { best: *best, within: *within, lowered, raised }
            };
            let mut room = room.lock();
            screen.find(pass, &head, &x.lock(), (count, &need), &mut room);
            let own = |s: Support<'_>| (s.ids.to_vec(), s.logits.to_vec(), s.floor);
            let _ = found.set((0..count).map(|i| screen.found(&room, i).map(own)).collect());
        });
    }

    fn found<'a>(&self, room: &'a Self::Room, position: usize) -> Option<Support<'a>> {
        let (ids, logits, floor) = room.found.get()?.get(position)?.as_ref()?;
        Some(Support { ids, logits, floor: *floor })
    }

    fn counts(&self, room: &Self::Room) -> ScreenCounts {
        self.0.counts(&room.room.lock())
    }
}
