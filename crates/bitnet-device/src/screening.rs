//! Finding the logits that matter without computing all of them: an ability that a device may have.

use std::convert::Infallible;

use bitnet_quant::ScreenTable;

use crate::{Device, DeviceError, Need, ScreenCounts, Support};

/// Tells which logits of one output matter.
pub type Needs<'a> = &'a dyn Fn(usize) -> Need<'a>;

/// An int8 copy of a head from which upper bounds of logits are computed: only rows whose bound is high enough are multiplied.
pub trait Screening<D: Device>: Send + Sync + Sized {
    /// The screen's results for some positions, and its working memory.
    type Room: Send;

    /// What screens `head`, or `None` where it is computed in full. `stored` is its int8 copy, where the file has one.
    ///
    /// # Errors
    /// When the device has no room.
    fn of(device: &D, head: &D::Matrix, stored: Option<ScreenTable>) -> Result<Option<Self>, DeviceError>;

    /// Bytes that screening one position reads.
    fn bytes_read(&self) -> usize;

    /// Room for up to `capacity` positions.
    ///
    /// # Errors
    /// When the device has no room.
    fn room(&self, device: &D, capacity: usize) -> Result<Self::Room, DeviceError>;

    /// For `wanted = (count, needs)`: finds what `needs(i)` asks for in each of the first `count` rows of `x`.
    fn find(
        &self,
        pass: &mut D::Pass<'_>,
        head: &D::Matrix,
        x: &D::Rows,
        wanted: (usize, Needs<'_>),
        room: &mut Self::Room,
    );

    /// What the last finished [`Screening::find`] has found for a position; `None` where the full head is needed.
    fn found<'a>(&self, room: &'a Self::Room, position: usize) -> Option<Support<'a>>;

    /// How often the screen was enough.
    fn counts(&self, room: &Self::Room) -> ScreenCounts;
}

/// A device that computes heads in full. There is no value of this type.
pub enum NoScreen {}

impl<D: Device> Screening<D> for NoScreen {
    type Room = Infallible;

    fn of(_: &D, _: &D::Matrix, _: Option<ScreenTable>) -> Result<Option<Self>, DeviceError> {
        Ok(None)
    }

    fn bytes_read(&self) -> usize {
        match *self {}
    }

    fn room(&self, _: &D, _: usize) -> Result<Infallible, DeviceError> {
        match *self {}
    }

    fn find(
        &self,
        _: &mut D::Pass<'_>,
        _: &D::Matrix,
        _: &D::Rows,
        _: (usize, Needs<'_>),
        room: &mut Infallible,
    ) {
        match *room {}
    }

    fn found<'a>(&self, room: &'a Infallible, _: usize) -> Option<Support<'a>> {
        match *room {}
    }

    fn counts(&self, room: &Infallible) -> ScreenCounts {
        match *room {}
    }
}
