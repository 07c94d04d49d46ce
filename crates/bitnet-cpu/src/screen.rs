//! The screened head on the CPU: which rows can matter, and their exact logits. The bound is `bitnet_quant::screen`'s.

use bitnet_core::{Buffer, Purpose};
use bitnet_kernels::{StripBounds, StripPeaks};
use bitnet_quant::{Probes, ScreenTable};

use crate::{Cpu, CpuPass, HeadChoice, Matrix, Rows};
use bitnet_device::{DeviceError, Need, Needs, ScreenCounts, Screening, Support};
use bitnet_model::{ModelError, Table};

/// Strips that a thread takes at a time: some 300 KB at 2,560 columns.
const STRIPS_PER_CHUNK: usize = 8;
/// Rows that a thread multiplies at a time.
const ROWS_PER_CHUNK: usize = 16;
/// One in so many rows may survive. A surviving row costs up to twice as much as one in its place in a full pass, and the
/// screen has been paid for already, so giving up early matters more than the last rows.
const MOST: usize = 8;

/// A head's int8 copy.
pub struct Screen {
    table: ScreenTable,
}

/// Room for the screened heads of up to `capacity` positions, and their results.
pub struct ScreenRoom {
    probes: Probes,
    bounds: Buffer<StripBounds>,
    peaks: Buffer<StripPeaks>,
    /// For the search of a position's k-th largest.
    order: Vec<f32>,
    found: Vec<Found>,
    counts: ScreenCounts,
}

/// A position's result.
struct Found {
    ids: Vec<u32>,
    logits: Vec<f32>,
    /// `None` when the full pass is needed.
    floor: Option<f32>,
}

impl Screening<Cpu> for Screen {
    type Room = ScreenRoom;

    /// The copy of `head`, or `None` where there is nothing to gain or a weight is not finite.
    fn of(cpu: &Cpu, head: &Matrix, stored: Option<ScreenTable>) -> Result<Option<Self>, DeviceError> {
        let Matrix::Table(head) = head else { return Ok(None) };
        let wanted = match cpu.head {
            HeadChoice::Auto => head.is_worth_screening(),
            HeadChoice::Full => false,
            HeadChoice::Screened => true,
        };
        let table = match stored {
            _ if !wanted => None,
            Some(stored) if cpu.copies_mapped => {
                let mut bytes = cpu.pool.allocate(Purpose::Weights, stored.bytes().len())?;
                let chunk = ScreenTable::strip_len(stored.cols()) * STRIPS_PER_CHUNK;
                cpu.threads.for_each_chunk_mut(&mut bytes, chunk, |i, bytes| {
                    bytes.copy_from_slice(&stored.bytes()[i * chunk..][..bytes.len()]);
                });
                let copied = ScreenTable::from_bytes(stored.rows(), stored.cols(), bytes.into());
                Some(copied.map_err(ModelError::quant("head"))?)
            }
            Some(stored) => Some(stored),
            None => head.screen(&cpu.pool, &cpu.threads)?,
        };
        Ok(table.map(|table| Self { table }))
    }

    fn bytes_read(&self) -> usize {
        self.table.bytes().len()
    }

    fn room(&self, cpu: &Cpu, capacity: usize) -> Result<ScreenRoom, DeviceError> {
        let (rows, strips) = (self.table.rows(), self.table.strips());
        let most = most(rows);
        let len = capacity.saturating_mul(strips);
        let found = || Found { ids: Vec::with_capacity(most), logits: Vec::with_capacity(most), floor: None };
        Ok(ScreenRoom {
            probes: Probes::new(&cpu.pool, capacity, self.table.cols())?,
            bounds: cpu.pool.allocate(Purpose::State, len)?,
            peaks: cpu.pool.allocate(Purpose::State, len)?,
            order: Vec::with_capacity(strips.max(most)),
            found: (0..capacity).map(|_| found()).collect(),
            counts: ScreenCounts::default(),
        })
    }

    fn find(
        &self,
        pass: &mut CpuPass<'_>,
        head: &Matrix,
        x: &Rows,
        (tokens, needs): (usize, Needs<'_>),
        room: &mut ScreenRoom,
    ) {
        let (Matrix::Table(head), cpu) = (head, pass.cpu) else { return };
        room.counts.screened += tokens as u64;
        room.found.iter_mut().for_each(|found| found.floor = None);
        let fit = (0..tokens).all(|t| room.probes.set(t, x.row(t)));
        if !fit {
            room.counts.full += tokens as u64;
            return;
        }
        let len = self.table.strips() * tokens;
        let per_chunk = STRIPS_PER_CHUNK * tokens;
        let (bounds, peaks) = (&mut room.bounds[..len], &mut room.peaks[..len]);
        let probes = &room.probes;
        cpu.threads.for_each_chunk_mut2(
            (&mut *bounds, per_chunk),
            (&mut *peaks, per_chunk),
            |chunk, bounds, peaks| {
                cpu.kernel.screen(&self.table, probes, tokens, chunk * STRIPS_PER_CHUNK, bounds, peaks);
            },
        );
        let mut search = Search { cpu, head, tokens, bounds, peaks, order: &mut room.order };
        for (t, found) in room.found[..tokens].iter_mut().enumerate() {
            found.floor = search.position(t, x.row(t), &needs(t), found);
            room.counts.rescored += found.logits.len() as u64;
            room.counts.full += u64::from(found.floor.is_none());
        }
    }

    fn found<'a>(&self, room: &'a ScreenRoom, position: usize) -> Option<Support<'a>> {
        let Found { ids, logits, floor } = &room.found[position];
        floor.map(|floor| Support { ids, logits, floor })
    }

    fn counts(&self, room: &ScreenRoom) -> ScreenCounts {
        room.counts
    }
}

/// Rows that may survive.
fn most(rows: usize) -> usize {
    (rows / MOST).max(ScreenTable::STRIP)
}

/// Which of a row's bounds.
#[derive(Clone, Copy)]
enum Side {
    Lower,
    Upper,
}

/// The search for the rows of one position.
struct Search<'a> {
    cpu: &'a Cpu,
    head: &'a Table,
    tokens: usize,
    bounds: &'a mut [StripBounds],
    peaks: &'a mut [StripPeaks],
    order: &'a mut Vec<f32>,
}

impl Search<'_> {
    /// Fills `found` and returns the floor, or `None` when too many rows survive.
    ///
    /// First the rows whose *lower* bounds are among the best: the last of their exact logits is a limit that the
    /// wanted ones reach. Then all rows whose upper bounds reach it. (Lower bounds alone as the limit left three times
    /// as many rows at `best = 40`.)
    fn position(&mut self, t: usize, x: &[f32], need: &Need<'_>, found: &mut Found) -> Option<f32> {
        let best = need.best.max(1);
        found.ids.clear();
        found.logits.clear();
        self.set_aside(t, need);
        let reached = self.reached(t, best)?;
        if !self.collect(t, found, Side::Lower, reached) {
            return None;
        }
        self.multiply(x, found);
        self.order.clear();
        self.order.extend_from_slice(&found.logits);
        let last = largest(self.order, best)?;
        let floor = last - need.within;
        found.ids.clear();
        if !floor.is_finite() || !self.collect(t, found, Side::Upper, floor) {
            return None;
        }
        self.multiply(x, found);
        found.logits.iter().all(|x| x.is_finite()).then_some(floor)
    }

    /// Takes the lower bounds of ids that do not count away, and lets those that may be raised survive whatever happens.
    fn set_aside(&mut self, t: usize, need: &Need<'_>) {
        for &id in need.lowered.iter().chain(need.raised) {
            let at = id as usize / 16 * self.tokens + t;
            if let Some(bounds) = self.bounds.get_mut(at) {
                bounds[id as usize % 16] = f32::NEG_INFINITY;
            }
        }
        for &id in need.raised {
            let at = id as usize / 16 * self.tokens + t;
            if (id as usize) < self.head.rows() {
                self.bounds[at][16 + id as usize % 16] = f32::INFINITY;
                self.peaks[at][1] = f32::INFINITY;
            }
        }
        for &id in need.lowered.iter().chain(need.raised) {
            let at = id as usize / 16 * self.tokens + t;
            if let Some(bounds) = self.bounds.get(at) {
                self.peaks[at][0] = bounds[..16].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            }
        }
    }

    /// A number that at least `best` lower bounds reach: the `best`-th largest of the strips' largest.
    fn reached(&mut self, t: usize, best: usize) -> Option<f32> {
        let peaks = self.peaks.iter().skip(t).step_by(self.tokens);
        self.order.clear();
        if best == 1 {
            self.order.push(peaks.fold(f32::NEG_INFINITY, |m, p| m.max(p[0])));
        } else {
            self.order.extend(peaks.map(|p| p[0]));
        }
        largest(self.order, best).filter(|x| *x > f32::NEG_INFINITY)
    }

    /// Puts the ids of which one bound is at least `limit`, a finite number, into `found`, in order. False when they are too many.
    fn collect(&self, t: usize, found: &mut Found, side: Side, limit: f32) -> bool {
        let room = found.ids.capacity();
        for (s, peaks) in self.peaks.iter().skip(t).step_by(self.tokens).enumerate() {
            if peaks[side as usize] < limit {
                continue;
            }
            let bounds = &self.bounds[s * self.tokens + t][16 * side as usize..];
            for (r, &bound) in bounds[..16].iter().enumerate() {
                if bound >= limit {
                    if found.ids.len() == room {
                        return false;
                    }
                    found.ids.push((16 * s + r) as u32);
                }
            }
        }
        true
    }

    /// The exact logits of the ids found.
    fn multiply(&self, x: &[f32], found: &mut Found) {
        let Found { ids, logits, .. } = found;
        logits.clear();
        logits.resize(ids.len(), 0.0);
        self.cpu.threads.for_each_chunk_mut(logits, ROWS_PER_CHUNK, |chunk, logits| {
            let ids = &ids[chunk * ROWS_PER_CHUNK..][..logits.len()];
            self.head.rows_matmul(self.cpu.kernel, x, ids, logits);
        });
    }
}

/// The `best`-th largest of `values`, which change their order; `None` when there are not so many.
fn largest(values: &mut [f32], best: usize) -> Option<f32> {
    (best <= values.len()).then(|| *values.select_nth_unstable_by(best - 1, |a, b| b.total_cmp(a)).1)
}
