//! Places of a device's memory that several sequences may hold: numbered, counted, and given out again.

use crate::DeviceError;

/// So many places are counted without an allocation beside their own memory; more grow the lists now and then.
pub(crate) const FEW: usize = 1024;

/// How many hold each place.
pub(crate) struct Counted {
    holders: Vec<u32>,
    free: Vec<u32>,
}

impl Counted {
    /// No place yet.
    pub(crate) fn new() -> Self {
        Self { holders: Vec::with_capacity(FEW), free: Vec::with_capacity(FEW) }
    }

    /// Places that have memory.
    pub(crate) fn made(&self) -> usize {
        self.holders.len()
    }

    /// Places that have memory and that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Places that several hold.
    pub(crate) fn shared(&self) -> usize {
        self.holders.iter().filter(|&&holders| holders > 1).count()
    }

    /// How many hold a place.
    pub(crate) fn holders(&self, place: u32) -> usize {
        self.holders[place as usize] as usize
    }

    /// Gives out a place; `add` makes one where none is free.
    pub(crate) fn take(&mut self, add: impl FnOnce() -> Result<(), DeviceError>) -> Result<u32, DeviceError> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                add()?;
                self.holders.push(0);
                self.holders.len() as u32 - 1
            }
        };
        self.holders[place as usize] = 1;
        Ok(place)
    }

    /// One holder more.
    pub(crate) fn hold(&mut self, place: u32) {
        self.holders[place as usize] += 1;
    }

    /// One holder fewer.
    pub(crate) fn release(&mut self, place: u32) {
        let holders = &mut self.holders[place as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(place);
        }
    }
}
