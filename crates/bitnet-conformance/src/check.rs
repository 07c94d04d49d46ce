//! All cases in turn.

use std::sync::Arc;

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_cpu::{Cpu, KvType};
use bitnet_decoder::DecoderError;
use bitnet_device::{Device, DeviceError};
use bitnet_kernels::KernelError;

use crate::{Exactness, Report, attention, model, operations, products, recurrent, suite::Suite};

/// Runs every operation and every small model on `device` and on the CPU's scalar kernel. Keys and values of `device` are kept
/// as `kv`.
///
/// # Errors
/// When a device fails, or refuses what a model of this engine may ask for.
pub fn check<D: Device + Clone>(
    device: &D,
    kv: KvType,
    exactness: Exactness,
) -> Result<Report, DecoderError> {
    let reference = reference(kv).map_err(|error| DeviceError::Failed {
        operation: "the search for the scalar kernel",
        reason: error.to_string(),
    })?;
    let mut suite = Suite { device, reference, exactness, report: Report::default() };
    operations::check(&mut suite)?;
    products::check(&mut suite)?;
    attention::check(&mut suite)?;
    recurrent::check(&mut suite)?;
    model::check(&mut suite)?;
    Ok(suite.report)
}

/// The scalar kernel on one thread: what every device is compared with.
fn reference(kv: KvType) -> Result<Cpu, KernelError> {
    let kernel = bitnet_kernels::by_name("scalar")?;
    Ok(Cpu::new(kernel, Arc::new(ThreadPool::new(1)), HybridMemoryPool::new()).with_kv(kv))
}
