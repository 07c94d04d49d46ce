//! What a device names that lacks an ability.

use std::convert::Infallible;

use bitnet_quant::ScreenTable;

use crate::{Device, DeviceError, Needs, ScreenCounts, Screening, Skipping, Support};

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

/// A device that computes every row.
pub struct NoSkip;

impl<D: Device> Skipping<D> for NoSkip {}
